"""The public functions, one file each: what a Python user calls and what a command of the command line calls."""
