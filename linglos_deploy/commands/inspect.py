"""What a file is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linglos_deploy import options
from linglos_deploy.running import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from linglos_deploy.backends.trt.fusing import FusionReport
    from linglos_deploy.engines.dla import DlaReport


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
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="dla|tensorrt",
            help="Say, by documented rules, which layers a DLA core takes, or TensorRT fuses.",
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
      linglos-deploy inspect build/linglo_s/model.onnx --target dla --all
      linglos-deploy inspect build/linglo_s/model.int8.onnx --target tensorrt
    """
    from linglos_deploy.inspection import describe
    from linglos_deploy.pages import write_page
    from linglos_deploy.running import naming
    from linglos_deploy.screens import show_described

    if target is not None:
        show(_on_target(subject, target, html=html), partial(show_described, every_row=everything), as_json=as_json)
        return True
    found = describe(subject)
    if html is not None:
        with naming("--html"):
            write_page(subject, html)
    show(found, partial(show_described, every_row=everything), as_json=as_json)
    return True


def _on_target(subject: Path, target: str, *, html: Path | None) -> DlaReport | FusionReport:
    """Return what documented rules say of a graph on a kind of hardware or runtime."""
    from linglos_deploy.backends.trt.fusing import fused_layers
    from linglos_deploy.engines.dla import DLA, dla_preflight
    from linglos_deploy.errors import UsageError
    from linglos_deploy.verbs.graphs import deployed_graph

    rules: dict[str, Callable[[Path], DlaReport | FusionReport]] = {DLA: dla_preflight, "tensorrt": fused_layers}
    if target not in rules or html is not None:
        raise UsageError(
            "inspect holds graphs against documented rules of these targets, on the screen or as JSON.",
            found=f"--target {target}" + ("" if html is None else " with --html"),
            expected=" or ".join(f"--target {name}" for name in rules),
            next_step=f"linglos-deploy inspect {subject} --target {target if target in rules else DLA}",
        )
    return rules[target](deployed_graph(subject, verb="inspect --target"))
