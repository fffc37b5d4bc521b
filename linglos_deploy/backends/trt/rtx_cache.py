"""TensorRT-RTX compiles its kernels when a model is first run; they are kept in a file for the next process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from linglos_deploy.backends.trt.flavour import member
from linglos_deploy.engines.cache import locked, read_blob, write_blob


@contextmanager
def runtime_config(module: Any, engine: Any, *, cache: Path | None, cuda_graphs: bool) -> Iterator[Any]:
    """Yield a runtime configuration; afterwards write the kernels that were compiled under it.

    Args:
        module: TensorRT-RTX.
        engine: The engine that contexts will be made of.
        cache: File with compiled kernels; ``None`` to keep none.
        cuda_graphs: Whether whole networks are recorded as CUDA graphs.
    """
    config = engine.create_runtime_config()
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
