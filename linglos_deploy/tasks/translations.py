"""Operators that heads of tasks add to PyTorch, and what the exporter writes for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""From an operator's overload, as ``torch.ops`` has it, to a function of onnxscript; filled where heads are defined."""
