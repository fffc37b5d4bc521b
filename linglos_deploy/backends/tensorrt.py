"""TensorRT 10.3 to 11.x: builds engines for the GPU at hand and runs them there."""

from __future__ import annotations

from linglos_deploy.backends.trt.backend import Options, TensorRt
from linglos_deploy.backends.trt.flavour import TENSORRT


def tensorrt(*, verbose: bool = False) -> TensorRt:
    """Return the TensorRT backend; its package is imported on first use.

    Args:
        verbose: Whether build logs keep the builder's verbose messages.
    """
    return TensorRt(TENSORRT, Options(verbose=verbose))
