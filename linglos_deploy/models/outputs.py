"""What somebody else's module returns: seen by running it once on zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from linglos_deploy.artifacts import IMAGE_INPUT
from linglos_deploy.errors import UsageError
from linglos_deploy.models.variants import Task

if TYPE_CHECKING:
    from torch import nn

    from linglos_deploy.backends.calling import Returned
    from linglos_deploy.models.factory import ModelDescription
    from linglos_deploy.signature import TensorSpec

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What a run showed.

    Attributes:
        described: The description, with names of outputs and number of classes filled in.
        warnings: What was left out.
    """

    described: ModelDescription
    warnings: tuple[str, ...] = ()


def observe_outputs(
    described: ModelDescription,
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    task: Task,
    spec: str,
) -> Observed:
    """Fill in names of outputs and number of classes by running the model.

    Args:
        described: The model, weights in place.
        inputs: What it takes.
        shapes: The shape of each input.
        task: What it is meant to be.
        spec: What an error message calls it.

    Raises:
        UsageError: The model fails, returns no tensor, or not as many as were named.
    """
    found = run_once(described.module, inputs, shapes, spec=spec)
    sizes = tuple(tuple(tensor.shape) for _, tensor in found.tensors)
    names = described.output_names or _names(found, shapes, task)
    if len(names) != len(sizes) or len(set(names)) != len(names):
        raise UsageError(
            f"The description of '{spec}' does not name its outputs.",
            found=", ".join(names),
            expected=f"{len(sizes)} different names, one per output",
            next_step="correct output_names in ModelDescription",
        )
    classes = sizes[0][-1] if task is Task.CLASSIFY and len(sizes) == 1 and len(sizes[0]) == 2 else None
    if described.num_classes not in (None, classes):
        raise UsageError(
            f"The description of '{spec}' gives another number of classes than the model.",
            found=str(described.num_classes),
            expected=str(classes),
            next_step="correct num_classes in ModelDescription, or leave it out",
        )
    left_out = f"'{spec}' returns what is no tensor, and no graph can: {', '.join(found.left_out)}; it is left out."
    return Observed(replace(described, output_names=names, num_classes=classes), (left_out,) if found.left_out else ())


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
        return name_outputs(tuple(tuple(tensor.shape) for _, tensor in found.tensors), (size[0], size[1]), task)
    taken = Counter(list(shapes))
    names = []
    for position, (key, _) in enumerate(found.tensors):
        name = key if key and not key.startswith("_") else f"output{key or f'_{position}'}"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}_{position}")
    return tuple(names)


def name_outputs(shapes: Shapes, input_size: tuple[int, int], task: Task) -> tuple[str, ...]:
    """Name outputs by what they are: ``logits``, ``features_<stride>``, else ``output_<position>``.

    >>> name_outputs(((1, 10),), (64, 64), Task.CLASSIFY)
    ('logits',)
    >>> name_outputs(((1, 32, 16, 16), (1, 64, 8, 8)), (64, 64), Task.FEATURES)
    ('features_4', 'features_8')
    """
    if task is Task.CLASSIFY and len(shapes) == 1:
        return ("logits",)
    if task is Task.FEATURES and all(len(shape) == 4 for shape in shapes):
        names = tuple(f"features_{input_size[0] // shape[2]}" for shape in shapes)
        if len(set(names)) == len(names):
            return names
    return tuple(f"output_{position}" for position in range(len(shapes)))
