"""What a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.running import show, write_table_html


def inspect(
    subject: Annotated[
        Path,
        typer.Argument(
            callback=options.must_exist,
            metavar="PATH",
            help="A bundle, a graph, an engine, a calibration table or a plan.",
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", callback=options.file_name, metavar="FILE", help="Draw a calibration table's histograms."
        ),
    ] = None,
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
    from linglos_deploy.screens import show_inspection

    if html is not None:
        from linglos_deploy.calibration.table import CalibrationTable

        write_table_html(CalibrationTable.load(subject), html)
    show(describe(subject), show_inspection, as_json=as_json)
    return True
