"""A bundle's page, or any file's, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options


def open(  # noqa: A001 - the command's name
    subject: Annotated[
        Path,
        typer.Argument(callback=options.must_exist, metavar="PATH", help="A bundle, or whatever 'inspect' describes."),
    ],
    only_print: Annotated[bool, typer.Option("--print", help="Print where the page lies, and open nothing.")] = False,
) -> bool:
    """Open a bundle's report in the browser; of any other file, the page that 'inspect' makes of it.

    \b
    Examples:
      linglos-deploy open build/linglo_s
      linglos-deploy open build/linglo_s/calibration.table
    """
    import webbrowser

    from linglos_deploy.pages import page_of

    page = page_of(subject).resolve()
    typer.echo(page)
    if not only_print and not webbrowser.open(page.as_uri()):
        typer.echo("No browser was found here; copy the page to where one is.", err=True)
    return True
