"""OpenVINO on the CPU: runs ONNX graphs and compiles them to blobs.

Left alone, the CPU plugin decides about numerics itself: bfloat16 where the machine has instructions for it, and INT8
kernels that overflow silently where it has no VNNI. Here precision lives in the graph, so both are pinned:
see ``docs/decisions/openvino-numerics.md``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact, tool_versions
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.backends.cpu import CpuFeatures, Int8Mode, this_cpu
from linglos_deploy.backends.layers import Executed, layer_profile, node_names, timed
from linglos_deploy.backends.machine import describe_machine, platform_name
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.codec import to_json
from linglos_deploy.engines.cache import EngineCache, cache_key, compile_or_copy, user_cache_dir
from linglos_deploy.engines.compiler import Host, condition
from linglos_deploy.engines.preflight import require_loadable
from linglos_deploy.engines.record import (
    SCHEMA,
    EngineRecord,
    PrecisionProof,
    Target,
    adopt,
    build_step,
    copy_engine,
    path_from,
    read_record,
    write_engine,
)
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import ArtifactError, BuildError, MissingDependencyError, RunError, UsageError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.doctor import Condition
from linglos_deploy.reports.profile import LayerProfile
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
        cache: Whether blobs of earlier builds are used and kept.
        cache_dir: Where they are kept; ``None`` for this package's folder in the user's cache directory.
    """

    threads: int = 0
    int8: Int8Mode = Int8Mode.EXACT
    cpu: CpuFeatures = field(default_factory=this_cpu)
    cache: bool = True
    cache_dir: Path | None = None
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
                compiled = _import(core, artifact, self._properties(), Host(describe_machine()), self)
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
        """Compile ``model`` to a blob at ``out`` with a ``.json`` sidecar, or take the same blob from the cache.

        The blob takes every shape between the smallest and the largest of all profiles. It loads only with the same
        OpenVINO version on a CPU with the same instruction sets.

        Raises:
            UsageError: ``spec`` asks for something that OpenVINO does not have.
            ArtifactError: The graph is missing or damaged.
            BuildError: OpenVINO cannot compile it for these shapes.
            MissingDependencyError: OpenVINO is not installed.
        """
        _refuse_what_is_not_offered(spec)
        _core()  # where it is missing, say so before the cache answers
        version = tool_versions("openvino")["openvino"]
        key = cache_key(
            graph=model.digest,
            spec=spec,
            backend=NAME,
            version=version,
            machine={
                "platform": platform_name(),
                "instructions": ",".join(self.cpu.instructions),
                "properties": to_json(self._properties()),
            },
        )
        return compile_or_copy(
            EngineCache(self.cache_dir or user_cache_dir()) if self.cache else None,
            key,
            out=out,
            build=partial(self._build, model, spec, version=version, out=out, progress=progress),
            copy=partial(self._copy, model=model, spec=spec, out=out),
        )

    def conditions(self, plan: Path, record: EngineRecord, host: Host) -> tuple[Condition, ...]:
        """Compare a blob with a machine."""
        version = _installed_version() if host.versions is None else host.versions.get(NAME)
        missing = [name for name in record.target.instructions if name not in self.cpu.instructions]
        return (
            condition(
                "version",
                version == record.version,
                version or "not installed",
                record.version,
                "a blob loads in the OpenVINO release that compiled it",
            ),
            condition(
                "platform",
                record.target.platform in {"", host.machine.platform},
                host.machine.platform,
                record.target.platform or "any",
                "a blob is tied to the operating system and processor it was compiled on",
            ),
            condition(
                "instructions",
                not missing,
                ", ".join(self.cpu.instructions) or "none of those that matter",
                ", ".join(record.target.instructions) or "any",
                f"this CPU lacks {', '.join(missing)}",
            ),
        )

    def probe(self) -> Probe:
        """Say whether OpenVINO is installed and what its INT8 kernels do on this CPU, without importing it."""
        version = _installed_version()
        if version is None:
            return Probe(
                name=NAME,
                installed=False,
                version=None,
                runs=False,
                compiles=False,
                detail="OpenVINO is not installed",
                how_to_get=HOW_TO_GET,
                runs_graphs=True,
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
            runs_graphs=True,
        )

    def explain(self, artifact: OnnxArtifact) -> PrecisionProof:
        """Say which layers multiply integers; see :class:`~linglos_deploy.backends.base.Explaining`."""
        from linglos_deploy.backends.execution import openvino_execution  # it imports onnx

        core = _core()
        compiled = _compile(core, _read(core, artifact), self._properties(), path=artifact.path)
        return openvino_execution(artifact.path, compiled)

    def layer_times(self, artifact: Artifact, batch: Batch, *, runs: int) -> LayerProfile | None:
        """Return OpenVINO's own counters per layer; fused operators count as the layer that does their work."""
        if not isinstance(artifact, OnnxArtifact):
            return None
        core = _core()
        properties = {**self._properties(), "PERF_COUNT": True}
        request = _compile(core, _read(core, artifact), properties, path=artifact.path).create_infer_request()
        request.infer(dict(batch), share_inputs=True)
        steps, latencies = [], []
        for _ in range(runs):
            latencies.append(timed(lambda: request.infer(dict(batch), share_inputs=True)))
            steps.append(list(_executed(request)))
        return layer_profile(steps, latencies, nodes=node_names(artifact))

    def _build(self, model: OnnxArtifact, spec: BuildSpec, *, version: str, out: Path, progress: Progress) -> None:
        with progress.stage(f"compile for {NAME}") as advance:
            core = _core()
            graph = _read(core, model)
            try:
                if spec.profiles:
                    graph.reshape(_bounds(spec))
                blob = core.compile_model(graph, "CPU", self._properties()).export_model()
            except RuntimeError as error:
                raise BuildError(
                    f"OpenVINO cannot compile '{model.path}'.",
                    found=_reason(error),
                    next_step="check that the profile's shapes are shapes that the graph takes",
                ) from error
            advance()
        plan = bytes(blob.getbuffer()) if hasattr(blob, "getbuffer") else bytes(blob)
        config = {"int8": self.int8.value, "quantized": _quantized(graph)}
        step = build_step(NAME, version, model=model, spec=spec)
        record = EngineRecord(
            schema=SCHEMA,
            backend=NAME,
            version=version,
            digest=sha256_bytes(plan),
            bytes=len(plan),
            onnx_digest=model.digest,
            onnx_name=model.path.name,
            target=Target(platform=platform_name(), instructions=self.cpu.instructions),
            spec=spec,
            flags=tuple(f"{name}={value}" for name, value in self._properties().items()),
            strongly_typed=True,
            host_code=False,
            precision=PrecisionProof(inspected=False, detail="not inspected: OpenVINO keeps the graph's types"),
            signature=model.signature,
            lineage=(*model.lineage, replace(step, config={**step.config, **config})),
            onnx_path=path_from(out.parent, model.path),
        )
        write_engine(record, plan, log="", out=out)

    def _copy(self, kept: Path, *, model: OnnxArtifact, spec: BuildSpec, out: Path) -> None:
        """Copy a blob from the cache; what was decided about INT8 when it was compiled stays in its last step."""
        record = read_record(kept)
        step = record.lineage[-1]
        copy_engine(
            kept,
            replace(adopt(record, model=model, spec=spec, out=out), lineage=(*model.lineage, step)),
            out=out,
        )

    def _properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 wherever the CPU multiplies it
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else activations of int8-weight layers may be quantized once more
        }
        if self.threads:
            properties["INFERENCE_NUM_THREADS"] = self.threads
        if self.cpu.int8_saturates and self.int8 is not Int8Mode.FAST:
            properties["LP_TRANSFORMS_MODE"] = False
        return properties


openvino = OpenVino


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


def _executed(request: Any) -> Iterator[Executed]:
    """Yield the layers of the last inference; the type stands at the end of the kernel's name (``jit_avx512_f32``)."""
    for node in request.profiling_info:
        if node.status == type(node.status).EXECUTED:
            dtype = _TYPES.get(node.exec_type.rpartition("_")[2], "")
            yield Executed(node.node_name, node.node_type, dtype, node.real_time / timedelta(milliseconds=1))


_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i8": "int8",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
}


def _installed_version() -> str | None:
    return tool_versions("openvino").get("openvino")


def _refuse_what_is_not_offered(spec: BuildSpec) -> None:
    asked = {
        "--workspace": spec.workspace_bytes is not None,
        "--optimization-level": spec.optimization_level is not None,
        "--sm": bool(spec.compute_capabilities),
        "--hardware-compatibility": spec.hardware_compatibility is not HardwareCompatibility.NONE,
        "--version-compatible": spec.version_compatible,
        "--refittable": spec.refittable,
        "--strip-weights": spec.strip_weights,
        "--weight-streaming": spec.weight_streaming,
        "--tf32": spec.tf32,
        "--allow-fallback": spec.allow_fallback,
    }
    useless = [option for option, given in asked.items() if given]
    if useless:
        raise UsageError(
            f"OpenVINO has no {' and no '.join(useless)}.",
            found=", ".join(useless),
            expected="shapes only: --profile, --size-profile, --shape",
            next_step=f"leave out {', '.join(useless)}",
        )


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


def _import(core: Any, engine: EngineArtifact, properties: dict[str, Any], host: Host, backend: OpenVino) -> Any:
    require_loadable(engine.path, host, compiler=backend)
    try:
        return core.import_model(engine.path.read_bytes(), "CPU", properties)
    except RuntimeError as error:
        raise ArtifactError(
            f"The OpenVINO blob '{engine.path}' does not load here.",
            found=f"OpenVINO {_installed_version()}; {_reason(error)}",
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
    if int8 is not Int8Mode.FAST:
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
