"""Which LinGlo a checkpoint holds: as it says, else as its tensors' shapes tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from linglos_deploy.errors import CheckpointError, UsageError
from linglos_deploy.models.variants import VARIANTS, LinGloConfig, variant_config
from linglos_deploy.tasks.registry import CLASSIFY, FEATURES, load_task

if TYPE_CHECKING:
    import torch

    from linglos_deploy.models.checkpoint import Checkpoint

Tensors = Mapping[str, "torch.Tensor"]
STAGES = range(4)
DEFAULT_CLASSES = 1000


def resolve_config(checkpoint: Checkpoint, *, variant: str | None, task: str = CLASSIFY) -> LinGloConfig:
    """Find out the sizes of the model in a checkpoint.

    A variant that the user asks for decides dims and depths, so that a checkpoint of another size is an error and not
    silently another model. Without one, they come from the metadata, else from the shapes. The number of classes always
    comes from the checkpoint where it tells.

    Raises:
        CheckpointError: The metadata gives impossible sizes.
    """
    said, tensors = checkpoint.metadata, checkpoint.tensors
    name = variant or said.variant
    named = variant_config(name) if name else None
    dims = named.dims if named else infer_dims(tensors)
    depths = named.depths if named else infer_depths(tensors)
    if variant is None:
        dims, depths = said.dims or dims, said.depths or depths
    if dims is None or depths is None:  # not a LinGlo: whatever it is compared with will show the difference
        nearest = VARIANTS[nearest_variant(tensors)[0]]
        dims, depths = dims or nearest.dims, depths or nearest.depths
    classes = said.num_classes or infer_classes(tensors, task=task) or DEFAULT_CLASSES
    try:
        return LinGloConfig(dims, depths, num_classes=classes)
    except UsageError as error:
        raise CheckpointError(
            f"'{checkpoint.path}' describes an impossible LinGlo: {error.message}",
            found=error.found,
            expected=error.expected,
            next_step="bring a model of another architecture with --model package.module:factory",
        ) from error


def infer_dims(tensors: Tensors) -> tuple[int, int, int, int] | None:
    """Read the channels of the four stages from the layers that lead into them; ``None`` if one is missing."""
    names = ("stem.2.0.weight", *(f"downsamples.{stage}.project.0.weight" for stage in STAGES[:-1]))
    if not all(name in tensors and tensors[name].ndim == 4 for name in names):
        return None
    first, second, third, fourth = (tensors[name].shape[0] for name in names)
    return first, second, third, fourth


def infer_depths(tensors: Tensors) -> tuple[int, int, int, int] | None:
    """Count the pairs of layers in the four stages; ``None`` if a stage has none."""
    layers: dict[int, set[int]] = {stage: set() for stage in STAGES}
    for name in tensors:
        if match := re.match(r"stages\.([0-3])\.(\d+)\.", name):
            layers[int(match[1])].add(int(match[2]))
    if not all(layers.values()):
        return None
    first, second, third, fourth = (max(layers[stage]) // 2 + 1 for stage in STAGES)
    return first, second, third, fourth


def infer_classes(tensors: Tensors, *, task: str = CLASSIFY) -> int | None:
    """Read the number of classes from the layer of a task that has an output for each; ``None`` without one."""
    head = tensors.get(load_task(task).class_tensor or "")
    return head.shape[0] if head is not None and head.ndim in (2, 4) else None


def nearest_variant(tensors: Tensors) -> tuple[str, float]:
    """Return the variant with the most tensors of the same name and shape, and their share of all names of both."""
    from linglos_deploy.models.linglo import unloaded_linglo

    def agreement(config: LinGloConfig) -> float:
        expected = unloaded_linglo(config, task=FEATURES).state_dict()
        common: int = sum(name in tensors and tensors[name].shape == value.shape for name, value in expected.items())
        return common / len(expected.keys() | tensors.keys())

    return max(((name, agreement(config)) for name, config in VARIANTS.items()), key=lambda pair: pair[1])
