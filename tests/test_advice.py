"""What a message tells to type exists: every command, and every option, of the command it is named with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import linglos_deploy
from linglos_deploy import cli

PACKAGE = Path(linglos_deploy.__file__).parent
NO_MESSAGES = {"reports/style.py"}
"""Style sheets name their variables like options."""

OTHER_PROGRAMS = re.compile(r"(pip install|docker run|trtexec|cmake|nvidia-smi)\b[^'\";]*")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
CALL = re.compile(r"linglos-deploy ([a-z][a-z-]*)((?:[^;'\"]|'[^']*')*)")


@cache
def options() -> dict[str, set[str]]:
    """Return the long options of every command, without dashes."""
    program: Any = typer.main.get_command(cli.app)
    context = program.make_context("linglos-deploy", ["doctor"], resilient_parsing=True)
    found = {}
    for name in program.list_commands(context):
        parameters = program.get_command(context, name).params
        named = [text for each in parameters for text in (*each.opts, *each.secondary_opts)]
        found[name] = {text.removeprefix("--") for text in named if text.startswith("--")} | {"help", "version"}
    return found


def texts(source: str) -> Iterator[str]:
    """Yield every string of a module; what an f-string computes stands as a blank."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else " " for part in node.values]
            inside |= {id(part) for part in node.values}
            yield "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def wrong_advice(text: str) -> list[str]:
    """Return what a text tells to type and does not exist."""
    wrong = []
    text = OTHER_PROGRAMS.sub("", " ".join(text.split()))
    for call in CALL.finditer(text):
        name, rest = call.groups()
        if name in options():
            known = options()[name]
            wrong += [f"{name} --{option}" for option in OPTION.findall(rest) if option not in known]
    everything = set().union(*options().values())
    return wrong + [f"--{option}" for option in OPTION.findall(text) if option not in everything]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_option_that_a_message_names_exists(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in NO_MESSAGES:
        return
    assert [wrong for text in texts(path.read_text()) for wrong in wrong_advice(text)] == []


def test_an_option_of_another_command_is_wrong_advice() -> None:
    assert wrong_advice("linglos-deploy profile x --dry-run") == ["profile --dry-run"]
    assert wrong_advice("give --no-such-thing") == ["--no-such-thing"]
    assert wrong_advice("linglos-deploy quantize x --dry-run; pip install --upgrade y") == []
