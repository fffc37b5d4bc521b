"""Threshold methods, one module each, which holds a function of its own name.

Every module in here is a method: :mod:`linglos_deploy.calibration.registry` finds them by themselves, and the command
line offers them. The function takes the statistics of a tensor and :class:`~.registry.Settings`, and returns a bound:
values are clipped to ``[-bound, bound]``. It is asked only of tensors with a magnitude above zero.
"""
