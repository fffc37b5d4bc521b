"""Runs one graph on one runtime with one thread, on request: a process of its own, so that nothing else is warm.

Reads a number of runs per line; answers ``CPU-milliseconds wall-milliseconds peak-MiB`` per run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def open_graph(runtime: str, path: str, shape: tuple[int, ...]) -> Callable[[], object]:
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"image": image})
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(shape))
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([image])


def peak_mebibytes() -> float:
    """Return the process's own peak; ``ru_maxrss`` would start at the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    runtime, path, shape = sys.argv[1], sys.argv[2], tuple(int(size) for size in sys.argv[3].split(","))
    __import__({"onnxruntime": "onnxruntime", "openvino": "openvino"}[runtime])
    before = peak_mebibytes()
    run = open_graph(runtime, path, shape)
    for _ in range(2):
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        runs = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(runs):
            run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(1e3 * cpu / runs, 1e3 * wall / runs, peak_mebibytes() - before, flush=True)


if __name__ == "__main__":
    main()
