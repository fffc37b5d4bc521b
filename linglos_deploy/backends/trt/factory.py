"""What creates the backend of one of TensorRT's flavours: the options that both have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from linglos_deploy.backends.trt.backend import Options, TensorRt
from linglos_deploy.backends.trt.flavour import Flavour
from linglos_deploy.backends.trt.runner import RunOptions


def factory(flavour: Flavour) -> Callable[..., TensorRt]:
    """Return what creates a flavour's backend; the vendor's package is imported on first use."""

    def make(
        *,
        cache: bool = True,
        cache_dir: Path | None = None,
        verbose: bool = False,
        cuda_graphs: bool = True,
        allow_host_code: bool = False,
        weights: Path | str | None = None,
        quick_start: bool = False,
    ) -> TensorRt:
        """Return the backend.

        Args:
            cache: Whether engines of earlier builds are used and kept.
            cache_dir: Where they are kept; ``None`` for this package's folder in the user's cache directory.
            verbose: Whether build logs keep the builder's verbose messages.
            cuda_graphs: Whether repeated shapes run as CUDA graphs.
            allow_host_code: Whether version-compatible engines, which hold host code, may be loaded.
            weights: ONNX file that a weight-stripped engine takes its weights from; ``None`` looks for the graph that
                it was compiled from, by its digest, where it lay then and beside the engine.
            quick_start: Whether TensorRT-RTX may answer before the kernels for the shapes at hand are compiled.
        """
        run = RunOptions(
            cuda_graphs=cuda_graphs,
            allow_host_code=allow_host_code,
            weights=None if weights is None else Path(weights),
            quick_start=quick_start,
        )
        return TensorRt(flavour, Options(cache=cache, cache_dir=cache_dir, verbose=verbose, run=run))

    return make
