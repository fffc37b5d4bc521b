"""Compilers, one module each, which holds what creates it under the module's own name.

Every module in here is a compiler: :mod:`linglos_deploy.engines.registry` finds them by themselves; ``build``,
``doctor``, ``profile`` and ``--engine`` know it by the module's name with dashes for underscores. What creates it takes
keyword options and returns a :class:`~linglos_deploy.engines.compiler.Compiler`, which may also be a ``Runtime`` that
runs its engines. A compiler that needs more than one module keeps the others beside this folder, as ``trt`` does.
"""
