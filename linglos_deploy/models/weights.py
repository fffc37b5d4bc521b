"""Weights into a module, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from linglos_deploy.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import nn


def assign_weights(module: nn.Module, tensors: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Make ``tensors`` the module's parameters and buffers, floats as float32, without copying what is float32.

    The module may lie on the meta device, where it costs neither time nor memory. The names and shapes must fit, see
    :func:`linglos_deploy.models.mismatch.compare`.

    Raises:
        CheckpointError: A tensor is not a number for a parameter of floats, or holds NaN or infinity.
    """
    import torch

    expected = module.state_dict()
    values = {
        name: _as_expected(tensors[name], wanted, name=name, source=source)
        if name in tensors
        else torch.zeros((), dtype=wanted.dtype)
        for name, wanted in expected.items()
    }
    module.load_state_dict(values, assign=True)


def check_numbers(module: nn.Module, *, source: str) -> None:
    """Check that a module that came with its weights holds numbers. Infinity may be meant, as in a mask; NaN never is.

    Raises:
        CheckpointError: A parameter or buffer holds NaN.
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point() and (count := int(value.isnan().sum())):
            raise CheckpointError(
                f"Tensor '{name}' of '{source}' holds NaN.",
                found=f"{count} of {value.numel()} values",
                expected="numbers",
                next_step="load weights from before the training diverged",
            )


def state_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, element types, shapes and little-endian bytes, in the order of names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _as_expected(tensor: torch.Tensor, wanted: torch.Tensor, *, name: str, source: str) -> torch.Tensor:
    import torch

    if not wanted.is_floating_point():
        return tensor.to(wanted.dtype)
    if tensor.is_quantized or not tensor.is_floating_point():
        raise CheckpointError(
            f"Tensor '{name}' in '{source}' does not hold trained weights.",
            found=str(tensor.dtype).removeprefix("torch."),
            expected="float32, float16, bfloat16 or float64",
            next_step="give the checkpoint from before quantization; --int8 quantizes here",
        )
    value = tensor.to(torch.float32)
    if value.numel() and not all(bound.isfinite() for bound in torch.aminmax(value)):
        raise CheckpointError(
            f"Tensor '{name}' in '{source}' holds NaN or infinity.",
            found=f"{int((~value.isfinite()).sum())} of {value.numel()} values",
            expected="finite numbers in float32",
            next_step="use a checkpoint from before the training diverged",
        )
    return value
