"""A new bundle or report against an old one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options, running
from linglos_deploy.running import show, write_reports


def compare(
    old: Annotated[
        Path,
        typer.Argument(
            callback=options.must_exist, metavar="OLD", help="A bundle, or a report as JSON: what is good enough."
        ),
    ],
    new: Annotated[
        Path, typer.Argument(callback=options.must_exist, metavar="NEW", help="Another one of the same kind.")
    ],
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop",
            metavar="NAME=VALUE",
            help="Accepted loss of one measure, in its unit: sqnr_db=1.5, top1_agreement=0.01, accuracy=0.5 (points),"
            " int8_layers=2, or off (repeatable).",
        ),
    ] = None,
    max_growth: Annotated[
        str | None, typer.Option("--max-growth", metavar="SHARE", help="Accepted growth of a file: 5%, or off. [5%]")
    ] = None,
    max_regression: Annotated[
        str | None, typer.Option("--max-regression", metavar="SHARE", help="Accepted loss of speed: 5%, or off.")
    ] = None,
    html: options.Html = None,
    junit: options.JUnit = None,
    summary: options.Summary = None,
    annotate: options.Annotate = False,
    everything: options.All = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Hold a new bundle or report against an old one; exit code 1 when something became worse than it may.

    Without --max-drop, a loss is accepted that another machine, or other images, explain. Exit code 2 means that the
    two cannot be compared, 5 that the figures cannot tell.

    \b
    Examples:
      linglos-deploy compare released/linglo_s build/linglo_s --junit compare.xml
      linglos-deploy compare old/parity.json new/parity.json --max-drop sqnr_db=1.5 --max-drop top1_agreement=0.01
      linglos-deploy compare released/linglo_s build/linglo_s --max-growth off --json
      linglos-deploy compare base.json new.json --max-regression 5%
    """
    from functools import partial

    from linglos_deploy import api
    from linglos_deploy.comparing.tolerances import parse_drop, parse_share
    from linglos_deploy.screens import show_described

    report = api.compare(
        old,
        new,
        max_drop=dict(map(parse_drop, max_drop or ())),
        max_growth=parse_share(max_growth, option="--max-growth"),
        max_regression=parse_share(max_regression, option="--max-regression"),
    )
    write_reports([report], html=html, junit=junit, summary=summary)
    if annotate:
        running.annotate([report], file=new)
    show(report, partial(show_described, every_row=everything), as_json=as_json)
    if report.undecided:
        raise typer.Exit(running.UNDECIDED)
    return report.passed
