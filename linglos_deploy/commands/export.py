"""A checkpoint becomes a bundle: the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy import options
from linglos_deploy.choices import Precision, resolve_precision
from linglos_deploy.console import Terminal
from linglos_deploy.exporters.config import INT8_PARTS, ExportConfig
from linglos_deploy.exporters.decompositions.registry import AUTO, check_decomposition, decompositions
from linglos_deploy.images.preprocessing import Fit
from linglos_deploy.running import show
from linglos_deploy.tasks.registry import parse_settings, task_names


def complete_decomposition(incomplete: str) -> list[str]:
    """Return the decompositions whose names begin so, for the shell."""
    return [name for name in decompositions() if name.startswith(incomplete)]


def export(
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            autocompletion=options.complete_variant,
            help="t, s, m, b, b0, b1 or b2; random weights unless --checkpoint is given.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            callback=options.must_exist,
            metavar="FILE",
            help="Trained weights: .safetensors, .pt or .pth.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PACKAGE.MODULE:FACTORY", help="A torch.nn.Module of your own.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            callback=options.check_task,
            metavar=f"<{'|'.join(task_names())}>",
            autocompletion=options.complete_task,
            help="What the model is for; a classifier if neither this nor the checkpoint says.",
        ),
    ] = None,
    task_option: Annotated[
        list[str] | None,
        typer.Option("--task-option", metavar="NAME=VALUE", help="A choice that the task leaves; docs/tasks.md."),
    ] = None,
    imgsz: Annotated[str | None, typer.Option("--imgsz", help="Image size: 224, or 160x224 (height x width).")] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", callback=options.must_exist, metavar="FILE", help="Class names, one a line."),
    ] = None,
    mean: options.Mean = None,
    std: options.Std = None,
    crop_pct: options.CropPct = None,
    interpolation: options.Filter = None,
    fit: Annotated[
        Fit | None, typer.Option("--fit", help="Crop the middle of a picture, or put all of it between bars.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            callback=options.must_exist,
            metavar="PATH",
            help="Calibration images: a folder, .npz or .npy; synthetic without.",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Calibrate with at most this many images.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--eval",
            callback=options.must_exist,
            metavar="PATH",
            help="Labelled images (one folder a class) for accuracy and parity.",
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option("--max-accuracy-drop", min=0.0, help="Fail when top-1 falls by more points than this."),
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Element types of the deployed graph.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Short for --precision fp16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Short for --precision int8; with --half: int8+fp16.")] = False,
    method: options.ThresholdMethod = None,
    percentile: options.Percentile = None,
    weight_bits: options.WeightBits = None,
    narrow: options.Narrow = False,
    nodes_to_exclude: options.NodesToExclude = None,
    target_runtime: options.TargetRuntimes = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar=f"<{'|'.join(INT8_PARTS)}>",
            autocompletion=lambda: list(INT8_PARTS),
            help="Leave out a part of what an export for INT8 does for accuracy.",
        ),
    ] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Leave height and width open too.")] = False,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Fix the batch size; open by default.")] = None,
    opset: Annotated[int, typer.Option("--opset", help="ONNX operator set.")] = 20,
    decomposition: Annotated[
        str,
        typer.Option(
            "--decomposition",
            callback=check_decomposition,
            metavar=f"<{'|'.join(decompositions())}>",
            autocompletion=complete_decomposition,
            help="How key-only attention is written down.",
        ),
    ] = AUTO,
    embed_preprocessing: Annotated[
        bool, typer.Option("--embed-preprocessing", help="Let the graph take uint8 pixels and normalize them itself.")
    ] = False,
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
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Measure latency at the end.")] = True,
    threads: options.Threads = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of synthetic weights and images.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that the bundle's own folder goes into.")
    ] = Path("build"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the bundle; the model's by default.")] = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    save_config: options.SaveConfig = None,
) -> bool:
    """Turn a checkpoint into a directory that can ship: the whole pipeline, checked at every step.

    \b
    Examples:
      linglos-deploy export --variant s --int8
      linglos-deploy export --checkpoint best.safetensors --data calib/ --eval val/ --int8
      linglos-deploy export --model mypackage.models:backbone --imgsz 512 --dynamic --half
      linglos-deploy export --variant s --dynamic --size-profile 160x160,224x224,512x512
    """
    from linglos_deploy import api
    from linglos_deploy.models.loading import ModelSource
    from linglos_deploy.screens import show_export

    options.import_from_here()
    source = ModelSource(
        variant=variant,
        checkpoint=checkpoint,
        factory=model,
        task=task,
        settings=parse_settings(task_option),
        image_size=options.parse_size(imgsz),
        labels=labels,
        seed=seed,
        preprocess=options.preprocessing(
            imgsz=None,
            mean=mean,
            std=std,
            scale=None,
            color=None,
            layout=None,
            crop_pct=crop_pct,
            interpolation=interpolation,
            fit=fit,
        ),
    )
    report = api.export(
        source,
        output,
        name=name,
        replace=force,
        precision=resolve_precision(precision, half=half, int8=int8),
        data=data,
        calibration_images=images,
        evaluation=evaluation,
        max_accuracy_drop=max_accuracy_drop,
        graph=ExportConfig(
            opset=opset,
            dynamic=dynamic,
            batch=batch,
            embed_preprocessing=embed_preprocessing,
            decomposition=decomposition,
            without=tuple(without or ()),
        ),
        scheme=options.quant_scheme(method, percentile, weight_bits, nodes_to_exclude, narrow=narrow),
        target_runtimes=tuple(target_runtime or ()),
        engine=engine,
        engine_options=options.engine_options(
            profile,
            size_profile,
            shape,
            options.build_spec(workspace, optimization_level, sm),
            target=target,
            no_cache=no_cache,
            container=container,
        ),
        measure_latency=latency,
        threads=threads,
        seed=seed,
        progress=Terminal(quiet=quiet),
    )
    show(report, show_export, as_json=as_json)
    return report.passed
