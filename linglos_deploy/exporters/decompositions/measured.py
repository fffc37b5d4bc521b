"""The stopwatch behind ``--decomposition measured``: each form as a graph of its own, on the target runtime."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.base import Runtime
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.decompositions.registry import REFERENCE

ROUNDS = 15


class RuntimeTimer:
    """Times interchangeable modules on a runtime; equal shapes are measured once.

    Args:
        runtime: Where the graph will run.
        config: Opset of the graphs.
    """

    def __init__(self, runtime: Runtime, config: ExportConfig) -> None:
        self.runtime = runtime
        self.config = ExportConfig(opset=config.opset, batch=1, decomposition=REFERENCE)
        self._known: dict[tuple[object, ...], dict[str, float]] = {}

    def __call__(self, modules: dict[str, nn.Module], sample: Tensor) -> dict[str, float]:
        """Return the shortest time of each module, in milliseconds, from interleaved runs."""
        weights = next(iter(modules.values())).parameters()
        key = (*sample.shape, *(tuple(weight.shape) for weight in weights))
        if key not in self._known:
            self._known[key] = self._measure(modules, sample)
        return self._known[key]

    def _measure(self, modules: dict[str, nn.Module], sample: Tensor) -> dict[str, float]:
        times: dict[str, list[float]] = {form: [] for form in modules}
        batch = {"image": sample.numpy()}
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            runners = {}
            for form, module in modules.items():
                path = Path(folder) / f"{form}.onnx"
                path.write_bytes(_graph(module, sample, self.config))
                runners[form] = stack.enter_context(self.runtime.open(open_onnx(path)))
                runners[form].run(batch)
            for _ in range(ROUNDS):
                for form, runner in runners.items():
                    start = time.perf_counter()
                    runner.run(batch)
                    times[form].append(1e3 * (time.perf_counter() - start))
        return {form: min(values) for form, values in times.items()}


def _graph(module: nn.Module, sample: Tensor, config: ExportConfig) -> bytes:
    from linglos_deploy.exporters.simplify import shorten
    from linglos_deploy.exporters.tracing import capture_and_translate
    from linglos_deploy.graph.passes.reshape_targets import FixReshapeTargets
    from linglos_deploy.graph.passes.running import run_passes

    model = capture_and_translate(module.eval(), torch.zeros_like(sample), opset=config.opset)
    model = run_passes(model, FixReshapeTargets())
    data: bytes = shorten(model).SerializeToString()
    return data
