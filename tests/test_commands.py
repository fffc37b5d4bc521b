"""The assembly of the command line: a module in ``commands/`` is a command, and costs nothing until it is named."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from linglos_deploy import cli, commands
from tests.commandline import run

GREETING = '''
"""A greeting."""
from typing import Annotated
import typer
from linglos_deploy import options
from linglos_deploy.running import show

def say_hello(
    name: Annotated[str, typer.Argument(help="Whom to greet.")] = "world",
    as_json: options.Json = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Greet somebody."""
    show(f"hello {name}", lambda value, console: console.print(value), as_json=as_json)
    return name != "nobody"
'''


@pytest.fixture
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put one more module into the package of commands."""
    (tmp_path / "say_hello.py").write_text(GREETING)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "linglos_deploy.commands.say_hello", raising=False)


@pytest.mark.usefixtures("greeting")
def test_a_command_is_one_file(tmp_path: Path) -> None:
    assert "say-hello" in run("--help").expect(0).stdout
    assert run("say-hello", "--json").expect(0).json == "hello world"
    assert run("say-hello", "you", "--save-config", tmp_path / "run.toml").expect(0).stdout == "hello you\n"
    assert run("say-hello", "--config", tmp_path / "run.toml").expect(0).stdout == "hello you\n"
    assert run("say-hello", "nobody").exit_code == 1  # a verdict, after its result was shown


def test_the_pipeline_comes_first_in_the_help_and_every_command_is_listed() -> None:
    listed = [line.split()[0] for line in run("--help").stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert tuple(listed[: len(cli.PIPELINE)]) == cli.PIPELINE
    assert {name.replace("-", "_") for name in listed} == {
        module.name for module in pkgutil.iter_modules(commands.__path__)
    }


def test_a_command_is_imported_when_it_is_named() -> None:
    code = (
        "import sys; from linglos_deploy import cli\n"
        "try: cli.app(['doctor', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('linglos_deploy.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['linglos_deploy.commands.doctor']"


def test_a_mistyped_command_gets_a_suggestion() -> None:
    assert "export" in run("exprot").expect(2).stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("profile --backend onnx", "onnxruntime"),
        ("export --target jetson-o", "jetson-orin"),
        ("export --variant t", "t"),
        ("export --decomposition poo", "pooled"),
        ("quantize --method ent", "entropy"),
        ("build --engine no", "none"),
        ("insp", "inspect"),
    ],
)
def test_the_shell_completes_names(words: str, expected: str) -> None:
    before, _, incomplete = f"linglos-deploy {words}".rpartition(" ")
    count = len(before.split())
    environment = {
        "_LINGLOS_DEPLOY_COMPLETE": "complete_bash",
        "COMP_WORDS": f"{before} {incomplete}",
        "COMP_CWORD": str(count),
    }
    done = CliRunner().invoke(cli.app, [], prog_name="linglos-deploy", env=environment)
    assert expected in done.stdout.split(), done.output
