"""How each report type of this package looks. Importing this package registers them."""

from linglos_deploy.reports.sections import comparison, criteria, doctor, evaluation, export, parity, profile

__all__ = ["comparison", "criteria", "doctor", "evaluation", "export", "parity", "profile"]
