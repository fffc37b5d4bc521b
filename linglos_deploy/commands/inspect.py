"""What a file is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.running import show


def inspect(
    subject: Annotated[
        Path,
        typer.Argument(
            callback=options.must_exist,
            metavar="PATH",
            help="A bundle, a graph, an engine, a table, a plan, a report, tensors.",
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            callback=options.file_name,
            metavar="FILE",
            help="Write it as one HTML file, tables with histograms.",
        ),
    ] = None,
    everything: options.All = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Say what a file is: inputs and outputs, operators, ranges, decisions, and how it came to be.

    \b
    Examples:
      linglos-deploy inspect build/linglo_s
      linglos-deploy inspect build/linglo_s/model.int8.onnx --json
    """
    from linglos_deploy.inspection import describe
    from linglos_deploy.pages import write_page
    from linglos_deploy.running import naming
    from linglos_deploy.screens import show_described

    found = describe(subject)
    if html is not None:
        with naming("--html"):
            write_page(subject, html)
    show(found, partial(show_described, every_row=everything), as_json=as_json)
    return True
