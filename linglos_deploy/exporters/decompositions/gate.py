"""The eight tensors of key-only attention as float64 matrices, whatever module they came from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from linglos_deploy.errors import ExportError
from linglos_deploy.models.attention import SaliencyGate


@dataclass(frozen=True, slots=True)
class Gate:
    """Float64 matrices in the notation of :mod:`linglos_deploy.models.attention`; biases that are missing are zero.

    The saliency's own bias is left out: it is constant over the positions and cancels in the softmax.
    """

    heads: int
    Wk: Tensor
    bk: Tensor
    Wg: Tensor
    Wv: Tensor
    bv: Tensor
    Wo: Tensor
    bo: Tensor

    @property
    def channels(self) -> int:
        """C."""
        return self.Wk.shape[0]

    @property
    def scores(self) -> Tensor:
        """Wg Wk, h x C: the saliency straight from X. ``S = Wg (Wk X + bk) + bg = (Wg Wk) X + constant``."""
        return self.Wg @ self.Wk


def read_gate(gate: SaliencyGate) -> Gate:
    """Turn what a module said about itself into matrices.

    Raises:
        ExportError: A tensor has another shape than the formulas ask for.
    """
    key = matrix(gate.key)
    channels = key.shape[0]
    if gate.heads < 1 or channels % gate.heads:
        raise ExportError(f"{gate.heads} heads do not divide {channels} channels")
    weights = {"key": key, "gate": matrix(gate.gate), "value": matrix(gate.value), "out": matrix(gate.out)}
    for name, weight in weights.items():
        rows = gate.heads if name == "gate" else channels
        if tuple(weight.shape) != (rows, channels):
            raise ExportError(f"'{name}' is {tuple(weight.shape)} where {(rows, channels)} was expected")
    biases = {
        name: vector(getattr(gate, f"{name}_bias", None), channels, name=f"{name}_bias")
        for name in ("key", "value", "out")
    }
    return Gate(
        heads=gate.heads,
        Wk=key,
        bk=biases["key"],
        Wg=weights["gate"],
        Wv=weights["value"],
        bv=biases["value"],
        Wo=weights["out"],
        bo=biases["out"],
    )


def matrix(weight: Tensor) -> Tensor:
    """Return a linear map's weight, or a 1x1 convolution's, as a float64 matrix.

    Raises:
        ExportError: It has more than two axes that are longer than one.
    """
    weight = weight.detach()
    if weight.dim() > 2 and weight[0, 0].numel() == 1:
        weight = weight.flatten(1)
    if weight.dim() != 2:
        raise ExportError(f"a weight is {tuple(weight.shape)} where a matrix or a 1x1 convolution was expected")
    return weight.double()


def vector(bias: Tensor | None, size: int, *, name: str) -> Tensor:
    """Return a bias as float64 of shape (size,), zeros where there is none.

    Raises:
        ExportError: It has another number of elements.
    """
    if bias is None:
        return torch.zeros(size, dtype=torch.float64)
    if bias.numel() != size:
        raise ExportError(f"'{name}' has {bias.numel()} elements where {size} were expected")
    return bias.detach().double().flatten()
