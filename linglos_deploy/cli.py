"""The command line: options become a frozen request, the request goes to one library call, the result is rendered.

Results go to stdout, progress and everything else to stderr. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from linglos_deploy import __version__, options
from linglos_deploy.choices import EngineChoice, HardwareCompatibility, Method, Precision, resolve_precision
from linglos_deploy.console import Terminal
from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.exporters.config import Decomposition, ExportConfig
from linglos_deploy.models.variants import Task

if TYPE_CHECKING:
    from rich.console import Console

    from linglos_deploy.backends.base import BuildSpec
    from linglos_deploy.calibration.table import CalibrationTable
    from linglos_deploy.engines import EngineOptions
    from linglos_deploy.quantization.scheme import QuantScheme

P = ParamSpec("P")

VERDICT_FAILED = 1
STAGE_FAILED = 4
INTERRUPTED = 130

LOG_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""

NOT_CONFIGURATION = {"config", "save_config", "as_json", "quiet", "help"}
"""Parameters that a configuration file neither gives nor gets."""

app = typer.Typer(
    name="linglos-deploy",
    rich_markup_mode=None,  # plain help appears twice as fast
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)  # --version needs no command
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Take a trained PyTorch LinGlo model to the edge: ONNX, INT8, TensorRT, checked at every step.

    \b
    Start here:
      linglos-deploy export --variant s --int8
      linglos-deploy export --checkpoint best.safetensors --data calib/ --int8 -o build/linglo_s
      linglos-deploy doctor

    \b
    Exit codes:
      0  done, and every requested check passed
      1  a verdict failed: parity, accuracy or latency
      2  wrong usage or configuration
      3  a backend, device or optional package is missing
      4  a stage failed: bad checkpoint, bad data, export, build
    """
    if version:
        typer.echo(f"linglos-deploy {__version__}")
        raise typer.Exit


def command(function: Callable[P, bool]) -> Callable[P, None]:
    """Make a command of a function that returns whether every check passed.

    Our own errors become a message and their exit code; Ctrl-C becomes 130; anything else is a bug and says so.
    """

    @app.command()
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            _save_config(kwargs.get("ctx"), kwargs.get("save_config"))
            passed = function(*args, **kwargs)
        except LinglosError as error:
            _show_error(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted. Earlier output is untouched, and no partial file was left behind.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader of stdout has gone, as in '... | head'
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if os.environ.get("LINGLOS_DEBUG"):
                raise
            bug = LinglosError(
                "This is a bug in linglos-deploy.",
                found=f"{type(error).__name__}: {error}",
                next_step="run again with LINGLOS_DEBUG=1 and report the traceback",
            )
            _show_error(bug, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(STAGE_FAILED) from None
        if not passed:
            raise typer.Exit(VERDICT_FAILED)

    return run


def _load_config(ctx: typer.Context, file: Path | None) -> Path | None:
    """Make the options in a TOML file the defaults of this call."""
    from linglos_deploy.configfile import read_options

    if not ctx.resilient_parsing:
        known = {str(parameter.name) for parameter in ctx.command.params} - NOT_CONFIGURATION
        try:
            ctx.default_map = read_options(file, str(ctx.info_name), known)
        except LinglosError as error:
            _show_error(error, as_json="--json" in sys.argv)
            raise typer.Exit(error.exit_code) from None
    return file


def _save_config(ctx: Any, file: object) -> None:
    """Write the options of this call, defaults and all, before the work begins."""
    if ctx is not None and isinstance(file, Path):
        from linglos_deploy.configfile import write_options

        resolved = {name: value for name, value in ctx.params.items() if name not in NOT_CONFIGURATION}
        write_options(resolved, str(ctx.info_name), file)


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_load_config,
        is_eager=True,
        metavar="FILE",
        help="Read options from this TOML file; without it, from [tool.linglos-deploy] in ./pyproject.toml.",
    ),
]
SaveConfig = Annotated[
    Path | None, typer.Option("--save-config", metavar="FILE", help="Write the resolved options to this TOML file.")
]

ThresholdMethod = Annotated[Method, typer.Option("--method", help="How INT8 ranges follow from what was seen.")]
NodesToExclude = Annotated[
    list[str] | None,
    typer.Option("--nodes-to-exclude", metavar="REGEX", help="Keep these nodes in floating point (repeatable)."),
]
Profiles = Annotated[
    list[str] | None,
    typer.Option("--profile", metavar="MIN,BEST,MAX", help="Batch sizes an engine serves (repeatable) [1,1,8]."),
]
SizeProfile = Annotated[
    str | None,
    typer.Option(
        "--size-profile",
        metavar="MIN,BEST,MAX",
        help="Sizes an engine of a --dynamic graph serves: 160,224,512, or 160x192,… [half to twice the model's].",
    ),
]
Workspace = Annotated[
    str | None, typer.Option("--workspace", metavar="GIB", help="Scratch memory of an engine: 4, 512M, 2G.")
]
OptimizationLevel = Annotated[
    int | None, typer.Option("--optimization-level", min=0, max=5, help="Effort of the engine builder.")
]
Capabilities = Annotated[
    str | None, typer.Option("--sm", metavar="86,89,…", help="Compute capabilities of an ahead-of-time build.")
]


def _import_from_here() -> None:
    """Let ``--model`` name a module in this directory, as ``python -m`` does; a console script cannot see it."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


Target = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help="Settings for a kind of hardware: jetson-orin, rtx-ada, …"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Build engines anew, even those that were built before.")]


def _engine_options(
    profile: list[str] | None, size_profile: str | None, settings: BuildSpec, *, target: str | None, no_cache: bool
) -> EngineOptions:
    from linglos_deploy.backends.trt.sizes import parse_size_profile
    from linglos_deploy.engines import EngineOptions, parse_batch_profile

    return EngineOptions(
        batch_profiles=tuple(parse_batch_profile(text) for text in profile or ["1,1,8"]),
        size_profile=None if size_profile is None else parse_size_profile(size_profile),
        settings=settings,
        target=target,
        cache=not no_cache,
    )


def _build_spec(workspace: str | None, optimization_level: int | None, sm: str | None) -> BuildSpec:
    from linglos_deploy.backends.base import BuildSpec

    return BuildSpec(
        profiles=(),
        workspace_bytes=options.parse_bytes(workspace, option="--workspace"),
        optimization_level=optimization_level,
        compute_capabilities=options.parse_capabilities(sm),
    )


def _scheme(method: Method, percentile: float, weight_bits: int, exclude: list[str] | None) -> QuantScheme:
    from linglos_deploy.quantization.scheme import QuantScheme

    return QuantScheme(method=method, percentile=percentile, weight_bits=weight_bits, exclude=tuple(exclude or ()))


def _write_reports(reports: Sequence[Any], *, html: Path | None, junit: Path | None = None) -> None:
    if html is not None:
        from linglos_deploy.reports.html import write_html

        write_html(reports, html)
    if junit is not None:
        from linglos_deploy.reports.junit import write_junit

        write_junit(reports, junit)


def _write_table_html(table: CalibrationTable, html: Path | None) -> None:
    if html is not None:
        from linglos_deploy.calibration.figures import table_html
        from linglos_deploy.files import atomic_file

        with atomic_file(html) as partial:
            partial.write_text(table_html(table), encoding="utf-8")


def _show_error(error: LinglosError, *, as_json: bool) -> None:
    Terminal().error(error)
    if as_json:
        fields = ("message", "found", "expected", "next_step", "exit_code")
        _print_json({"error": {name: getattr(error, name) for name in fields}})


def _show(value: Any, render: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """Put a result on stdout: for machines, or for people."""
    if as_json:
        _print_json(value)
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, LOG_WIDTH)
    render(value, console)


def _print_json(value: Any) -> None:
    from linglos_deploy.codec import to_json

    sys.stdout.write(to_json(value))
    sys.stdout.flush()


@command
def export(
    ctx: typer.Context,
    variant: Annotated[
        str | None, typer.Option("--variant", help="t, s, m or b; random weights unless --checkpoint is given.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="Trained weights: .safetensors, .pt or .pth.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PACKAGE.MODULE:FACTORY", help="A torch.nn.Module of your own.")
    ] = None,
    task: Annotated[
        Task, typer.Option("--task", help="A classifier, or a backbone with maps at strides 4, 8, 16 and 32.")
    ] = Task.CLASSIFY,
    imgsz: Annotated[str | None, typer.Option("--imgsz", help="Image size: 224, or 160x224 (height x width).")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", metavar="FILE", help="Class names, one a line.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="Calibration images: a folder, .npz or .npy; synthetic without."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Calibrate with at most this many images.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="PATH", help="Labelled images (one folder a class) for accuracy and parity."),
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
    method: ThresholdMethod = Method.MSE,
    nodes_to_exclude: NodesToExclude = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Leave height and width open too.")] = False,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Fix the batch size; open by default.")] = None,
    opset: Annotated[int, typer.Option("--opset", help="ONNX operator set.")] = 20,
    decomposition: Annotated[
        Decomposition, typer.Option("--decomposition", help="How key-only attention is written down.")
    ] = Decomposition.AUTO,
    embed_preprocessing: Annotated[
        bool, typer.Option("--embed-preprocessing", help="Let the graph take uint8 pixels and normalize them itself.")
    ] = False,
    engine: Annotated[
        EngineChoice, typer.Option("--engine", help="What to compile; auto takes all that this machine can.")
    ] = EngineChoice.AUTO,
    profile: Profiles = None,
    size_profile: SizeProfile = None,
    workspace: Workspace = None,
    optimization_level: OptimizationLevel = None,
    sm: Capabilities = None,
    target: Target = None,
    no_cache: NoCache = False,
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
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """Turn a checkpoint into a directory that can ship: the whole pipeline, checked at every step.

    \b
    Examples:
      linglos-deploy export --variant s --int8
      linglos-deploy export --checkpoint best.safetensors --data calib/ --eval val/ --int8
      linglos-deploy export --model mypackage.models:backbone --imgsz 512 --dynamic --half
      linglos-deploy export --variant s --dynamic --size-profile 160x160,224x224,512x512
    """
    from linglos_deploy.models.loading import ModelSource
    from linglos_deploy.pipeline import ExportRequest, export_bundle
    from linglos_deploy.quantization.scheme import QuantScheme
    from linglos_deploy.screens import show_export

    _import_from_here()
    kind = resolve_precision(precision, half=half, int8=int8)
    request = ExportRequest(
        source=ModelSource(
            variant=variant,
            checkpoint=checkpoint,
            factory=model,
            task=task,
            image_size=options.parse_size(imgsz),
            labels=labels,
            seed=seed,
        ),
        folder=output,
        name=name,
        replace=force,
        graph=ExportConfig(
            opset=opset,
            dynamic=dynamic,
            batch=batch,
            embed_preprocessing=embed_preprocessing,
            decomposition=decomposition,
            precision=kind,
        ),
        precision=kind,
        data=data,
        calibration_images=images,
        evaluation=evaluation,
        max_accuracy_drop=max_accuracy_drop,
        scheme=QuantScheme(method=method, exclude=tuple(nodes_to_exclude or ())),
        engine=engine,
        engine_options=_engine_options(
            profile,
            size_profile,
            _build_spec(workspace, optimization_level, sm),
            target=target,
            no_cache=no_cache,
        ),
        measure_latency=latency,
        threads=threads,
        seed=seed,
    )
    report = export_bundle(request, progress=Terminal(quiet=quiet))
    _show(report, show_export, as_json=as_json)
    return report.passed


@command
def calibrate(
    ctx: typer.Context,
    subjects: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL.onnx | merge TABLE …", help="The float32 graph; or 'merge' and tables of shards."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="Images: a folder, .npz or .npy; synthetic without."),
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Use at most this many images.")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Images of one run [as many as 96 MiB of activations allow].")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only this machine's share of the images: 3/16.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run with the same options stopped.")
    ] = False,
    dask: Annotated[
        str | None, typer.Option("--dask", metavar="ADDRESS", help="Share the images out to a dask cluster.")
    ] = None,
    per_channel: Annotated[bool, typer.Option("--per-channel", help="Keep ranges per channel, too.")] = False,
    sample_every: Annotated[
        int, typer.Option("--sample-every", min=1, help="Look at one element in N only; 1 looks at all.")
    ] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on images that look wrong.")] = False,
    html: options.Html = None,
    threads: options.Threads = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choice of images, and of synthetic ones.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the table goes.")] = Path(
        "calibration.table"
    ),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """See what flows into every convolution and linear layer: one pass, any number of images, constant memory.

    \b
    Examples:
      linglos-deploy calibrate build/linglo_s/model.onnx --data calib/
      linglos-deploy calibrate build/linglo_s/model.onnx --data calib/ --shard 1/2 -o shard1.table
      linglos-deploy calibrate merge shard1.table shard2.table -o calibration.table
    """
    from linglos_deploy.calibration.calibrate import CalibrationConfig
    from linglos_deploy.calibration.sampling import Sampling
    from linglos_deploy.inspection import summarize_table
    from linglos_deploy.screens import show_table
    from linglos_deploy.verbs.calibrate import CalibrateRequest, calibrate_graph, merge_table_files

    first, *others = subjects
    if str(first) == "merge":
        table = merge_table_files(others, out=output)
    else:
        if others:
            raise UsageError(
                "calibrate takes one graph.",
                found=", ".join(map(str, subjects)),
                expected="one graph, or 'merge' and tables",
                next_step=f"linglos-deploy calibrate {first}",
            )
        request = CalibrateRequest(
            model=first,
            data=data,
            out=output,
            images=images,
            shard=options.parse_shard(shard),
            resume=resume,
            dask=dask,
            strict=strict,
            config=CalibrationConfig(
                per_channel=per_channel, sampling=Sampling(every=sample_every, seed=seed), batch_size=batch
            ),
            threads=threads,
            seed=seed,
        )
        table = calibrate_graph(request, progress=Terminal(quiet=quiet))
    _write_table_html(table, html)
    _show(summarize_table(table), functools.partial(show_table, path=output), as_json=as_json)
    return True


@command
def quantize(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The float32 graph.")],
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE", help="What 'calibrate' saw; needed unless --plan is given."),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Carry out this plan instead of making one.")
    ] = None,
    method: ThresholdMethod = Method.MSE,
    percentile: Annotated[
        float, typer.Option("--percentile", help="Share of values, in percent, that --method percentile keeps.")
    ] = 99.99,
    weight_bits: Annotated[
        int, typer.Option("--weight-bits", min=7, max=8, help="7 keeps x86 CPUs without VNNI from overflowing.")
    ] = 8,
    nodes_to_exclude: NodesToExclude = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where the INT8 graph goes [MODEL.int8.onnx].")
    ] = None,
    save_plan: Annotated[
        Path | None, typer.Option("--save-plan", metavar="FILE", help="Where the plan goes [beside the INT8 graph].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make the plan and stop.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """Turn a calibration table into a plan, and the plan into an INT8 graph. The plan says why, tensor by tensor.

    \b
    Examples:
      linglos-deploy quantize model.onnx --table calibration.table
      linglos-deploy quantize model.onnx --table calibration.table --nodes-to-exclude 'head/.*' --method percentile
    """
    from linglos_deploy.screens import show_plan
    from linglos_deploy.verbs.quantize import QuantizeRequest, quantize_graph

    result = quantize_graph(
        QuantizeRequest(
            model=model,
            table=table,
            plan=plan,
            scheme=_scheme(method, percentile, weight_bits, nodes_to_exclude),
            out=output or model.with_suffix(".int8.onnx"),
            save_plan=save_plan,
            dry_run=dry_run,
        ),
        progress=Terminal(quiet=quiet),
    )
    _show(result, show_plan, as_json=as_json)
    return True


@command
def parity(
    ctx: typer.Context,
    candidate: Annotated[Path, typer.Argument(metavar="BUNDLE | MODEL.onnx", help="What to check.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="MODEL.onnx", help="Check a graph against this one.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="Check against PyTorch with these weights.")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="Check against this variant in PyTorch.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PACKAGE.MODULE:FACTORY", help="Check against your own module.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="PATH", help="Images; a bundle brings golden ones.")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Check at most this many images.")] = 256,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Only the bundle's graph of this precision.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also show where along the graph it starts to deviate.")
    ] = False,
    threads: options.Threads = 0,
    html: options.Html = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit XML file for CI.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """Check that graphs still answer as the PyTorch model did; exit code 1 when one drifts.

    \b
    Examples:
      linglos-deploy parity build/linglo_s --junit parity.xml
      linglos-deploy parity build/linglo_s --checkpoint best.safetensors --data val/
      linglos-deploy parity model.int8.onnx --reference model.onnx --data val/ --precision int8
    """
    from linglos_deploy.models.loading import ModelSource
    from linglos_deploy.screens import show_parity_outcome
    from linglos_deploy.verbs.check_parity import ParityRequest, check

    _import_from_here()
    named = checkpoint is not None or variant is not None or model is not None
    source = ModelSource(variant=variant, checkpoint=checkpoint, factory=model) if named else None
    request = ParityRequest(
        candidate=candidate,
        reference=reference,
        source=source,
        data=data,
        precision=precision,
        images=images,
        threads=threads,
        layers=layers,
    )
    outcome = check(request, progress=Terminal(quiet=quiet))
    _write_reports([*outcome.reports, *outcome.layers], html=html, junit=junit)
    _show(outcome, show_parity_outcome, as_json=as_json)
    return outcome.passed


@command
def inspect(
    ctx: typer.Context,
    subject: Annotated[
        Path, typer.Argument(metavar="PATH", help="A bundle, a graph, an engine, a calibration table or a plan.")
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw a calibration table's histograms.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
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

        _write_table_html(CalibrationTable.load(subject), html)
    _show(describe(subject), show_inspection, as_json=as_json)
    return True


@command
def build(
    ctx: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The graph; its precision is the engine's.")],
    engine: Annotated[
        EngineChoice, typer.Option("--engine", help="What to compile; auto takes all that this machine can.")
    ] = EngineChoice.AUTO,
    profile: Profiles = None,
    size_profile: SizeProfile = None,
    workspace: Workspace = None,
    optimization_level: OptimizationLevel = None,
    sm: Capabilities = None,
    target: Target = None,
    no_cache: NoCache = False,
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
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """Compile an ONNX graph into an engine. Precision lives in the graph: what was checked is what is built.

    \b
    Examples:
      linglos-deploy build build/linglo_s/model.int8.onnx --engine tensorrt-rtx
      linglos-deploy build model.onnx --profile 1,1,1 --profile 1,8,32 --sm 86,89,120 -o engines/
      linglos-deploy build dynamic.onnx --profile 1,1,8 --size-profile 160x160,224x224,512x512
    """
    from linglos_deploy.screens import show_engines
    from linglos_deploy.verbs.build import build_engines

    settings = replace(
        _build_spec(workspace, optimization_level, sm),
        tf32=tf32,
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible,
        refittable=refittable,
        strip_weights=strip_weights,
        weight_streaming=weight_streaming,
        allow_fallback=allow_fallback,
    )
    outcomes = build_engines(
        model,
        engine,
        _engine_options(profile, size_profile, settings, target=target, no_cache=no_cache),
        folder=output or model.parent,
        progress=Terminal(quiet=quiet),
    )
    _show(outcomes, show_engines, as_json=as_json)
    return True


@command
def profile(
    ctx: typer.Context,
    models: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE | MODEL.onnx | ENGINE …", help="What to measure, against the first.")
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", help="Run graphs on this backend (repeatable) [onnxruntime]."),
    ] = None,
    batch: Annotated[str, typer.Option("--batch", metavar="1,8,…", help="Batch sizes.")] = "1",
    threads: Annotated[str, typer.Option("--threads", metavar="1,2,…", help="Threads of a run; 0: its choice.")] = "0",
    imgsz: Annotated[str | None, typer.Option("--imgsz", help="Image size for graphs that take any.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often the candidates take turns.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Least measured time of a row.")] = 2.0,
    max_p50_ms: Annotated[
        float | None, typer.Option("--max-p50-ms", min=0.0, help="Fail when a median is slower than this.")
    ] = None,
    operators: Annotated[bool, typer.Option("--operators", help="Add the time per operator type.")] = False,
    html: options.Html = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """Measure latency: each candidate in a process of its own, in alternating rounds, ratios with intervals.

    \b
    Examples:
      linglos-deploy profile build/linglo_s
      linglos-deploy profile build/linglo_s --backend onnxruntime --backend openvino --batch 1,8 --html latency.html
      linglos-deploy profile build/linglo_s/model.int8.onnx --threads 1 --max-p50-ms 40
    """
    from linglos_deploy.kinds import profile_candidates
    from linglos_deploy.profiling.measure import measure
    from linglos_deploy.profiling.plan import LatencyBudget, MeasurementPlan
    from linglos_deploy.screens import show_profile

    plan = MeasurementPlan(
        batch_sizes=options.parse_numbers(batch, option="--batch"),
        threads=options.parse_numbers(threads, option="--threads", least=0),
        image_size=options.parse_size(imgsz),
        rounds=rounds,
        min_seconds=seconds,
        operators=operators,
    )
    report = measure(
        profile_candidates(models, backend or ["onnxruntime"]),
        plan,
        budget=None if max_p50_ms is None else LatencyBudget(max_p50_ms),
        progress=Terminal(quiet=quiet),
    )
    _write_reports([report], html=html)
    _show(report, show_profile, as_json=as_json)
    return report.passed


@command
def doctor(
    ctx: typer.Context,
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE | ENGINE]", help="Also say whether its engines load here.")
    ] = None,
    device: Annotated[int, typer.Option("--device", min=0, help="Number of the GPU that would run them.")] = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: Config = None,
    save_config: SaveConfig = None,
) -> bool:
    """Describe this machine: what each backend can do here, and how to get what is missing.

    \b
    Examples:
      linglos-deploy doctor
      linglos-deploy doctor build/linglo_s --json
    """
    from linglos_deploy.backends.doctor import examine
    from linglos_deploy.kinds import engines_of
    from linglos_deploy.screens import show_doctor

    report = examine(engines_of(bundle) if bundle else (), device=device)
    _show(report, show_doctor, as_json=as_json)
    return report.passed


@app.command(name="cmake-dir")
def cmake_dir() -> None:
    """Print the folder for CMake's find_package(linglos CONFIG).

    \b
    Example:
      cmake -S . -B build -Dlinglos_DIR="$(linglos-deploy cmake-dir)"
    """
    from linglos_deploy.embedding import cmake_dir as folder

    typer.echo(folder())
