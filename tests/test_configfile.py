"""Options survive a TOML file; what does not belong there is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.choices import Precision
from linglos_deploy.configfile import read_options, write_options
from linglos_deploy.errors import UsageError

COMMANDS = ("export", "build")

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.text(st.characters(blacklist_categories=("Cs",))),
    st.lists(st.text(st.characters(blacklist_categories=("Cs",)))),
)


@given(st.dictionaries(st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True), VALUES))
def test_options_are_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, options: dict) -> None:  # type: ignore[type-arg]
    file = tmp_path_factory.mktemp("config") / "run.toml"
    write_options(options, "export", file)
    assert read_options(file, "export", options.keys(), commands=COMMANDS) == options


def test_paths_and_choices_become_text_and_nothing_stays_out(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    write_options({"data": Path("a/b"), "precision": Precision.INT8, "labels": None, "pairs": (1, 2)}, "export", file)
    assert read_options(file, "export", {"data", "precision", "pairs"}, commands=COMMANDS) == {
        "data": "a/b",
        "precision": "int8",
        "pairs": [1, 2],
    }


def test_another_commands_table_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    write_options({"seed": 1}, "export", file)
    assert read_options(file, "build", {"seed"}, commands=COMMANDS) == {}


@pytest.mark.parametrize("text", ["[export", "\xff", "export = 3"])
def test_a_file_that_is_no_configuration_is_explained(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError) as caught:
        read_options(file, "export", {"seed"}, commands=COMMANDS)
    assert caught.value.found
    assert caught.value.next_step == "write one with --save-config"


def test_without_a_file_the_folders_pyproject_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_options(None, "export", {"seed"}, commands=COMMANDS) == {}
    (tmp_path / "pyproject.toml").write_text("[tool.linglos-deploy.export]\nseed = 4\n")
    assert read_options(None, "export", {"seed"}, commands=COMMANDS) == {"seed": 4}


def test_a_key_like_nothing_is_to_be_removed(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[export]\nzzzzzz = 1\n")
    with pytest.raises(UsageError, match="remove the line"):
        read_options(tmp_path / "run.toml", "export", {"seed"}, commands=COMMANDS)
