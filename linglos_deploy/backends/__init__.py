"""Adapters to what runs and compiles models. Only these modules import a vendor's package, inside functions."""
