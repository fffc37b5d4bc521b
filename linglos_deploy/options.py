"""Option types that several commands share, and what turns their text into values. Imports nothing heavy."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from linglos_deploy.calibration.registry import builtin_methods, threshold_methods
from linglos_deploy.discovery import suggest
from linglos_deploy.errors import UsageError
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.options import PreprocessOptions
from linglos_deploy.images.options import parse_numbers as parse_channels
from linglos_deploy.images.preprocessing import Color, Fit, Interpolation
from linglos_deploy.running import load_config
from linglos_deploy.tasks import registry as tasks

P = TypeVar("P", Path, Path | None, list[Path])

if TYPE_CHECKING:
    from linglos_deploy.engines.options import EngineOptions
    from linglos_deploy.engines.spec import BuildSpec
    from linglos_deploy.quantization.scheme import QuantScheme


def must_exist(param: typer.CallbackParam, value: P) -> P:
    """Check that every path that was given for something to read is there; a callback of options and arguments.

    Raises:
        UsageError: One is not; the message names the option, and names that come near.
    """
    paths = [value] if isinstance(value, Path) else value or []
    for path in paths:
        if not path.exists():
            option = max(param.opts, key=len) if param.opts and param.opts[0].startswith("-") else None
            raise UsageError(
                f"There is nothing at '{path}'.",
                found="nothing" + (f", named by {option}" if option else ""),
                expected=f"{getattr(param, 'metavar', None) or 'PATH'}: {getattr(param, 'help', '')}",
                next_step=suggest(
                    path.name,
                    _names_beside(path),
                    typed=path.with_name,
                    otherwise="check the path",
                ),
            )
    return value


def file_name(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Check that a path that was given for a file to write is no folder; a callback of options.

    Raises:
        UsageError: It is one; the message names the option.
    """
    if value is not None and value.is_dir():
        option = max(param.opts, key=len)
        raise UsageError(
            f"{option} names a folder.",
            found=f"'{value}', a folder",
            expected="the name of a file to write",
            next_step=f"{option} {value / f'{param.name}.out'}",
        )
    return value


def _names_beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr; warnings and errors stay.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of a run; 0 leaves the choice to the backend.", min=0)]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or N.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", callback=file_name, help="Write the report as one HTML file.", metavar="FILE"),
]
JUnit = Annotated[
    Path | None,
    typer.Option("--junit", callback=file_name, metavar="FILE", help="Write a JUnit XML file for CI."),
]
Summary = Annotated[
    Path | None,
    typer.Option(
        "--summary", callback=file_name, metavar="FILE", help="Add the report as Markdown, as to $GITHUB_STEP_SUMMARY."
    ),
]
Annotate = Annotated[bool, typer.Option("--annotate", help="Print what failed as GitHub annotations too, on stderr.")]
All = Annotated[bool, typer.Option("--all", help="Show every row of long tables, not only those that matter.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=load_config,
        is_eager=True,
        metavar="FILE",
        help="Read options from this TOML file; without it, from [tool.linglos-deploy] in ./pyproject.toml.",
    ),
]
SaveConfig = Annotated[
    Path | None,
    typer.Option(
        "--save-config", callback=file_name, metavar="FILE", help="Write the resolved options to this TOML file."
    ),
]


def complete_method(incomplete: str) -> list[str]:
    """Return the threshold methods whose names begin so, for the shell."""
    return [name for name in threshold_methods() if name.startswith(incomplete)]


ThresholdMethod = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        autocompletion=complete_method,
        help=f"How INT8 ranges follow from what was seen: {', '.join(builtin_methods())} [weighted].",
    ),
]
Percentile = Annotated[
    float | None,
    typer.Option("--percentile", help="Share of values, in percent, that --method percentile keeps [99.99]."),
]
Narrow = Annotated[
    bool,
    typer.Option("--narrow", help="Round linear layers of fewer than 16 inputs or outputs, too; they get no faster."),
]
WeightBits = Annotated[
    int | None, typer.Option("--weight-bits", min=7, max=8, help="7 keeps x86 CPUs without VNNI from overflowing [8].")
]
NodesToExclude = Annotated[
    list[str] | None,
    typer.Option("--nodes-to-exclude", metavar="REGEX", help="Keep these nodes in floating point (repeatable)."),
]


def complete_placement(incomplete: str) -> list[str]:
    """Return what ``--target-runtime`` takes and begins so, for the shell."""
    from linglos_deploy.quantization.placement import placement_names

    return [name for name in placement_names() if name.startswith(incomplete)]


TargetRuntime = Annotated[
    str,
    typer.Option(
        "--target-runtime",
        metavar="NAME",
        autocompletion=complete_placement,
        help="What the INT8 graph is made for: tensorrt, openvino, onnxruntime-x86 or onnxruntime-arm.",
    ),
]
TargetRuntimes = Annotated[
    list[str] | None,
    typer.Option(
        "--target-runtime",
        metavar="NAME",
        autocompletion=complete_placement,
        help="What INT8 graphs are made for (repeatable) [tensorrt, openvino, onnxruntime-x86].",
    ),
]


def complete_engine(incomplete: str) -> list[str]:
    """Return what ``--engine`` takes and begins so, for the shell."""
    from linglos_deploy.engines.registry import choices

    return [name for name in choices() if name.startswith(incomplete)]


Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="auto|none|NAME",
        autocompletion=complete_engine,
        help="What compiles: a name that 'doctor' lists; auto takes all of NVIDIA's that work here.",
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1x3x320x320",
        help="Shape of an input an engine serves, or its smallest, best and largest: NAME=MIN:BEST:MAX (repeatable).",
    ),
]
Containers = Annotated[
    list[str] | None,
    typer.Option(
        "--container",
        metavar="triton|deepstream|epcontext",
        help="Also write the engine as another runtime takes it (repeatable); not yet run on a GPU.",
    ),
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


def complete_target(incomplete: str) -> list[str]:
    """Return the kinds of hardware whose names begin so, for the shell."""
    from linglos_deploy.engines.targets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_backend(incomplete: str) -> list[str]:
    """Return the backends whose names begin so, for the shell."""
    from linglos_deploy.backends.registry import available

    return [name for name in available() if name.startswith(incomplete)]


def check_task(name: str | None) -> str | None:
    """Return ``name`` if it is a task, or nothing.

    Raises:
        UsageError: There is no such task.
    """
    return None if name is None else tasks.check_task(name)


def complete_task(incomplete: str) -> list[str]:
    """Return the tasks whose names begin so, for the shell."""
    return [name for name in tasks.task_names() if name.startswith(incomplete)]


def complete_variant(incomplete: str) -> list[str]:
    """Return the sizes of the family whose names begin so, for the shell."""
    from linglos_deploy.models.variants import VARIANTS

    return [name for name in VARIANTS if name.startswith(incomplete)]


Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        autocompletion=complete_target,
        help="Settings for a kind of hardware: jetson-orin, rtx-ada, …; dla says which layers a DLA core takes.",
    ),
]
EngineWeights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        callback=must_exist,
        metavar="MODEL.onnx",
        help="Weights of an engine built without them [the graph it came from].",
    ),
]
HostCode = Annotated[
    bool, typer.Option("--allow-host-code", help="Load engines that run code of theirs; only for your own.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Build engines anew, even those that were built before.")]

_IMAGES = "How images become the input of a graph that does not say it itself"
ImageSize = Annotated[
    str | None,
    typer.Option("--imgsz", metavar="N | HxW", help="Height and width of its images.", rich_help_panel=_IMAGES),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="M,M,M", help="Mean of each channel, or one for all.", rich_help_panel=_IMAGES),
]
Std = Annotated[
    str | None,
    typer.Option("--std", metavar="S,S,S", help="Standard deviation of each channel.", rich_help_panel=_IMAGES),
]
PixelScale = Annotated[
    float | None,
    typer.Option("--scale", help="The pixel value that counts as 1 in mean and std [255].", rich_help_panel=_IMAGES),
]
Colors = Annotated[
    Color | None,
    typer.Option("--color", help="Its channels and their order [by their number; 3: rgb].", rich_help_panel=_IMAGES),
]
Axes = Annotated[
    Layout | None, typer.Option("--layout", help="Order of its axes [by its shape].", rich_help_panel=_IMAGES)
]
CropPct = Annotated[
    float | None,
    typer.Option("--crop-pct", help="Share that the centre crop keeps after resizing [1].", rich_help_panel=_IMAGES),
]
Filter = Annotated[
    Interpolation | None,
    typer.Option("--interpolation", help="Filter of the resize [bilinear].", rich_help_panel=_IMAGES),
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1x3x320x320",
        help="Shape of a made-up input, where the graph leaves it open; 1x3x320x320 for a single one (repeatable).",
    ),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse ``--imgsz``: one number for a square, ``HEIGHTxWIDTH`` or ``HEIGHT,WIDTH``.

    Raises:
        UsageError: The text is none of these.
    """
    return None if text is None else _image_size(text)


def parse_sizes(texts: list[str] | None) -> tuple[tuple[int, int], ...]:
    """Parse each ``--imgsz`` of a command that takes several; see :func:`parse_size`.

    Raises:
        UsageError: One of them is no size.
    """
    return tuple(_image_size(text) for text in texts or ())


def _image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text.strip().lower())
    if match is None:
        raise UsageError(
            f"'{text}' is not an image size.",
            found=text,
            expected="pixels such as 224, or 160x224 (height x width)",
            next_step="--imgsz 224",
        )
    height = int(match.group(1))
    return height, int(match.group(2) or height)


def parse_numbers(text: str, *, option: str, least: int = 1) -> tuple[int, ...]:
    """Parse a comma-separated list of whole numbers, none below ``least``.

    Raises:
        UsageError: The text is something else.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise UsageError(
            f"{option} takes whole numbers from {least}.",
            found=text,
            expected="one, or several with commas between them",
            next_step=f"{option} 1,8,32",
        )
    return numbers


def parse_share(text: str | None, *, option: str) -> float | None:
    """Parse a share of something: ``2%``, or ``0.02``.

    >>> parse_share("2%", option="--min-effect"), parse_share("0.05", option="--min-effect")
    (0.02, 0.05)

    Raises:
        UsageError: The text is something else, or 100 % and more.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    share = float(match.group(1)) / (100 if match.group(2) else 1) if match is not None else 1.0
    if share >= 1:
        raise UsageError(
            f"{option} takes a share below 100 %.",
            found=text,
            expected="percent, or a number below 1",
            next_step=f"{option} 2%",
        )
    return share


def parse_seconds(text: str | None, *, option: str) -> float | None:
    """Parse a time: ``60s``, ``5m``, or a number of seconds.

    >>> parse_seconds("60s", option="--budget"), parse_seconds("1.5m", option="--budget")
    (60.0, 90.0)

    Raises:
        UsageError: The text is something else, or no time at all.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m?)", text.strip())
    seconds = float(match.group(1)) * (60 if match.group(2) == "m" else 1) if match is not None else 0.0
    if seconds <= 0:
        raise UsageError(
            f"{option} takes a time.",
            found=text,
            expected="seconds, or minutes with an m behind them",
            next_step=f"{option} 60s",
        )
    return seconds


def parse_bytes(text: str | None, *, option: str) -> int | None:
    """Parse a memory size: a number of GiB, or a number with K, M or G behind it.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None or float(match.group(1)) <= 0:
        raise UsageError(
            f"{option} takes a memory size.",
            found=text,
            expected="GiB, or a number with K, M or G behind it",
            next_step=f"{option} 512M",
        )
    unit = {"K": 10, "M": 20, "G": 30, "": 30}[match.group(2).upper()]
    return int(float(match.group(1)) * (1 << unit))


def parse_capabilities(text: str | None) -> tuple[str, ...]:
    """Parse ``--sm``: ``86,89,120`` or ``8.6,8.9,12.0`` to ``("8.6", "8.9", "12.0")``.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-9]\d?)\.?(\d)", part.strip())
        if match is None:
            raise UsageError(
                "--sm takes compute capabilities.",
                found=text,
                expected="numbers such as 86 or 8.6, with commas between them",
                next_step="--sm 86,89,120",
            )
        found.append(f"{match.group(1)}.{match.group(2)}")
    return tuple(found)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Parse ``--shard``: ``3/16`` is the third of sixteen.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match.group(1)) <= int(match.group(2)):
        raise UsageError("--shard takes one of several equal shares.", found=text, expected="such as 3/16, from 1/16")
    return int(match.group(1)), int(match.group(2))


def preprocessing(
    *,
    imgsz: str | None,
    mean: str | None,
    std: str | None,
    scale: float | None,
    color: Color | None,
    layout: Layout | None,
    crop_pct: float | None,
    interpolation: Interpolation | None,
    fit: Fit | None = None,
) -> PreprocessOptions:
    """Put together what was said of how images become input.

    Raises:
        UsageError: A text is no size, or holds no numbers.
    """
    return PreprocessOptions(
        input_size=parse_size(imgsz),
        mean=parse_channels(mean, option="--mean"),
        std=parse_channels(std, option="--std"),
        color=color,
        layout=layout,
        scale=scale,
        crop_pct=crop_pct,
        interpolation=interpolation,
        fit=fit,
    )


def refuse_unused(command: str, options: Mapping[str, object]) -> None:
    """Refuse options that were given and that a form of a command has no use for.

    Args:
        command: The form of the command.
        options: Value of each such option; false where it was not given.

    Raises:
        UsageError: One was given.
    """
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"{command} has no use for {', '.join(given)}.",
            found=", ".join(given),
            expected="none of " + ", ".join(options),
            next_step="leave the option out",
        )


def import_from_here() -> None:
    """Let ``--model`` name a module in this directory, as ``python -m`` does; a console script cannot see it."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def engine_options(
    profile: list[str] | None,
    size_profile: str | None,
    shape: list[str] | None,
    settings: BuildSpec,
    *,
    target: str | None,
    no_cache: bool,
    container: list[str] | None = None,
) -> EngineOptions:
    """Put together how engines are built.

    Raises:
        UsageError: A profile or a shape is none.
    """
    from linglos_deploy.engines.options import EngineOptions, parse_batch_profile
    from linglos_deploy.engines.profiles import parse_input_shape
    from linglos_deploy.engines.sizes import parse_size_profile

    return EngineOptions(
        batch_profiles=tuple(parse_batch_profile(text) for text in profile) if profile else None,
        size_profile=None if size_profile is None else parse_size_profile(size_profile),
        shapes=tuple(parse_input_shape(text) for text in shape or ()),
        settings=settings,
        target=target,
        cache=not no_cache,
        containers=tuple(container or ()),
    )


def build_spec(workspace: str | None, optimization_level: int | None, sm: str | None) -> BuildSpec:
    """Put together what a compiler is told.

    Raises:
        UsageError: A text is no value of its option.
    """
    from linglos_deploy.engines.spec import BuildSpec

    return BuildSpec(
        profiles=(),
        workspace_bytes=parse_bytes(workspace, option="--workspace"),
        optimization_level=optimization_level,
        compute_capabilities=parse_capabilities(sm),
    )


def quant_scheme(
    method: str | None,
    percentile: float | None,
    weight_bits: int | None,
    exclude: list[str] | None,
    *,
    narrow: bool = False,
) -> QuantScheme:
    """Put together how ranges become INT8 scales; what was not given is as usual.

    Raises:
        UsageError: A percentile that nothing uses, or one that is no percentage.
    """
    from linglos_deploy.quantization.scheme import QuantScheme

    usual = QuantScheme()
    scheme = QuantScheme(
        method=method or usual.method,
        weight_bits=weight_bits or usual.weight_bits,
        exclude=tuple(exclude or ()),
        narrow=narrow,
    )
    if percentile is None:
        return scheme
    if scheme.method != "percentile":
        raise UsageError(
            "--percentile belongs to --method percentile.",
            found=f"--percentile {percentile:g} and --method {scheme.method}",
            expected="both, or neither",
            next_step=f"--method percentile --percentile {percentile:g}",
        )
    if not 50 <= percentile <= 100:
        raise UsageError(
            "--percentile takes a share in percent.",
            found=f"{percentile:g}",
            expected="from 50 to 100: 99.99 clips one value in ten thousand",
            next_step=f"--percentile {100 * percentile:g}" if 0.5 <= percentile < 1 else "--percentile 99.99",
        )
    return replace(scheme, percentile=percentile)
