"""How each report type of this package looks. Importing this package registers them."""

from linglos_deploy.reports.sections import parity, profile

__all__ = ["parity", "profile"]
