"""How each report type of this package looks. Importing this package registers them."""

from linglos_deploy.reports.sections import doctor, export, parity, profile

__all__ = ["doctor", "export", "parity", "profile"]
