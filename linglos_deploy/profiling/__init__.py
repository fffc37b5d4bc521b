"""Measurement plans, isolated workers, statistics: how fast a model is, told so that it can be believed."""
