"""What a bundle says about pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.choices import Precision
from linglos_deploy.console import Terminal
from linglos_deploy.running import show


def predict(
    bundle: Annotated[Path, typer.Argument(callback=options.must_exist, metavar="BUNDLE", help="What to ask.")],
    images: Annotated[
        list[Path], typer.Argument(callback=options.must_exist, metavar="IMAGE...", help="Pictures of any size.")
    ],
    draw: Annotated[
        Path | None, typer.Option("--draw", metavar="DIR", help="Write every picture with its result on it, as PNG.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Which graph; the deployed one if not given.")
    ] = None,
    threads: options.Threads = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> None:
    """Run pictures through a bundle and say what its task makes of them: classes, maps, boxes.

    \b
    Examples:
      linglos-deploy predict build/linglo_s cat.jpg
      linglos-deploy predict build/linglo_s_segment street.jpg --draw drawn/ --json
    """
    from linglos_deploy.bundle import open_bundle
    from linglos_deploy.screens import show_predictions
    from linglos_deploy.verbs.predict import predict as predict_images

    found = predict_images(
        open_bundle(bundle), images, precision=precision, draw=draw, threads=threads, progress=Terminal(quiet=quiet)
    )
    if as_json:
        show([prediction.facts() for prediction in found], show_predictions, as_json=True)
    else:
        show(found, show_predictions, as_json=False)
