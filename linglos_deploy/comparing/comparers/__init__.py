"""The comparers, one module for each kind of thing, found by its name.

A module ``NAME`` compares two things of the kind ``NAME`` (see :func:`linglos_deploy.comparing.compare.subject_kind`)
with its function ``compare_NAME(old, new, tolerances)``. Its constant ``OBEYS`` names the tolerances that it minds; one
that is given and not minded is refused before anything is compared.
"""
