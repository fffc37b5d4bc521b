"""Does a candidate compute what the reference computed? Metrics, recordings, verdicts."""
