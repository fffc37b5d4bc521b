"""How each report type of this package looks. Importing this package registers them."""

from linglos_deploy.reports.sections import comparison, doctor, export, parity, profile

__all__ = ["comparison", "doctor", "export", "parity", "profile"]
