"""Forms of key-only attention that replace the one as trained, one module each, which holds a ``FORM``.

Every module in here is a form: :mod:`linglos_deploy.exporters.decompositions.registry` finds them by themselves, the
command line offers them, and the choice among them asks each what it costs.
"""
