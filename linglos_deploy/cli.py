"""The assembly of the command line: which commands there are, and what becomes of their answers.

Results go to stdout, progress and everything else to stderr. Nothing heavy is imported before a command runs, and no
command is imported before it is named, or listed in the help.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from linglos_deploy import __version__, commands, running

PIPELINE = ("export", "calibrate", "quantize", "build", "parity", "profile", "eval", "predict", "compare")
"""Commands in the order in which a user meets them; the help lists all others behind these, by name."""

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> None:
    """Run the command line."""
    app()


class Command(TyperCommand):
    """A command whose resolved options can be saved before its work begins."""

    def invoke(self, ctx: Any) -> Any:
        """Save the options where ``--save-config`` says, and run the command."""
        running.save_config(ctx)
        return super().invoke(ctx)


class Commands(Mapping[str, Any]):
    """Every module of :mod:`linglos_deploy.commands` as a command, imported when it is asked for."""

    def __init__(self) -> None:
        found = {module.name for module in pkgutil.iter_modules(commands.__path__)}
        ordered = [*PIPELINE, *sorted(found - set(PIPELINE))]
        self._modules = {name.replace("_", "-"): name for name in ordered}

    def __getitem__(self, name: str) -> Any:
        module = self._modules[name]
        function = getattr(importlib.import_module(f"{commands.__name__}.{module}"), module)
        single = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        single.command(name, cls=Command, context_settings=SETTINGS)(function)
        return typer.main.get_command(single)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


class Program(TyperGroup):
    """The commands, and how their answers and errors become exit codes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = Commands()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether errors are wanted as JSON, too: an option may be wrong before ``--json`` is read."""
        ctx.meta[running.AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named; see :func:`linglos_deploy.running.exit_codes`."""
        with running.exit_codes(as_json=ctx.meta[running.AS_JSON]):
            passed = super().invoke(ctx)
            if passed is False:
                raise typer.Exit(running.VERDICT_FAILED)
        return passed


app = typer.Typer(
    name="linglos-deploy",
    cls=Program,
    rich_markup_mode=None,  # plain help appears twice as fast
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


@app.callback(invoke_without_command=True)  # --version needs no command
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Take a trained PyTorch LinGlo model to the edge: ONNX, INT8, TensorRT, checked at every step.

    \b
    Start here:
      linglos-deploy export --variant s --int8
      linglos-deploy export --checkpoint best.safetensors --data calib/ --int8 -o build/linglo_s
      linglos-deploy doctor

    \b
    Exit codes:
      0  done, and every requested check passed
      1  a verdict failed: parity, accuracy, latency or a comparison
      2  wrong usage or configuration; the place for the result is taken
      3  a backend, device or optional package is missing
      4  a stage failed: bad checkpoint, bad data, export, build
      5  cannot tell: a measurement too noisy for the verdict that was asked for, an INT8 graph without its plan
    """
    if version:
        typer.echo(f"linglos-deploy {__version__}")
        raise typer.Exit
