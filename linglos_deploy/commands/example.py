"""An example that runs, as files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options


def complete_example(incomplete: str) -> list[str]:
    """Return the examples whose names begin so, for the shell."""
    from linglos_deploy.shipped import examples

    return [name for name in examples() if name.startswith(incomplete)]


def example(
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=complete_example, help="Which one, such as 'digits'.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where it goes; NAME unless said.")
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> bool:
    """Write an example into a folder: a trained model, the scripts that made it, and how to go on.

    \b
    Example:
      linglos-deploy example digits
    """
    import shutil

    from linglos_deploy.files import atomic_directory
    from linglos_deploy.shipped import example as shipped

    source = shipped(name)
    folder = output or Path(name)
    with atomic_directory(folder, replace=force) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    if not quiet:
        typer.echo(f"Wrote {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
        typer.echo(f"Next  {folder / 'README.md'} says how to run it")
    return True
