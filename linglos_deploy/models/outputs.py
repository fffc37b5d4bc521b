"""What somebody else's module returns: seen by running it once on zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from linglos_deploy.artifacts import IMAGE_INPUT
from linglos_deploy.errors import UsageError
from linglos_deploy.signature import Decoding
from linglos_deploy.tasks.registry import CLASSIFY, FEATURES, load_task
from linglos_deploy.tasks.task import Settings, Task

if TYPE_CHECKING:
    from torch import nn

    from linglos_deploy.backends.calling import Returned
    from linglos_deploy.models.factory import ModelDescription
    from linglos_deploy.signature import TensorSpec


@dataclass(frozen=True, slots=True)
class Observed:
    """What a run showed.

    Attributes:
        described: The description, with names of outputs and number of classes filled in.
        decoding: What the outputs mean.
        warnings: What was left out.
    """

    described: ModelDescription
    decoding: Decoding
    warnings: tuple[str, ...] = ()


def observe_outputs(
    described: ModelDescription,
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    task: str | None,
    settings: Settings,
    spec: str,
) -> Observed:
    """Fill in names of outputs and number of classes by running the model.

    Args:
        described: The model, weights in place.
        inputs: What it takes.
        shapes: The shape of each input.
        task: What it is meant to be; ``None`` if nobody said: a classifier if it looks like one, else bare outputs.
        settings: What was chosen of the task's settings.
        spec: What an error message calls it.

    Raises:
        UsageError: The model fails, returns no tensor, not as many as were named, or not what the task needs.
    """
    found = run_once(described.module, inputs, shapes, spec=spec)
    sizes = tuple(tuple(tensor.shape) for _, tensor in found.tensors)
    kind = load_task(task or CLASSIFY)
    names = described.output_names or _names(found, shapes, kind)
    if len(names) != len(sizes) or len(set(names)) != len(names):
        raise UsageError(
            f"The description of '{spec}' does not name its outputs.",
            found=", ".join(names),
            expected=f"{len(sizes)} different names, one per output",
            next_step="correct output_names in ModelDescription",
        )
    outputs = dict(zip(names, sizes, strict=True))
    try:
        decoding = kind.decoding(outputs, kind.complete(settings))
    except UsageError:
        if task is not None:
            raise
        kind = load_task(FEATURES)
        decoding = kind.decoding(outputs, {})
    classes = kind.count_classes(outputs, decoding)
    if described.num_classes not in (None, classes):
        raise UsageError(
            f"The description of '{spec}' gives another number of classes than the model.",
            found=str(described.num_classes),
            expected=str(classes),
            next_step="correct num_classes in ModelDescription, or leave it out",
        )
    left_out = f"'{spec}' returns what is no tensor, and no graph can: {', '.join(found.left_out)}; it is left out."
    described = replace(described, output_names=names, num_classes=classes)
    return Observed(described, decoding, (left_out,) if found.left_out else ())


def run_once(
    module: nn.Module, inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]], *, spec: str
) -> Returned:
    """Run a module on zeros.

    Args:
        module: What is run.
        inputs: What it takes.
        shapes: The shape of each input.
        spec: What an error message calls the module.

    Raises:
        UsageError: The module fails, or returns no tensor.
    """
    import torch

    from linglos_deploy.backends.calling import call, returned

    takes = ", ".join(each.describe() for each in inputs)
    zeros = {each.name: torch.zeros(shapes[each.name], dtype=getattr(torch, each.dtype)) for each in inputs}
    try:
        with torch.inference_mode():
            result = call(module, zeros)
    except Exception as error:  # anything can go wrong in somebody else's forward
        text = str(error).strip()
        height, width = shapes[inputs[0].name][-2:] if tuple(inputs) == (IMAGE_INPUT,) else (0, 0)
        raise UsageError(
            f"The model of '{spec}' cannot run on " + (f"an image of {height} x {width}." if height else "its inputs."),
            found=f"{type(error).__name__}: {text.splitlines()[0] if text else ''}",
            expected=f"a module that takes {takes}",
            next_step="choose a size that the model takes with --imgsz, or describe it with ModelDescription"
            if height
            else "correct inputs in ModelDescription",
        ) from error
    found = returned(result)
    if not found.tensors:
        raise UsageError(
            f"The model of '{spec}' returns no tensor.",
            found=f"a {type(result).__name__}" + (f" of {', '.join(found.left_out)}" if found.left_out else ""),
            expected="a tensor, or tensors in tuples, lists, dicts or dataclasses that PyTorch knows as trees",
            next_step="wrap the model in a module that returns its tensors",
        )
    return found


def _names(found: Returned, shapes: Mapping[str, tuple[int, ...]], task: Task) -> tuple[str, ...]:
    """Return names by key where the module gives keys, else by what the outputs are; none is an input's."""
    if not found.keyed:
        size = next((shape[-2:] for shape in shapes.values() if len(shape) == 4), (1, 1))
        sizes = tuple(tuple(tensor.shape) for _, tensor in found.tensors)
        return task.name_outputs(sizes, (size[0], size[1]), {})
    taken = Counter(list(shapes))
    names = []
    for position, (key, _) in enumerate(found.tensors):
        name = key if key and not key.startswith("_") else f"output{key or f'_{position}'}"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}_{position}")
    return tuple(names)
