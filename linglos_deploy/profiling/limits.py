"""What this machine can do at most: float32 products and bytes a second, measured in a process of its own.

``python -m linglos_deploy.profiling.limits 2`` prints both for two threads, as JSON. Products are those of a large
matrix product by ONNX Runtime, bytes those of a copy that no cache holds. Both are the fastest of several tries: a
limit is what was reached once, however busy the machine was in between.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.codec import from_json, to_builtins
from linglos_deploy.errors import RunError
from linglos_deploy.reports.profile import MachineLimits

COMMAND = (sys.executable, "-m", "linglos_deploy.profiling.limits")

_SIDE = 1024
_COPIED_BYTES = 128 << 20
_TRIES = 8
_TIMEOUT_SECONDS = 120


def measure_limits(threads: int) -> MachineLimits:
    """Measure this machine's limits with so many threads, in a fresh process.

    Raises:
        RunError: The process failed.
    """
    try:
        done = subprocess.run([*COMMAND, str(threads)], capture_output=True, timeout=_TIMEOUT_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise RunError(
            "The machine's limits could not be measured.", found=str(error), next_step="measure without --layers"
        ) from error
    return from_json(MachineLimits, done.stdout, source="the machine's limits")


def products_a_second(threads: int, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return multiplications with their additions a second, float32, of a square matrix product."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [_SIDE, _SIDE]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", tensors[:2], tensors[2:])
    random = np.random.default_rng(0)
    feeds = {name: random.random((_SIDE, _SIDE), dtype=np.float32) for name in "ab"}
    backend = registry.runtime("onnxruntime", threads=threads, reuse_outputs=True)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
        with backend.open(open_onnx(path)) as runner:
            return _SIDE**3 / _fastest(lambda: runner.run(feeds), clock)


def bytes_a_second(threads: int, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return bytes read and written a second by threads that copy what no cache holds."""
    import numpy as np

    source = np.ones(_COPIED_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _fastest(lambda: list(pool.map(lambda part: np.copyto(*part), parts)), clock)
    return 2 * _COPIED_BYTES / seconds


def _fastest(work: Callable[[], object], clock: Callable[[], float]) -> float:
    work()
    times = []
    for _ in range(_TRIES):
        started = clock()
        work()
        times.append(clock() - started)
    return min(times)


if __name__ == "__main__":
    count = int(sys.argv[1])
    print(json.dumps(to_builtins(MachineLimits(count, products_a_second(count), bytes_a_second(count)))))
