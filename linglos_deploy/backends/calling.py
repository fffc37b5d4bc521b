"""A PyTorch module as a function from named tensors to named tensors, whatever it takes and returns.

before: module(pixel_values=x) -> ImageClassifierOutput(logits=t, hidden_states=(u, v))
after:  named_outputs(...) -> [("logits", t), ("hidden_states_0", u), ("hidden_states_1", v)]
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True, slots=True)
class Returned:
    """What a module returned.

    Attributes:
        tensors: Each tensor with its name, in the module's own order. The name is made of the keys on the way to it; it
            is empty for a module that returns one tensor and nothing around it. Plain numbers became tensors.
        left_out: What is no tensor, each as its name and its type, such as ``"cache: DynamicCache"``.
        keyed: Whether the names come from keys, not from positions alone.
    """

    tensors: tuple[tuple[str, Tensor], ...]
    left_out: tuple[str, ...]
    keyed: bool


def call(module: nn.Module, inputs: Mapping[str, Tensor]) -> object:
    """Call ``module`` with its inputs, by keyword where its ``forward`` has parameters of all these names."""
    if takes_keywords(module, inputs):
        return module(**inputs)
    return module(*inputs.values())


def takes_keywords(module: nn.Module, names: Iterable[str]) -> bool:
    """Return whether ``forward`` names each of these parameters."""
    parameters = inspect.signature(module.forward).parameters
    by_keyword = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return all(name in parameters and parameters[name].kind in by_keyword for name in names)


def returned(result: object) -> Returned:
    """Flatten what a module returned: tuples, lists, dicts and whatever else PyTorch knows as a tree.

    >>> [name for name, _ in returned({"boxes": torch.zeros(1), "scores": (torch.zeros(1), torch.ones(1))}).tensors]
    ['boxes', 'scores_0', 'scores_1']
    """
    leaves, _ = pytree.tree_flatten_with_path(result)
    tensors, left_out = [], []
    for path, leaf in leaves:
        if leaf is None:
            continue
        name = _name(path)
        if isinstance(leaf, Tensor):
            tensors.append((name, leaf))
        elif isinstance(leaf, bool | int | float | torch.SymInt | torch.SymFloat | torch.SymBool):
            tensors.append((name, _as_tensor(leaf)))
        else:
            left_out.append(f"{name or 'the result'}: {type(leaf).__name__}")
    keyed = any(isinstance(key, pytree.MappingKey | pytree.GetAttrKey) for path, _ in leaves for key in path)
    return Returned(tuple(tensors), tuple(left_out), keyed)


class Flat(nn.Module):
    """Takes the inputs by position and returns a tuple of tensors, for tools that know nothing else.

    Args:
        module: What is called.
        input_names: Names of its inputs.
    """

    PREFIX = "module"
    """Path of the module inside this one."""

    def __init__(self, module: nn.Module, input_names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.input_names = tuple(input_names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the module."""
        result = call(self.module, dict(zip(self.input_names, inputs, strict=True)))
        return tuple(tensor for _, tensor in returned(result).tensors)


def _as_tensor(number: Any) -> Tensor:
    symbolic = isinstance(number, torch.SymInt)
    return torch.scalar_tensor(number, dtype=torch.int64) if symbolic else torch.tensor(number)


def _name(path: tuple[object, ...]) -> str:
    name = ""
    for key in path:
        if isinstance(key, pytree.SequenceKey):
            part = f"_{key.idx}"
        elif isinstance(key, pytree.GetAttrKey):
            part = f".{key.name}"
        elif isinstance(key, pytree.MappingKey):
            part = f"_{key.key}" if isinstance(key.key, int) else f".{key.key}"
        else:
            part = f".{key}"
        name += part
    return re.sub(r"[^\w.]+", "_", name.lstrip("."))
