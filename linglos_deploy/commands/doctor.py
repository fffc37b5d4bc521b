"""What this machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.running import show


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            callback=options.must_exist,
            metavar="[BUNDLE | MODEL.onnx | ENGINE]",
            help="Also say what would run here.",
        ),
    ] = None,
    device: Annotated[int, typer.Option("--device", min=0, help="Number of the GPU that would run them.")] = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Describe this machine: what each backend can do here, and how to get what is missing.

    \b
    Examples:
      linglos-deploy doctor
      linglos-deploy doctor build/linglo_s --json
    """
    from linglos_deploy.backends.doctor import examine
    from linglos_deploy.kinds import models_of
    from linglos_deploy.screens import show_doctor

    graphs, engines = models_of(bundle) if bundle else ((), ())
    report = examine(engines, graphs=graphs, device=device)
    show(report, show_doctor, as_json=as_json)
    return report.passed
