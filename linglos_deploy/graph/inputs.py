"""What feeds a graph: images, once it is known how they become its input, or arrays by input name; or made-up input.

A graph that was exported here says how images become its input. For one that somebody else made, the user says it, or
gives arrays that are model input already. Nothing is assumed: what is left out and not to be seen in the graph's shapes
is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.graph.feeds import Sizes, index_ranges, synthetic_feeds
from linglos_deploy.graph.metadata import stated_preprocessing
from linglos_deploy.images.dataset import ARRAY_FILES, open_dataset, synthetic_dataset
from linglos_deploy.images.layout import Layout, layout_of, likely_layout
from linglos_deploy.images.options import NOTHING_SAID, PreprocessOptions, each_channel
from linglos_deploy.images.preprocessing import Color, Interpolation, PreprocessSpec
from linglos_deploy.images.samples import AnyArray, Dataset
from linglos_deploy.images.tensors import open_tensors, whole
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import ModelSignature, TensorSpec

_INDICES = ("int32", "int64")
"""Types of what picks rows of a table."""

EVERYTHING_TO_SAY = "--mean 0.5 --std 0.5 --imgsz 224 (with the model's own numbers)"


def preprocessing_for(
    model: OnnxArtifact, options: PreprocessOptions = NOTHING_SAID, *, progress: Progress = SILENT
) -> PreprocessSpec | None:
    """Return how images become a graph's input; ``None`` where neither the graph nor the user says anything.

    What the user says goes before what the graph says, and is repeated in full through ``progress``: colours are taken
    for RGB where three channels leave it open, and resizing is bilinear without a crop where nothing is said of it.

    Raises:
        UsageError: Something remains unknown, or an option does not fit the graph.
        ArtifactError: The graph is damaged.
    """
    stated = stated_preprocessing(model.path)
    said = dict(options.given)
    if not said:
        return stated
    takes_pixels = len(model.signature.inputs) == 1 and model.signature.inputs[0].dtype == "uint8"
    unused = [name for name in ("mean", "std", "scale") if name in said] if takes_pixels else []
    if unused:
        raise UsageError(
            f"'{model.path.name}' takes bytes, which nothing normalizes before.",
            found=", ".join(f"--{name}" for name in unused),
            expected="none of them",
            next_step="leave them out",
        )
    spec = options.applied_to(stated) if stated is not None else _said(model, options)
    _check_fits(model, spec)
    progress.warn(f"Images become input as the options say, not the graph: {spec.describe()}.")
    return spec


def open_inputs(
    data: Path,
    model: OnnxArtifact,
    spec: PreprocessSpec | None,
    *,
    verify: bool = True,
    progress: Progress = SILENT,
) -> Dataset:
    """Open what shall feed a graph.

    Args:
        data: A folder of images, an ``.npy``, or an ``.npz``: of images where it is known how they become input and the
            graph has a single input, else of arrays by input name.
        model: The graph.
        spec: How images become its input; see :func:`preprocessing_for`.
        verify: Whether to decode every image once.
        progress: Told of every image, and warned of those that are left out.

    Raises:
        DataError: There is nothing usable, or it does not fit the graph.
        UsageError: There are images, and it is not known how they become input.
    """
    arrays = data.suffix.lower() in ARRAY_FILES and data.is_file()
    if arrays and (spec is None or len(model.signature.inputs) > 1):
        integers = any(tensor.dtype in _INDICES for tensor in model.signature.inputs)
        rows = index_ranges(load_onnx(model.path)) if integers else {}
        return open_tensors(data, model.signature, input_axes(model.signature).axes, rows=rows)
    if spec is None and data.exists():
        raise _unknown(model, f"how images become its input, and '{data}' holds images")
    return open_dataset(data, spec or PreprocessSpec(), verify=verify, progress=progress)


def synthetic_inputs(
    model: OnnxArtifact, spec: PreprocessSpec | None, *, count: int, seed: int, sizes: Sizes | None = None
) -> Dataset:
    """Return seeded input that is made up: images where it is known how they become input, else noise of each type.

    Raises:
        DataError: The graph leaves a size open, or takes integers whose range it does not show.
    """
    if spec is not None:
        return synthetic_dataset(spec, count, seed)
    if count < 1:
        raise UsageError("Calibration needs an image.", found=str(count), expected="1 or more")
    source = SyntheticTensors(
        model.signature, count, seed, sizes or Sizes(), index_ranges(load_onnx(model.path)), model.digest
    )
    source.read(0)  # what cannot be made up should be known before the work begins
    return whole(source)


@dataclass(frozen=True, slots=True)
class SyntheticTensors:
    """Seeded noise of a model's types and sizes, a :class:`~linglos_deploy.images.tensors.TensorSource`."""

    signature: ModelSignature
    count: int
    seed: int
    sizes: Sizes
    ranges: dict[str, int]
    graph_digest: str
    labels: None = field(default=None, init=False)
    synthetic: bool = field(default=True, init=False)

    @property
    def axes(self) -> dict[str, int | None]:
        """Along which axis of each input the samples lie."""
        return dict(input_axes(self.signature).axes)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names such as ``synthetic/7``."""
        return tuple(f"synthetic/{index}" for index in range(self.count))

    @property
    def listing(self) -> str:
        """Says what they are made from."""
        return sha256_bytes(f"synthetic:{self.graph_digest}:{self.seed}:{self.count}:{self.sizes}".encode())

    def read(self, index: int) -> dict[str, AnyArray]:
        """Return one sample."""
        sizes = replace(self.sizes, batch=input_axes(self.signature).batch or 1)
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        feeds = synthetic_feeds(self.signature, sizes, seed=seed, index_ranges=self.ranges)
        axes = self.axes
        return {name: _first(array, axes[name]) for name, array in feeds.items()}


def _first(array: AnyArray, axis: int | None) -> AnyArray:
    return array if axis is None else np.take(array, [0], axis)


def _said(model: OnnxArtifact, options: PreprocessOptions) -> PreprocessSpec:
    spec = _image_input(model)
    layout = options.layout or layout_of(spec)
    if layout is not (layout_of(spec) or layout):
        raise UsageError(
            f"The channels of '{model.path.name}' lie elsewhere.",
            found=f"--layout {layout}",
            expected=spec.describe(),
            next_step="leave --layout out",
        )
    if layout is None:
        raise _unknown(model, "where its channels lie", found=spec.describe(), option="--layout nchw, or nhwc")
    channels = spec.dims[layout.channel_axis]
    color = options.color or (Color.of_channels(channels) if channels in (1, 3, 4) else None)
    if color is None:
        raise _unknown(model, "which colours it takes", found=spec.describe(), option="--color rgb, bgr, grey or rgba")
    height, width = (spec.dims[axis] for axis in layout.spatial_axes)
    size = options.input_size or ((height, width) if isinstance(height, int) and isinstance(width, int) else None)
    if size is None:
        raise _unknown(model, "how large its images are", found=spec.describe(), option="--imgsz HEIGHTxWIDTH")
    if spec.dtype == "uint8":
        options = replace(options, mean=(0.0,), std=(1.0,))
    if options.mean is None or options.std is None:
        missing = [f"--{name}" for name in ("mean", "std") if getattr(options, name) is None]
        raise _unknown(model, "how pixels are normalized", option=f"{' and '.join(missing)} (0 and 1 for no change)")
    return PreprocessSpec(
        input_size=size,
        interpolation=options.interpolation or Interpolation.BILINEAR,
        crop_pct=1.0 if options.crop_pct is None else options.crop_pct,
        mean=each_channel(options.mean, color.channels, option="--mean"),
        std=each_channel(options.std, color.channels, option="--std"),
        color=color,
        layout=layout,
        scale=255.0 if options.scale is None else options.scale,
    )


def _image_input(model: OnnxArtifact) -> TensorSpec:
    if len(model.signature.inputs) != 1 or likely_layout(model.signature.inputs[0]) is None:
        raise UsageError(
            f"'{model.path.name}' does not take images.",
            found=", ".join(spec.describe() for spec in model.signature.inputs),
            expected="one input of four axes, for options that say how images become it",
            next_step="give arrays by input name in an .npz with --data, and none of these options",
        )
    return model.signature.inputs[0]


def _check_fits(model: OnnxArtifact, spec: PreprocessSpec) -> None:
    """Check a preprocessing against the sizes that the graph insists on."""
    tensor = _image_input(model)
    layout = (layout_of(tensor) or Layout.NHWC) if tensor.dtype == "uint8" else spec.layout
    expected = tensor.dims[1:]
    found = replace(spec, layout=layout).input_shape()
    if any(isinstance(dim, int) and dim != size for dim, size in zip(expected, found, strict=True)):
        raise UsageError(
            f"The options do not fit '{model.path.name}'.",
            found=f"images as {' x '.join(map(str, found))}: {spec.describe()}",
            expected=tensor.describe(),
            next_step="correct --imgsz, --color or --layout",
        )


def _unknown(model: OnnxArtifact, what: str, *, found: str | None = None, option: str = "") -> DataError | UsageError:
    return UsageError(
        f"'{model.path.name}' does not say {what}.",
        found=found or "no 'linglos.preprocessing' in its metadata",
        expected=option or "--mean and --std, and --imgsz where the graph takes any size",
        next_step=f"{option or EVERYTHING_TO_SAY}; or give arrays that are model input, by input name, in an .npz",
    )
