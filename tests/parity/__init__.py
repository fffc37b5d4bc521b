KEPT_DIGITS = "LINGLOS_KEPT_DIGITS"
"""Environment variable: a directory in which the digits' bundles stay, for runs that follow one another."""
