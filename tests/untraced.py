"""PyTorch's capture and translation run without coverage's trace, which would double the time of every export."""

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
    """Pause coverage in the calls of PyTorch's exporter: it reports on our lines, and nearly all in there are not.

    Our modules run in there too, for what they compute; plain calls of them are what their coverage comes from.
    Without coverage, or a debugger that traces, nothing is touched.
    """
    if sys.gettrace() is None:
        yield
        return
    import torch
    import torch.onnx

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (torch.export, "export"),
            (torch.onnx, "export"),
            (torch.onnx.ONNXProgram, "optimize"),
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
