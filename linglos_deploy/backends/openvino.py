"""OpenVINO on the CPU: runs ONNX graphs and compiles them to blobs.

Left alone, the CPU plugin decides about numerics itself: bfloat16 where the machine has instructions for it, and INT8
kernels that overflow silently where it has no VNNI. Here precision lives in the graph, so both are pinned:
see ``docs/decisions/openvino-numerics.md``.
"""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact, Step, tool_versions
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.backends.cpu import CpuFeatures, Int8Mode, this_cpu
from linglos_deploy.backends.machine import platform_name
from linglos_deploy.backends.operators import mean_times
from linglos_deploy.codec import to_json, write_json
from linglos_deploy.engines.record import (
    SCHEMA,
    EngineRecord,
    PrecisionProof,
    Target,
    sidecar_path,
    to_artifact,
)
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import ArtifactError, BuildError, MissingDependencyError, RunError, UsageError
from linglos_deploy.files import atomic_file, sha256_file
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.profile import OperatorTime
from linglos_deploy.signature import Batch, ModelSignature

NAME = "openvino"
HOW_TO_GET = "pip install 'linglos-deploy[openvino]'"
OVERFLOW_WARNING = (
    "This CPU has no VNNI: OpenVINO's INT8 kernels overflow silently here and the answers may be far off. "
    "Use the exact mode (the default), or 7-bit weights."
)


@dataclass(frozen=True, slots=True)
class OpenVino:
    """Runs and compiles ONNX graphs with OpenVINO's CPU plugin; a Runtime and a Compiler.

    Attributes:
        threads: Threads of one inference, 0 for OpenVINO's choice (one a physical core).
        int8: What to do where INT8 kernels overflow; of no effect elsewhere.
        cpu: The CPU to decide for.
    """

    threads: int = 0
    int8: Int8Mode = Int8Mode.EXACT
    cpu: CpuFeatures = field(default_factory=this_cpu)
    name: str = field(default=NAME, init=False)

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise UsageError("The number of threads cannot be negative.", found=str(self.threads), expected="0 or more")
        object.__setattr__(self, "int8", Int8Mode(self.int8))

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        """Open an ONNX graph, or a blob that :meth:`compile` wrote.

        Raises:
            ArtifactError: The file is missing, damaged, of another backend or for another OpenVINO or CPU.
            MissingDependencyError: OpenVINO is not installed, or a GPU was asked for.
        """
        if device.kind != "cpu":
            raise MissingDependencyError(
                "The OpenVINO backend runs on the CPU only.",
                found=str(device),
                expected="cpu",
                next_step="--device cpu",
            )
        core = _core()
        match artifact:
            case OnnxArtifact():
                model = _read(core, artifact)
                compiled = _compile(core, model, self._properties(), path=artifact.path)
                notes = _notes(self.cpu, self.int8) if _quantized(model) else ()
            case EngineArtifact(backend=backend) if backend == NAME:
                compiled = _import(core, artifact, self._properties())
                notes = _blob_notes(self.cpu, artifact)
            case _:
                raise ArtifactError(
                    "The OpenVINO backend cannot open this artifact.",
                    found=f"an engine of '{artifact.backend}'"
                    if isinstance(artifact, EngineArtifact)
                    else "a PyTorch model",
                    expected="an ONNX graph, or a blob compiled by this backend",
                    next_step="export the model to ONNX first",
                )
        yield _OpenVinoRunner(artifact.signature, compiled.create_infer_request(), notes)

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        """Compile ``model`` to a blob at ``out`` with a ``.json`` sidecar of the same stem.

        The blob takes every shape between the smallest and the largest of all profiles. It loads only with the same
        OpenVINO version on a CPU with the same instruction sets. Workspace size, optimization level and compute
        capabilities mean nothing here and are ignored.

        Raises:
            ArtifactError: The graph is missing or damaged.
            BuildError: OpenVINO cannot compile it for these shapes.
            MissingDependencyError: OpenVINO is not installed.
        """
        with progress.stage(f"compile for {NAME}") as advance:
            core = _core()
            graph = _read(core, model)
            try:
                graph.reshape(_bounds(spec))
                blob = core.compile_model(graph, "CPU", self._properties()).export_model()
            except RuntimeError as error:
                raise BuildError(
                    f"OpenVINO cannot compile '{model.path}'.",
                    found=_reason(error),
                    next_step="check that the profile's shapes are shapes that the graph takes",
                ) from error
            with atomic_file(out) as partial:
                partial.write_bytes(blob.getbuffer() if hasattr(blob, "getbuffer") else blob)
            advance()
        tools = tool_versions("openvino")
        config = {
            "profiles": json.loads(to_json(spec.profiles)),
            "int8": self.int8.value,
            "quantized": _quantized(graph),
        }
        record = EngineRecord(
            schema=SCHEMA,
            backend=NAME,
            version=tools["openvino"],
            digest=sha256_file(out),
            bytes=out.stat().st_size,
            onnx_digest=model.digest,
            onnx_name=model.path.name,
            target=Target(platform=platform_name()),
            spec=spec,
            flags=(),
            strongly_typed=True,
            host_code=False,
            precision=PrecisionProof(inspected=False, detail="not inspected"),
            signature=model.signature,
            lineage=(*model.lineage, Step("build", {"model": model.digest}, config, tools)),
        )
        write_json(record, sidecar_path(out))
        return to_artifact(record, out)

    def probe(self) -> Probe:
        """Say whether OpenVINO is installed and what its INT8 kernels do on this CPU, without importing it."""
        try:
            version = importlib.metadata.version("openvino")
        except importlib.metadata.PackageNotFoundError:
            return Probe(
                name=NAME,
                installed=False,
                version=None,
                runs=False,
                compiles=False,
                detail="OpenVINO is not installed",
                how_to_get=HOW_TO_GET,
            )
        return Probe(
            name=NAME,
            installed=True,
            version=version,
            runs=True,
            compiles=True,
            detail=f"runs and compiles ONNX on the CPU ({self.cpu.model}); {_int8_detail(self.cpu)}",
            facts={
                "cpu": self.cpu.model,
                "instructions": list(self.cpu.instructions),
                "int8_saturates": self.cpu.int8_saturates,
            },
        )

    def operator_times(self, artifact: Artifact, batch: Batch, *, runs: int) -> tuple[OperatorTime, ...]:
        """Return OpenVINO's own counters per layer type; fused operators count as the layer that does their work."""
        if not isinstance(artifact, OnnxArtifact):
            return ()
        core = _core()
        properties = {**self._properties(), "PERF_COUNT": True}
        request = _compile(core, _read(core, artifact), properties, path=artifact.path).create_infer_request()
        request.infer(dict(batch), share_inputs=True)
        return mean_times(_node_times(request, batch) for _ in range(runs))

    def _properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 wherever the CPU multiplies it
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else activations of int8-weight layers may be quantized once more
        }
        if self.threads:
            properties["INFERENCE_NUM_THREADS"] = self.threads
        if self.cpu.int8_saturates and self.int8 is Int8Mode.EXACT:
            properties["LP_TRANSFORMS_MODE"] = False
        return properties


@dataclass(frozen=True, slots=True)
class _OpenVinoRunner:
    signature: ModelSignature
    request: Any
    notes: tuple[str, ...]

    def run(self, batch: Batch) -> Batch:
        self.signature.check_inputs(batch)
        try:
            outputs = self.request.infer(dict(batch), share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise RunError("OpenVINO failed while running the model.", found=_reason(error)) from error
        return {name: outputs[name] for name in self.signature.output_names}


def _node_times(request: Any, batch: Batch) -> Iterator[tuple[str, float]]:
    request.infer(dict(batch), share_inputs=True)
    for node in request.profiling_info:
        if node.status == type(node.status).EXECUTED:
            yield node.node_type, node.real_time / timedelta(milliseconds=1)


def _core() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "OpenVINO is not installed.", found=str(error), expected="the package 'openvino'", next_step=HOW_TO_GET
        ) from error
    return openvino.Core()


def _read(core: Any, artifact: OnnxArtifact) -> Any:
    try:
        return core.read_model(artifact.path)
    except RuntimeError as error:
        raise ArtifactError(
            f"OpenVINO cannot read '{artifact.path}'.",
            found=_reason(error) if artifact.path.is_file() else "no such file",
            expected="a complete ONNX graph of operators that OpenVINO knows",
            next_step="run 'linglos-deploy export' to make a new one",
        ) from error


def _compile(core: Any, model: Any, properties: dict[str, Any], *, path: Path) -> Any:
    try:
        return core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise ArtifactError(f"OpenVINO cannot run '{path}' on this CPU.", found=_reason(error)) from error


def _import(core: Any, engine: EngineArtifact, properties: dict[str, Any]) -> Any:
    if not engine.path.is_file() or sha256_file(engine.path) != engine.digest:
        raise ArtifactError(
            f"The OpenVINO blob '{engine.path}' is not the one that was compiled.",
            found="other contents" if engine.path.is_file() else "no such file",
            expected=f"SHA-256 {engine.digest}",
            next_step="compile it again with 'linglos-deploy build'",
        )
    try:
        return core.import_model(engine.path.read_bytes(), "CPU", properties)
    except RuntimeError as error:
        raise ArtifactError(
            f"The OpenVINO blob '{engine.path}' does not load here.",
            found=f"OpenVINO {tool_versions('openvino').get('openvino')}; {_reason(error)}",
            expected=", ".join(f"{key} {value}" for key, value in engine.requirements.items()),
            next_step="compile it again on this machine with 'linglos-deploy build'",
        ) from error


def _quantized(model: Any) -> bool:
    """Whether a graph holds quantized values: Q/DQ pairs arrive as FakeQuantize or as 8-bit constants."""
    return any(
        operation.get_type_name() == "FakeQuantize"
        or (operation.get_type_name() == "Constant" and operation.get_element_type().get_type_name() in {"i8", "u8"})
        for operation in model.get_ops()
    )


def _notes(cpu: CpuFeatures, int8: Int8Mode) -> tuple[str, ...]:
    """Return what a user of a quantized graph's answers must know; warn if they may be wrong."""
    if not cpu.int8_saturates:
        return (f"INT8 kernels with 32-bit sums ({', '.join(cpu.int8_dot_products) or cpu.architecture})",)
    if int8 is Int8Mode.EXACT:
        return ("INT8 computed exactly in float32: this CPU has no VNNI, its INT8 kernels would overflow",)
    warnings.warn(OVERFLOW_WARNING, RuntimeWarning, stacklevel=4)
    return (OVERFLOW_WARNING,)


def _blob_notes(cpu: CpuFeatures, engine: EngineArtifact) -> tuple[str, ...]:
    """Kernels were chosen when the blob was compiled, so its own record counts."""
    config = engine.lineage[-1].config if engine.lineage else {}
    return _notes(cpu, Int8Mode(config.get("int8", Int8Mode.EXACT))) if config.get("quantized") else ()


def _bounds(spec: BuildSpec) -> dict[str, Any]:
    """Return the smallest shape that holds all profiles, by input name."""
    import openvino

    shapes = {}
    for name in {name for profile in spec.profiles for name in profile}:
        ranges = [profile[name] for profile in spec.profiles if name in profile]
        lowest = (min(sizes) for sizes in zip(*(shape.min for shape in ranges), strict=True))
        highest = (max(sizes) for sizes in zip(*(shape.max for shape in ranges), strict=True))
        shapes[name] = openvino.PartialShape(
            [openvino.Dimension(low, high) for low, high in zip(lowest, highest, strict=True)]
        )
    return shapes


def _int8_detail(cpu: CpuFeatures) -> str:
    if cpu.int8_saturates:
        return "no VNNI, so INT8 graphs are computed exactly in float32: right, but not faster than float32"
    return f"INT8 with {', '.join(cpu.int8_dot_products)}" if cpu.int8_dot_products else "INT8 without overflow"


def _reason(error: Exception) -> str:
    """Return the last line that says something: OpenVINO puts source positions first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (said or lines or [repr(error)])[-1]
