"""TensorRT-RTX: builds engines on any x86-64 machine, without a GPU, and runs them on RTX GPUs."""

from __future__ import annotations

from linglos_deploy.backends.trt.backend import Options, TensorRt
from linglos_deploy.backends.trt.flavour import TENSORRT_RTX


def tensorrt_rtx(*, verbose: bool = False) -> TensorRt:
    """Return the TensorRT-RTX backend; its package is imported on first use.

    Args:
        verbose: Whether build logs keep the builder's verbose messages.
    """
    return TensorRt(TENSORRT_RTX, Options(verbose=verbose))
