"""The README's commands are commands, its options exist, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.commandline import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command_lines() -> list[list[str]]:
    """Return the words of every ``linglos-deploy`` line in the README's shell blocks."""
    code = "\n".join(re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in code.splitlines() if line.startswith("linglos-deploy ")]


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_every_command_and_option_of_the_readme_exists(words: list[str]) -> None:
    command, *rest = words
    text = run(command, "--help").expect(0).stdout
    for word in rest:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), f"{command} has no {word}"


def test_the_readme_shows_the_main_commands() -> None:
    assert {words[0] for words in command_lines()} >= {"export", "parity", "profile", "doctor"}


def test_the_exit_codes_of_the_readme_are_those_of_the_program() -> None:
    told = dict(re.findall(r"^\| (\d) \| (.+) \|$", README, re.MULTILINE))
    shown = dict(re.findall(r"^ +(\d)  (.+)$", run("--help").expect(0).stdout, re.MULTILINE))
    assert told == shown


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_every_link_of_the_readme_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists(), f"README.md links to {target}, which is not there"
