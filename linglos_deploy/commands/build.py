"""A graph becomes an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.console import Terminal
from linglos_deploy.running import show


def build(
    model: Annotated[
        Path,
        typer.Argument(
            callback=options.must_exist,
            metavar="MODEL.onnx | BUNDLE",
            help="The graph, or the bundle that ships it; its precision is the engine's.",
        ),
    ],
    engine: options.Engine = "auto",
    profile: options.Profiles = None,
    size_profile: options.SizeProfile = None,
    shape: options.Shapes = None,
    workspace: options.Workspace = None,
    optimization_level: options.OptimizationLevel = None,
    sm: options.Capabilities = None,
    target: options.Target = None,
    no_cache: options.NoCache = False,
    container: options.Containers = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let float32 products round to TF32.")] = False,
    hardware_compatibility: Annotated[
        HardwareCompatibility, typer.Option("--hardware-compatibility", help="Which other GPUs the engine may run on.")
    ] = HardwareCompatibility.NONE,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later releases load it; such engines hold host code.")
    ] = False,
    refittable: Annotated[bool, typer.Option("--refittable", help="Weights can be replaced in the engine.")] = False,
    strip_weights: Annotated[bool, typer.Option("--strip-weights", help="Leave the weights out.")] = False,
    weight_streaming: Annotated[
        bool, typer.Option("--weight-streaming", help="Weights may stay in host memory.")
    ] = False,
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Accept layers in other precisions than the graph's.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where engines go; beside the graph without.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Compile an ONNX graph into an engine. Precision lives in the graph: what was checked is what is built.

    \b
    Examples:
      linglos-deploy build build/linglo_s/model.int8.onnx --engine tensorrt-rtx
      linglos-deploy build model.onnx --profile 1,1,1 --profile 1,8,32 --sm 86,89,120 -o engines/
      linglos-deploy build dynamic.onnx --profile 1,1,8 --size-profile 160x160,224x224,512x512
      linglos-deploy build detector.onnx --engine openvino --shape image=1x3x320x320:1x3x640x640:4x3x960x960
    """
    from linglos_deploy import api
    from linglos_deploy.screens import show_engines

    settings = replace(
        options.build_spec(workspace, optimization_level, sm),
        tf32=tf32,
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        refittable=refittable,
        strip_weights=strip_weights,
        weight_streaming=weight_streaming,
        allow_fallback=allow_fallback,
    )
    outcomes = api.build(
        model,
        output,
        engine=engine,
        engine_options=options.engine_options(
            profile, size_profile, shape, settings, target=target, no_cache=no_cache, container=container
        ),
        progress=Terminal(quiet=quiet),
    )
    show(outcomes, show_engines, as_json=as_json)
    return True
