"""Every graph of a bundle is judged on pictures of which the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.choices import Precision
from linglos_deploy.console import Terminal
from linglos_deploy.running import show, write_reports


def eval(  # noqa: A001 - the command's name
    bundle: Annotated[Path, typer.Argument(callback=options.must_exist, metavar="BUNDLE", help="What to judge.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            callback=options.must_exist,
            metavar="PATH",
            help="classify: one folder a class; segment: images/ and masks/.",
        ),
    ],
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Only the graph of this precision, beside the float32 one.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", min=0.0, help="Fail when a graph loses more points than this.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resampling that gives the intervals.")] = 0,
    threads: options.Threads = 0,
    html: options.Html = None,
    junit: options.JUnit = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Judge what ships by the metric of its task, with intervals, each graph against the float32 one.

    \b
    Examples:
      linglos-deploy eval build/linglo_s --data val/
      linglos-deploy eval build/linglo_s_segment --data scenes/ --max-drop 1
    """
    from linglos_deploy import api
    from linglos_deploy.screens import show_described

    report = api.evaluate(
        bundle,
        data,
        precision=precision,
        max_drop=max_drop,
        threads=threads,
        seed=seed,
        progress=Terminal(quiet=quiet),
    )
    write_reports([report], html=html, junit=junit)
    show(report, show_described, as_json=as_json)
    return report.passed
