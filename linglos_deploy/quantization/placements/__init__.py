"""Placements, one module each: where the pairs of one plan go, and in which integer type, for what runs the graph.

Every module in here is a placement: :mod:`linglos_deploy.quantization.placement` finds them by themselves, and
``--target-runtime`` knows them by the module's name with dashes for underscores. It holds a
:class:`~linglos_deploy.quantization.placement.Placement` under its own name.
"""
