"""Compiled engines, whatever compiles them: records, shape profiles, cache, preflight, and who can compile."""
