"""What the user will really run: the fast INT8 kernels of this CPU, next to the graph's own answer."""

from __future__ import annotations

from collections.abc import Sequence

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.base import Runtime
from linglos_deploy.backends.cpu import CpuFeatures, this_cpu
from linglos_deploy.choices import Precision
from linglos_deploy.parity.recording import Recording
from linglos_deploy.parity.verdict import Criteria, Limits, check_parity
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import Int8Comparison
from linglos_deploy.signature import Batch

TOLERANCE = 0.005
"""Difference of cosines above which the two modes answer differently; without overflow it stays below 0.001."""


def compare_int8_modes(
    reference: Recording,
    model: OnnxArtifact,
    batches: Sequence[Batch],
    *,
    exact: Runtime,
    fast: Runtime,
    same_inputs: bool = True,
    cpu: CpuFeatures | None = None,
    progress: Progress = SILENT,
) -> Int8Comparison:
    """Run an INT8 graph in the exact and in the fast mode of one backend, on this CPU.

    Args:
        reference: The answers of the floating-point model.
        model: The INT8 graph.
        batches: The reference's inputs.
        exact: The backend in its exact mode.
        fast: The backend in its fast mode.
        same_inputs: As for :func:`~linglos_deploy.parity.verdict.check_parity`.
        cpu: The CPU that this runs on, ``None`` to look.
        progress: Told of every batch.
    """
    cpu = cpu or this_cpu()
    criteria = Criteria(Precision.INT8, Limits())
    cosines = []
    for runtime, mode in ((exact, "exact"), (fast, "fast")):
        with runtime.open(model) as runner:
            report = check_parity(
                reference,
                runner,
                criteria,
                batches=batches,
                name=f"{model.path.name}, {mode}",
                same_inputs=same_inputs,
                progress=progress,
            )
        cosines.append(min((output.metrics.cosine for output in report.outputs), default=0.0))
    return Int8Comparison(
        cpu=cpu.model,
        exact_cosine=cosines[0],
        fast_cosine=cosines[1],
        warning=_warning(model, fast.name, cpu, *cosines),
    )


def _warning(model: OnnxArtifact, backend: str, cpu: CpuFeatures, exact: float, fast: float) -> str | None:
    if abs(exact - fast) <= TOLERANCE:
        return None
    why = "its INT8 kernels overflow: it has no VNNI" if cpu.int8_saturates else "its INT8 kernels round differently"
    return (
        f"On this CPU ({cpu.model}) {backend}'s fast INT8 mode answers differently from '{model.path.name}': cosine "
        f"{fast:.4f} to the floating-point model, where the graph itself has {exact:.4f}; {why}. On such CPUs run the "
        "exact mode, quantize with 7-bit weights, or ship the floating-point graph."
    )
