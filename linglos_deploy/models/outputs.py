"""What somebody else's module returns: seen by running it once on a black image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from linglos_deploy.errors import UsageError
from linglos_deploy.models.variants import Task

if TYPE_CHECKING:
    from torch import nn

    from linglos_deploy.models.factory import ModelDescription

Shapes = tuple[tuple[int, ...], ...]


def observe_outputs(
    described: ModelDescription, input_size: tuple[int, int], *, task: Task, spec: str
) -> ModelDescription:
    """Fill in names of outputs and number of classes by running the model.

    Args:
        described: The model, weights in place.
        input_size: Height and width in pixels.
        task: What it is meant to be.
        spec: What an error message calls it.

    Raises:
        UsageError: The model fails, returns something else than tensors, or not as many as were named.
    """
    shapes = output_shapes(described.module, input_size, spec=spec)
    names = described.output_names or name_outputs(shapes, input_size, task)
    if len(names) != len(shapes) or len(set(names)) != len(names):
        raise UsageError(
            f"The description of '{spec}' does not name its outputs.",
            found=", ".join(names),
            expected=f"{len(shapes)} different names, one per output",
            next_step="correct output_names in ModelDescription",
        )
    classes = shapes[0][-1] if task is Task.CLASSIFY and len(shapes) == 1 and len(shapes[0]) == 2 else None
    if described.num_classes not in (None, classes):
        raise UsageError(
            f"The description of '{spec}' gives another number of classes than the model.",
            found=str(described.num_classes),
            expected=str(classes),
            next_step="correct num_classes in ModelDescription, or leave it out",
        )
    return replace(described, output_names=names, num_classes=classes)


def output_shapes(module: nn.Module, input_size: tuple[int, int], *, spec: str) -> Shapes:
    """Run a module on one black image.

    Args:
        module: Takes float32 N x 3 x H x W.
        input_size: Height and width in pixels.
        spec: What an error message calls the module.

    Returns:
        The shape of each output, the first axis of which is the batch.

    Raises:
        UsageError: The module fails, or returns something else than tensors.
    """
    import torch

    image = torch.zeros(1, 3, *input_size)
    try:
        with torch.inference_mode():
            result = module(image)
    except Exception as error:  # anything can go wrong in somebody else's forward
        raise UsageError(
            f"The model of '{spec}' cannot run on an image of {input_size[0]} x {input_size[1]}.",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
            expected="a module that takes float32 N x 3 x H x W",
            next_step="choose a size that the model takes with --imgsz, or describe it with ModelDescription",
        ) from error
    outputs = result if isinstance(result, tuple | list) else (result,)
    if not outputs or not all(isinstance(value, torch.Tensor) for value in outputs):
        raise UsageError(
            f"The model of '{spec}' returns something else than tensors.",
            found=f"a {type(result).__name__}"
            + (f" of {', '.join(type(value).__name__ for value in outputs)}" if outputs is result else ""),
            expected="a tensor, or a tuple of tensors",
            next_step="wrap the model in a module that returns only its tensors",
        )
    return tuple(tuple(value.shape) for value in outputs)


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
