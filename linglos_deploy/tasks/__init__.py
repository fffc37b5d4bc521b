"""What a model is for: what its outputs mean, how they are read, which metric judges them, how a result is shown."""
