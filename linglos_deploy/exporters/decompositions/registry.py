"""Forms of key-only attention by name: the modules in ``forms/``. Imports none of them, and not torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linglos_deploy.discovery import Catalogue, suggest
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.decompositions import forms

if TYPE_CHECKING:
    from linglos_deploy.exporters.decompositions.form import Form

AUTO = "auto"
"""A cost model chooses per layer."""

MEASURED = "measured"
"""A stopwatch chooses per layer."""

REFERENCE = "reference"
"""As trained: nothing is replaced."""


_FORMS = Catalogue(forms)


def form_names() -> tuple[str, ...]:
    """Return the names of the forms that replace the one as trained.

    >>> {"pooled", "reassociated"} <= set(form_names())
    True
    """
    return _FORMS.names()


def decompositions() -> tuple[str, ...]:
    """Return everything that ``--decomposition`` takes."""
    return (AUTO, REFERENCE, *form_names(), MEASURED)


def check_decomposition(name: str) -> str:
    """Return ``name`` if it can be asked for.

    Raises:
        UsageError: It is no form, and no way to choose one.
    """
    if name in decompositions():
        return name
    raise UsageError(
        f"There is no decomposition '{name}'.",
        found=name,
        expected=", ".join(decompositions()),
        next_step=suggest(name, decompositions(), otherwise=f"--decomposition {AUTO}"),
    )


def load_form(name: str) -> Form:
    """Import a form.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in form_names():
        raise UsageError(
            f"'{name}' is no form that attention can be rewritten into.", found=name, expected=", ".join(form_names())
        )
    form: Form = _FORMS.load(name, "FORM")
    return form
