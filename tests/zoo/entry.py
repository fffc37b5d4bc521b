"""An architecture of the zoo: how it is made, small and with seeded random weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from linglos_deploy.models.factory import ModelInput


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        name: What the report calls it.
        build: Makes the module; its weights are replaced by seeded ones.
        size: Height and width of its images.
        inputs: What it takes, where that is no image.
        integers: Values that an integer input takes are below this.
        fast: Whether it takes part in every run of the tests.
        limits: What cannot be, by stage, each with a part of the message that says so.
    """

    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, int] = (32, 32)
    inputs: tuple[ModelInput, ...] = ()
    integers: Mapping[str, int] = field(default_factory=dict)
    fast: bool = False
    limits: Mapping[str, str] = field(default_factory=dict)

    def module(self) -> nn.Module:
        """Return the module with seeded weights, in evaluation mode."""
        torch.manual_seed(0)
        return seeded(self.build())


@torch.no_grad()
def seeded(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give a module weights under which activations keep their size and outputs differ from input to input.

    The small initial numbers of most libraries make outputs nearly constant, and then anything passes.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if value.dim() >= 2 and value.shape[0] > 1 and "embed" not in name:
            value.normal_(std=1 / math.sqrt(math.prod(value.shape[1:])), generator=generator)
        elif value.dim() >= 2:
            value.normal_(std=0.5, generator=generator)
        elif name.endswith("weight") or "scale" in name or "gamma" in name or "lambda" in name:
            value.uniform_(0.5, 1.5, generator=generator)
        else:
            value.normal_(std=0.1, generator=generator)
    for child in module.modules():
        if isinstance(getattr(child, "running_mean", None), torch.Tensor):
            child.running_mean.normal_(std=0.2, generator=generator)
            child.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()
