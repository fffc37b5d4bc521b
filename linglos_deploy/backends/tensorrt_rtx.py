"""TensorRT-RTX: builds engines on any x86-64 machine, without a GPU, and runs them on RTX GPUs."""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.backends.trt.backend import Options, TensorRt
from linglos_deploy.backends.trt.flavour import TENSORRT_RTX
from linglos_deploy.backends.trt.runner import RunOptions


def tensorrt_rtx(
    *,
    cache: bool = True,
    cache_dir: Path | None = None,
    verbose: bool = False,
    cuda_graphs: bool = True,
    allow_host_code: bool = False,
    weights: Path | None = None,
) -> TensorRt:
    """Return the TensorRT-RTX backend; its package is imported on first use.

    Args:
        cache: Whether engines of earlier builds are used and kept.
        cache_dir: Where they are kept; ``None`` for this package's folder in the user's cache directory.
        verbose: Whether build logs keep the builder's verbose messages.
        cuda_graphs: Whether repeated shapes run as CUDA graphs.
        allow_host_code: Whether version-compatible engines, which hold host code, may be loaded.
        weights: ONNX file that a weight-stripped engine takes its weights from.
    """
    run = RunOptions(cuda_graphs=cuda_graphs, allow_host_code=allow_host_code, weights=weights)
    return TensorRt(TENSORRT_RTX, Options(cache=cache, cache_dir=cache_dir, verbose=verbose, run=run))
