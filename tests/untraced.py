"""What is long and not ours runs without coverage's trace: it would double the time of every export."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def foreign_calls_untraced() -> Iterator[None]:
    """Pause coverage in PyTorch's exporter and in onnx-ir's reader and writer: it reports on our lines alone.

    Our modules run in the exporter too, for what they compute; plain calls of them are what their coverage comes from.
    Without coverage, or a debugger that traces, nothing is touched.
    """
    if sys.gettrace() is None:
        yield
        return
    import onnx_ir
    import torch
    import torch.onnx

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (torch.export, "export"),
            (torch.onnx, "export"),
            (torch.onnx.ONNXProgram, "optimize"),
            (onnx_ir.serde, "deserialize_model"),
            (onnx_ir.serde, "serialize_model"),
        ):
            patch.setattr(owner, name, untraced(getattr(owner, name)))
        yield


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Return ``function`` without the tracing of what it calls."""

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*arguments, **options)
        finally:
            sys.settrace(tracer)
            _first_call()

    return call


def _first_call() -> None:
    """Be the call at which a tracer takes up its work again, so that it sees the next line of whoever called."""
