"""Forms of attention are found by the names of their files, and no name falls through to another form."""

from __future__ import annotations

import pkgutil

import pytest

from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.decompositions import forms
from linglos_deploy.exporters.decompositions.costs import macs
from linglos_deploy.exporters.decompositions.form import AttentionSize
from linglos_deploy.exporters.decompositions.registry import decompositions, form_names, load_form
from linglos_deploy.exporters.decompositions.rewrite import Request
from tests.commandline import run


def test_every_file_is_a_form_that_can_be_asked_for() -> None:
    assert form_names() == tuple(sorted(module.name for module in pkgutil.iter_modules(forms.__path__)))
    for name in form_names():
        assert ExportConfig(decomposition=name).decomposition == name
        assert load_form(name).macs(AttentionSize(channels=8, heads=2, positions=64)) > 0


def test_the_command_line_offers_every_form() -> None:
    assert f"<{'|'.join(decompositions())}>" in run("export", "--help").expect(0).stdout
    run("export", "--decomposition", "poled").explain(2, "did you mean 'pooled'?")


@pytest.mark.parametrize("name", ["poled", "", "Pooled", "__init__"])
def test_an_unknown_form_is_an_error_wherever_it_is_given(name: str) -> None:
    size = AttentionSize(channels=8, heads=2, positions=64)
    for ask in (
        lambda: ExportConfig(decomposition=name),
        lambda: Request(name),
        lambda: load_form(name),
        lambda: macs(name, size),
    ):
        with pytest.raises(UsageError):
            ask()
