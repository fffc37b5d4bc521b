"""TensorRT-RTX compiles its kernels when a model is first run; they are kept in a file for the next process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linglos_deploy.backends.trt.flavour import member
from linglos_deploy.engines.cache import locked, read_blob, write_blob


@contextmanager
def runtime_config(
    module: Any, engine: Any, *, cache: Path | None, cuda_graphs: bool, quick_start: bool = False
) -> Iterator[Any]:
    """Yield a runtime configuration; afterwards write the kernels that were compiled under it.

    Kernels for the shapes at hand are compiled before the first run returns, so that what is checked and measured is
    what will run from then on, and what is written at the end is complete. With ``quick_start`` they are compiled in
    the background while general ones answer; then the file has what was ready by the end.

    Args:
        module: TensorRT-RTX.
        engine: The engine that contexts will be made of.
        cache: File with compiled kernels; ``None`` to keep none.
        cuda_graphs: Whether whole networks are recorded as CUDA graphs.
        quick_start: Whether the first run may return before the kernels for its shapes are compiled.
    """
    config = engine.create_runtime_config()
    specialization = member(module, "DynamicShapesKernelSpecializationStrategy", "LAZY" if quick_start else "EAGER")
    if specialization is not None:
        config.dynamic_shapes_kernel_specialization_strategy = specialization
    strategy = member(module, "CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE" if cuda_graphs else "DISABLED")
    if strategy is not None:
        config.cuda_graph_strategy = strategy
    if cache is None or not hasattr(config, "create_runtime_cache"):
        yield config
        return
    kernels = config.create_runtime_cache()
    with locked(_lock(cache)):
        before = read_blob(cache)
    if before:
        kernels.deserialize(before)  # a cache of another release or GPU is refused, and then simply refilled
    config.set_runtime_cache(kernels)
    yield config
    after = bytes(kernels.serialize())
    if after != before:
        with locked(_lock(cache)):
            write_blob(cache, after)


def _lock(cache: Path) -> Path:
    return cache.with_suffix(".lock")
