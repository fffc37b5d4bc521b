"""What the runtime really runs: each INT8 layer of a plan, and what its own runtime makes of it on this machine."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, load_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Explaining
from linglos_deploy.backends.cpu import CpuFeatures, Int8Mode, this_cpu
from linglos_deploy.engines.record import PrecisionProof, read_record
from linglos_deploy.errors import LinglosError
from linglos_deploy.graph.passes.running import read_ir
from linglos_deploy.quantization.placing import describe_left, find_places
from linglos_deploy.reports.parity import Finding

if TYPE_CHECKING:
    from linglos_deploy.verbs.verdicts import Subject

EXPECTED = "every INT8 layer of the plan in integers"
ON_THE_TARGET = "'linglos-deploy parity' tells on a machine that it is made for"


def check_execution(subject: Subject, *, cpu: CpuFeatures | None = None) -> Finding | None:
    """Say which INT8 layers a runtime computes in integers; ``None`` where nothing asks for INT8.

    A layer that runs in floating point answers as it should, only later: the finding names it and is left open. It is
    a failure where not one runs in integers.

    Args:
        subject: A graph that is made for a runtime, or an engine.
        cpu: The CPU, ``None`` to look.
    """
    if not subject.precision.is_int8:
        return None
    cpu = cpu or this_cpu()
    if isinstance(subject.graph, EngineArtifact):
        proof = read_record(subject.graph.path).precision
        return _finding(subject.backend, proof, ()) if proof.inspected else None
    placement = subject.placement
    if placement is None:
        return None
    left = _left(subject)
    for runtime in placement.runtimes:
        if not placement.serves(runtime, platform.machine()):
            continue
        proof_here = explain(subject.graph, runtime)
        if proof_here is None:
            continue
        if cpu.int8_saturates and proof_here.missing:
            name = f"what {runtime} runs"
            return Finding(name, None, "INT8 is computed in floating point: this CPU has no VNNI", ON_THE_TARGET)
        return _finding(runtime, proof_here, left)
    if left:
        return Finding(f"what {placement.runtimes[0]} runs", None, "; ".join(left), EXPECTED)
    return None


def explain(graph: OnnxArtifact, runtime: str) -> PrecisionProof | None:
    """Return in what a runtime runs the layers of a graph; ``None`` if it is not here, or does not tell."""
    try:
        if not registry.probe(runtime).runs_graphs:
            return None
        backend = registry.runtime(runtime, int8=Int8Mode.SAFE)
        return backend.explain(graph) if isinstance(backend, Explaining) else None
    except (LinglosError, TypeError):  # another distribution's backend may take no such option
        return None


def _left(subject: Subject) -> tuple[str, ...]:
    """Return what the runtime cannot have in INT8 though the plan would."""
    if subject.plan is None or subject.parent is None or subject.placement is None:
        return ()
    return describe_left(find_places(read_ir(load_onnx(subject.parent.path)).graph, subject.plan, subject.placement))


def _finding(runtime: str, proof: PrecisionProof, left: tuple[str, ...]) -> Finding:
    lacking = [node for node in proof.nodes if node.asked == "int8" and node.got != "int8"]
    passed = False if "int8" in proof.missing else None if lacking or left else True
    return Finding(f"what {runtime} runs", passed, "; ".join((proof.detail, *left)), EXPECTED)
