"""From a name, a checkpoint or somebody's factory to a :class:`~linglos_deploy.artifacts.TorchModel`.

Importing this module is cheap; torch is imported when a model is loaded.
"""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import IMAGE_INPUT, Step, TorchModel, tool_versions
from linglos_deploy.choices import Weights
from linglos_deploy.errors import CheckpointError, MissingDependencyError, UsageError
from linglos_deploy.images.labels import read_labels
from linglos_deploy.images.options import NOTHING_SAID, PreprocessOptions
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.assumptions import OPTIONS, assumption
from linglos_deploy.models.factory import ModelDescription, check_spec, describe_factory
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.models.mismatch import compare, explain_factory_mismatch, explain_mismatch
from linglos_deploy.models.outputs import observe_outputs, run_once
from linglos_deploy.models.variants import STRIDES, VARIANTS, LinGloConfig, variant_config
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Decoding, TensorSpec
from linglos_deploy.tasks.registry import CLASSIFY, FEATURES, check_task, load_task

if TYPE_CHECKING:
    from torch import nn

    from linglos_deploy.models.checkpoint import Checkpoint

__all__ = ["HeldModel", "ModelSource", "load_model"]

HEAD_TENSORS = ("norm.weight", "norm.bias", "head.")
"""How the names of those weights of a LinGlo begin that a backbone has not."""

_EXPORT_EXTRA = ("torch", "onnxscript", "onnxsim")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from. At least one of ``variant``, ``checkpoint`` and ``factory`` is given.

    Attributes:
        variant: ``t``, ``s``, ``m``, ``b``, ``b0``, ``b1`` or ``b2``. With a checkpoint: the size that it must have.
        checkpoint: A ``.safetensors``, ``.pt`` or ``.pth`` file; without one, weights are seeded random numbers.
        factory: ``package.module:factory`` that makes another module; a checkpoint is loaded into it.
        task: What it is for, one of :mod:`linglos_deploy.tasks`; ``None`` for what the checkpoint says, else a
            classifier, or bare outputs where somebody else's module has others.
        settings: What is chosen of the task's settings; what the checkpoint says, else defaults, for the rest.
        image_size: Height and width in pixels; ``None`` for the checkpoint's or the variant's own.
        labels: A text file of class names, one per line; ``None`` for the checkpoint's own.
        seed: Of the random weights.
        preprocess: What is said of how images become the input, instead of what the checkpoint says.
    """

    variant: str | None = None
    checkpoint: Path | None = None
    factory: str | None = None
    task: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    labels: Path | None = None
    seed: int = 0
    preprocess: PreprocessOptions = NOTHING_SAID

    def __post_init__(self) -> None:
        if self.task is not None:
            load_task(check_task(self.task)).complete(self.settings)
        if self.image_size is not None:
            object.__setattr__(self, "image_size", tuple(self.image_size))
        if self.variant is None and self.checkpoint is None and self.own_module is None:
            raise UsageError(
                "No model was named.",
                found="none of --variant, --checkpoint and --model",
                expected="a variant, a checkpoint or a model factory",
                next_step=f"--variant {'|'.join(VARIANTS)}, --checkpoint FILE or --model package.module:factory",
            )
        if self.variant is not None and self.own_module is not None:
            raise UsageError(
                "Two models were named.",
                found=f"--variant {self.variant} and --model {self.own_module}",
                expected="one of them",
                next_step="leave one of them out",
            )
        if self.variant is not None:
            variant_config(self.variant)
        if self.factory is not None:
            check_spec(self.factory)
        if self.image_size is not None and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise UsageError(
                "The image size must be a height and a width.",
                found=str(self.image_size),
                expected="two whole numbers from 1",
                next_step="--imgsz 224",
            )
        if self.labels is not None and self.task is not None and not load_task(self.task).has_classes:
            raise UsageError(
                "A backbone has no classes to label.",
                found=f"--labels {self.labels} with --task {self.task}",
                next_step="leave --labels out, or export the classifier with --task classify",
            )
        if self.seed < 0:
            raise UsageError("A seed must not be negative.", found=str(self.seed), next_step="--seed 0")

    @property
    def own_module(self) -> str | None:
        """What messages call a module that is no LinGlo of ours; ``None`` for one that is."""
        return self.factory

    def describe_own(self) -> ModelDescription:
        """Make that module, with what its author says about it."""
        return describe_factory(self.factory or "")


@dataclass(frozen=True, slots=True)
class HeldModel(ModelSource):
    """A module that this process holds, so that no other process can make it again.

    Attributes:
        module: The module. It stays as it is: what is exported is a copy in evaluation mode, on the CPU, float32.
    """

    module: ModelDescription | None = None

    @property
    def own_module(self) -> str | None:
        """What messages call the module."""
        return None if self.module is None else self.module.name

    def describe_own(self) -> ModelDescription:
        """Copy the module, with what its author says about it."""
        assert self.module is not None
        return replace(self.module, module=copy.deepcopy(self.module.module))


def load_model(source: ModelSource, *, progress: Progress = SILENT) -> TorchModel:
    """Load a model for export.

    Raises:
        UsageError: Variant, factory, image size or labels do not make sense.
        CheckpointError: The checkpoint is missing, damaged, unsafe, or belongs to another model.
        MissingDependencyError: PyTorch, or what translates its graphs, is not installed.
    """
    from linglos_deploy.models.checkpoint import read_checkpoint

    _check_installed()
    with progress.stage("Loading the model"):
        checkpoint = read_checkpoint(source.checkpoint, progress=progress) if source.checkpoint else None
        source = _with_task(source, checkpoint)
        if source.own_module is not None:
            described = source.describe_own()
        else:
            checkpoint = _own_tensors(checkpoint, source.task or CLASSIFY) if checkpoint else None
            described = _describe_linglo(source, checkpoint)
        preprocess = _preprocess(described, source, checkpoint)
        if preprocess is not None:
            check_image_size(preprocess.input_size, divisor=described.size_divisor)
        _load_weights(described.module, source, checkpoint)
        described.module.cpu().float().eval().requires_grad_(False)
        model = _finish(described, source, checkpoint, preprocess)
        model = replace(model, warnings=_assumed(described, source, checkpoint, preprocess))
        shapes = model.input_shapes(batch=1)
        if source.own_module is None:
            return replace(model, decoding=_decoding(model, source, shapes))
        observed = observe_outputs(
            described, model.inputs, shapes, task=source.task, settings=source.settings, spec=source.own_module
        )
        for warning in observed.warnings:
            progress.warn(warning)
        return replace(
            model,
            output_names=observed.described.output_names,
            labels=_labels(observed.described, source, checkpoint),
            warnings=(*model.warnings, *observed.warnings),
            decoding=None if preprocess is None else observed.decoding,
        )


def _with_task(source: ModelSource, checkpoint: Checkpoint | None) -> ModelSource:
    """Return the source with what the checkpoint says of its task, where the user says nothing else."""
    said = checkpoint.metadata if checkpoint else CheckpointMetadata()
    task = source.task or said.task or (CLASSIFY if source.own_module is None else None)
    settings = {**(said.settings or {}), **source.settings} if task == (said.task or task) else source.settings
    return replace(source, task=task, settings=settings)


def _decoding(model: TorchModel, source: ModelSource, shapes: Mapping[str, tuple[int, ...]]) -> Decoding:
    """Return what the outputs of a LinGlo mean."""
    task = load_task(source.task or CLASSIFY)
    found = run_once(model.module, model.inputs, shapes, spec=model.name)
    sizes = (tuple(tensor.shape) for _, tensor in found.tensors)
    return task.decoding(dict(zip(model.output_names, sizes, strict=True)), task.complete(source.settings))


def _check_installed() -> None:
    missing = [name for name in _EXPORT_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            "PyTorch models can be neither exported nor run here.",
            found=f"{', '.join(missing)} not installed",
            expected="the extra 'export', which brings PyTorch",
            next_step="pip install 'linglos-deploy[export]'; PyTorch's CPU build is enough, install that one first",
        )


def check_image_size(size: tuple[int, int], *, divisor: int) -> None:
    """Check that height and width, in pixels, are multiples of what the model needs.

    Raises:
        UsageError: One of them is not; the message names the nearest sizes that are.
    """
    if not any(side % divisor for side in size):
        return
    floor = tuple(max(divisor, side // divisor * divisor) for side in size)
    ceiling = tuple(-(-side // divisor) * divisor for side in size)
    nearest = [f"{height} x {width}" for height, width in dict.fromkeys((floor, ceiling))]
    raise UsageError(
        "The image size does not fit the model.",
        found=f"{size[0]} x {size[1]}",
        expected=f"height and width divisible by {divisor}, such as {' or '.join(nearest)}",
        next_step=f"--imgsz {ceiling[0]}" + (f"x{ceiling[1]}" if ceiling[0] != ceiling[1] else ""),
    )


def _describe_linglo(source: ModelSource, checkpoint: Checkpoint | None) -> ModelDescription:
    """Describe a LinGlo whose module has no weights yet."""
    from linglos_deploy.models.linglo import unloaded_linglo
    from linglos_deploy.models.sizes import resolve_config

    task = load_task(source.task or CLASSIFY)
    if checkpoint:
        config = resolve_config(checkpoint, variant=source.variant, task=task.name)
    else:
        config = variant_config(source.variant or "")
        config = replace(config, num_classes=_count_labels(source) or task.num_classes or config.num_classes)
    metadata = checkpoint.metadata if checkpoint else CheckpointMetadata()
    side = task.image_size or config.image_size
    preprocess = metadata.preprocess(metadata.image_size or (side, side))
    settings = task.complete(source.settings)
    return ModelDescription(
        unloaded_linglo(config, task=task.name, settings=settings),
        name=_linglo_name(config, checkpoint) + task.suffix,
        preprocess=preprocess if metadata.fit else replace(preprocess, fit=task.fit),
        output_names=task.outputs(settings),
        num_classes=config.num_classes if task.has_classes else None,
        size_divisor=STRIDES[-1],
    )


def _count_labels(source: ModelSource) -> int | None:
    """Return how many classes random weights are made for, where a task's own head has as many as there are names."""
    return (
        len(read_labels(source.labels)) if source.labels is not None and source.task not in (None, CLASSIFY) else None
    )


def _own_tensors(checkpoint: Checkpoint, task: str) -> Checkpoint:
    """Name the tensors as LinGlo does; a backbone leaves the head behind."""
    from linglos_deploy.models.checkpoint import strip_prefixes

    tensors = strip_prefixes(checkpoint.tensors)
    if task == FEATURES:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(HEAD_TENSORS)}
    return replace(checkpoint, tensors=tensors)


def _linglo_name(config: LinGloConfig, checkpoint: Checkpoint | None) -> str:
    for name, known in VARIANTS.items():
        if (config.dims, config.depths) == (known.dims, known.depths):
            return f"linglo_{name}"
    return checkpoint.path.stem if checkpoint else "linglo"


def _preprocess(
    described: ModelDescription, source: ModelSource, checkpoint: Checkpoint | None
) -> PreprocessSpec | None:
    if described.inputs:
        if source.image_size is not None:
            raise UsageError(
                "The model takes no image that could have a size.",
                found=f"--imgsz with the inputs {', '.join(each.name for each in described.inputs)}",
                expected="sizes in the ModelInput of the factory",
                next_step="leave --imgsz out",
            )
        if source.preprocess.given:
            raise UsageError(
                "The model takes no image that could be prepared.",
                found=f"{', '.join(source.preprocess.given)}, and the inputs"
                f" {', '.join(each.name for each in described.inputs)}",
                expected="nothing about images",
                next_step="leave --mean, --std, --crop-pct and --interpolation out",
            )
        return None
    metadata = checkpoint.metadata if checkpoint else CheckpointMetadata()
    spec = described.preprocess or metadata.preprocess(metadata.image_size or PreprocessSpec().input_size)
    spec = source.preprocess.applied_to(spec)
    return replace(spec, input_size=source.image_size) if source.image_size else spec


def _assumed(
    described: ModelDescription, source: ModelSource, checkpoint: Checkpoint | None, preprocess: PreprocessSpec | None
) -> tuple[str, ...]:
    """Return a warning where the preprocessing of weights that may be trained is assumed."""
    from linglos_deploy.models.linglo import LinGlo

    if preprocess is None or (checkpoint is None and source.own_module is None):
        return ()
    if source.own_module is not None and described.preprocess is not None:
        said = {"input_size"} if isinstance(described.module, LinGlo) else set(OPTIONS)
    else:
        metadata = checkpoint.metadata if checkpoint else CheckpointMetadata()
        fields = {name: "image_size" if name == "input_size" else name for name in OPTIONS}
        said = {name for name, field in fields.items() if getattr(metadata, field) is not None}
    said |= source.preprocess.given.keys() | ({"input_size"} if source.image_size else set())
    warning = assumption(preprocess, said)
    return () if warning is None else (warning,)


def _load_weights(module: nn.Module, source: ModelSource, checkpoint: Checkpoint | None) -> None:
    from linglos_deploy.models.checkpoint import strip_prefixes
    from linglos_deploy.models.synthetic import random_weights
    from linglos_deploy.models.weights import assign_weights, check_numbers

    if checkpoint is None:
        if source.own_module is None:
            assign_weights(module, random_weights(module, seed=source.seed), source="random numbers")
        else:
            check_numbers(module, source=source.own_module)
        return
    expected = module.state_dict()
    tensors = strip_prefixes(checkpoint.tensors, expected=expected)
    if mismatch := compare(tensors, expected):
        if source.own_module is not None:
            raise explain_factory_mismatch(mismatch, path=checkpoint.path, spec=source.own_module)
        raise explain_mismatch(mismatch, tensors, path=checkpoint.path, variant=source.variant)
    assign_weights(module, tensors, source=str(checkpoint.path))


def _finish(
    described: ModelDescription, source: ModelSource, checkpoint: Checkpoint | None, preprocess: PreprocessSpec | None
) -> TorchModel:
    from linglos_deploy.models.weights import state_digest

    return TorchModel(
        module=described.module,
        name=re.sub(r"[^\w.-]+", "_", described.name),
        output_names=described.output_names,
        preprocess=preprocess,
        labels=_labels(described, source, checkpoint) if source.own_module is None else (),
        size_divisor=described.size_divisor,
        digest=state_digest(described.module.state_dict()),
        weights=_weights(described, source, checkpoint),
        lineage=(_step(described, source, checkpoint),),
        inputs=tuple(TensorSpec(each.name, each.dtype, each.shape) for each in described.inputs) or (IMAGE_INPUT,),
        sizes={axis: size for each in described.inputs for axis, size in each.sizes.items()},
    )


def _weights(described: ModelDescription, source: ModelSource, checkpoint: Checkpoint | None) -> Weights:
    """Return what is known of the weights: those of a checkpoint were saved by somebody who trained them."""
    if checkpoint is not None:
        return Weights.TRAINED
    if source.own_module is None:
        return Weights.RANDOM
    return {True: Weights.TRAINED, False: Weights.RANDOM, None: Weights.UNKNOWN}[described.trained]


def _labels(described: ModelDescription, source: ModelSource, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    error: type[UsageError | CheckpointError] = UsageError
    if described.num_classes is None:
        if source.labels is not None:
            raise UsageError(
                "The model has no classes to label.",
                found=f"--labels {source.labels}, and the outputs {', '.join(described.output_names)}",
                expected="one output, N x classes",
                next_step="leave --labels out",
            )
        return ()
    if source.labels is not None:
        labels, origin = read_labels(source.labels), f"in '{source.labels}'"
    elif described.labels:
        labels, origin = described.labels, f"of '{source.own_module}'"
    elif checkpoint is not None and checkpoint.metadata.labels:
        labels, origin, error = checkpoint.metadata.labels, f"in '{checkpoint.path}'", CheckpointError
    else:
        return ()
    if len(labels) != described.num_classes:
        raise error(
            f"The labels {origin} do not fit the model.",
            found=f"{len(labels)} names",
            expected=f"{described.num_classes}, one per class",
            next_step="give a file with one name per class with --labels",
        )
    return labels


def _step(described: ModelDescription, source: ModelSource, checkpoint: Checkpoint | None) -> Step:
    """Record what decides the model; no paths, so that the same model has the same story everywhere."""
    from linglos_deploy.models.linglo import LinGlo

    settings = dict(source.settings)
    config: dict[str, Any] = {"task": source.task or CLASSIFY, **({"settings": settings} if settings else {})}
    if source.factory is not None:
        config["factory"] = source.factory
    if isinstance(described.module, LinGlo):
        sizes = described.module.config
        config |= {"dims": list(sizes.dims), "depths": list(sizes.depths), "num_classes": described.num_classes}
    if checkpoint is not None:
        config["checkpoint_entry"] = checkpoint.entry
    elif source.own_module is None:
        config["seed"] = source.seed
    return Step(
        stage="load",
        inputs={"checkpoint": checkpoint.digest} if checkpoint else {},
        config=config,
        tools=tool_versions("linglos-deploy", "torch"),
    )
