"""How each report type of this package looks. Importing this package registers them."""

from linglos_deploy.reports.sections import comparison, doctor, evaluation, export, parity, profile

__all__ = ["comparison", "doctor", "evaluation", "export", "parity", "profile"]
