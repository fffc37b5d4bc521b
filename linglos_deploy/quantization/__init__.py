"""What will be done and doing it: scheme, plan, Q/DQ insertion."""
