"""How fast is it? Measurement plans, isolated workers, statistics."""
