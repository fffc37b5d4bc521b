"""The command that builds an engine again for the machine at hand, from what its sidecar says."""

from __future__ import annotations

import shlex
from pathlib import Path

from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.profiles import format_input_shape
from linglos_deploy.engines.record import EngineRecord, find_graph

ANY_GRAPH = "MODEL.onnx"
"""What stands for the graph in a command when it is not found."""


def rebuild_command(record: EngineRecord, host: Host, *, plan: Path) -> str:
    """Return the command that builds the same engine for this machine, wherever the engine lies now.

    What ``--target`` filled in is spelled out. The graph is looked for by its digest; where it is not found, the
    command says which one is meant.
    """
    spec = record.spec
    graph = find_graph(record, plan)
    words = ["linglos-deploy", "build", ANY_GRAPH if graph is None else str(graph)]
    words += ["--engine", host.backend or record.backend]
    for profile in spec.profiles:
        for tensor in record.signature.inputs:
            if tensor.name in profile and any(isinstance(dim, str) for dim in tensor.dims):
                words += ["--shape", format_input_shape(tensor.name, profile[tensor.name])]
    if spec.compute_capabilities:
        here = {host.gpu.compute_capability} if host.gpu else set()
        wanted = sorted(here | set(spec.compute_capabilities), key=lambda text: tuple(map(int, text.split("."))))
        words += ["--sm", ",".join(text.replace(".", "") for text in wanted)]
    if spec.workspace_bytes:
        words += ["--workspace", _memory_text(spec.workspace_bytes)]
    if spec.optimization_level is not None:
        words += ["--optimization-level", str(spec.optimization_level)]
    if spec.hardware_compatibility is not HardwareCompatibility.NONE:
        words += ["--hardware-compatibility", str(spec.hardware_compatibility)]
    for on, option in (
        (spec.version_compatible, "--version-compatible"),
        (spec.refittable, "--refittable"),
        (spec.strip_weights, "--strip-weights"),
        (spec.weight_streaming, "--weight-streaming"),
        (spec.tf32, "--tf32"),
        (spec.allow_fallback, "--allow-fallback"),
    ):
        words += [option] if on else []
    # an engine that replaced a bundle's own would no longer match the bundle's manifest
    folder = Path("engines") if plan.with_name("manifest.json").exists() else plan.parent
    command = shlex.join([*words, "--output", str(folder)])
    if graph is None:
        digest = f"SHA-256 {record.onnx_digest}"
        command += f"  # {ANY_GRAPH}: '{record.onnx_name}' with {digest}, which is not near the engine"
    return command


def _memory_text(size: int) -> str:
    """Write a number of bytes without loss, as ``--workspace`` reads it."""
    for unit, shift in (("G", 30), ("M", 20)):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return f"{size / 1024:.10f}".rstrip("0").rstrip(".") + "K"
