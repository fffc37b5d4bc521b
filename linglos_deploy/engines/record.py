"""The ``.json`` file beside a plan: what the plan is, what it needs, how it was made, whatever compiled it.

The plan itself stays exactly as the builder wrote it, so that other tools can read it too. This schema is the contract
with the C++ library, which reads the same file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from linglos_deploy.artifacts import EngineArtifact, Lineage, OnnxArtifact, Step
from linglos_deploy.codec import read_json, to_builtins, write_json
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import ArtifactError
from linglos_deploy.files import atomic_file, sha256_file
from linglos_deploy.signature import ModelSignature

SCHEMA = "linglos.engine/1"


@dataclass(frozen=True, slots=True)
class Target:
    """The machines on which an engine can run.

    Attributes:
        compute_capabilities: Those it was built for; empty if ``minimum_compute_capability`` alone decides.
        minimum_compute_capability: Any GPU of this or a later one will do; ``None`` if it must be a listed one.
        gpu: Model of the GPU it was built on; ``None`` for an ahead-of-time build.
        driver: Driver version where it was built; ``None`` without one.
        platform: Operating system and processor, such as ``linux-x86_64``; empty if it does not matter.
        instructions: Instruction sets of the processor that it was compiled for and needs; empty if none matters.
    """

    compute_capabilities: tuple[str, ...] = ()
    minimum_compute_capability: str | None = None
    gpu: str | None = None
    driver: str | None = None
    platform: str = ""
    instructions: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the compute capabilities in words, such as ``8.6, 8.9`` or ``8.0 or later``."""
        listed = ", ".join(self.compute_capabilities)
        if self.minimum_compute_capability is None:
            return listed
        return f"{self.minimum_compute_capability} or later"


@dataclass(frozen=True, slots=True)
class LayerProof:
    """In what one convolution or matrix product of the graph runs.

    Attributes:
        node: The node's name.
        op_type: Its operator.
        asked: The precision that the graph asks for.
        got: The precision that it has in the engine; empty if that cannot be told.
        reason: Why it has another one, or why it cannot be told.
    """

    node: str
    op_type: str
    asked: str
    got: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PrecisionProof:
    """What the inspector says about the layers of a built engine.

    Attributes:
        inspected: Whether the engine was inspected.
        detail: One sentence: what was found, or why nothing was looked at, such as ``not inspected, no GPU``.
        expected: Precisions that the graph asks for, such as ``("int8", "float16")``.
        layers: Number of the engine's layers per precision of what they read.
        reformat_layers: Number of layers that only change a tensor's format or type.
        time_share: Share of the running time per precision, empty if not measured.
        missing: Precisions that the graph asks for and that every layer that was asked for it is known to lack.
        nodes: Every convolution and matrix product of the graph, with what it was asked for and what it got.
    """

    inspected: bool
    detail: str
    expected: tuple[str, ...] = ()
    layers: Mapping[str, int] | None = None
    reformat_layers: int = 0
    time_share: Mapping[str, float] | None = None
    missing: tuple[str, ...] = ()
    nodes: tuple[LayerProof, ...] = ()


UNKNOWN = PrecisionProof(inspected=False, detail="not inspected")
"""What a sidecar says before anybody has looked."""


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """Contents of the sidecar.

    Attributes:
        schema: ``linglos.engine/1``.
        backend: Name of the compiler, such as ``tensorrt``, ``tensorrt-rtx`` or ``openvino``.
        version: Version of the library that built the plan.
        digest: SHA-256 of the plan.
        bytes: Size of the plan.
        onnx_digest: SHA-256 of the graph it was compiled from.
        onnx_name: File name of that graph.
        target: The machines on which it can run.
        spec: How it was compiled.
        flags: Builder flags that were on, by the vendor's names.
        strongly_typed: Whether every layer had to keep the types of the graph.
        host_code: Whether the plan holds host code; loading such a plan runs it.
        precision: What is known about the precisions of its layers.
        signature: Its inputs and outputs.
        lineage: How it came to be.
        onnx_path: Where the graph lay when the engine was compiled, seen from the plan's folder; only a hint.
    """

    schema: str
    backend: str
    version: str
    digest: str
    bytes: int
    onnx_digest: str
    onnx_name: str
    target: Target
    spec: BuildSpec
    flags: tuple[str, ...]
    strongly_typed: bool
    host_code: bool
    precision: PrecisionProof
    signature: ModelSignature
    lineage: Lineage
    onnx_path: str = ""


def sidecar_path(plan: Path) -> Path:
    """Return where the sidecar of a plan is."""
    return plan.with_suffix(".json")


def log_path(plan: Path) -> Path:
    """Return where the build log of a plan is."""
    return plan.with_suffix(".log")


def read_record(plan: Path) -> EngineRecord:
    """Read the sidecar of a plan.

    Raises:
        ArtifactError: There is none, or it cannot be read.
    """
    path = sidecar_path(plan)
    if not path.is_file():
        raise ArtifactError(
            f"'{plan}' has no sidecar.",
            found=f"no '{path.name}' beside it",
            expected=f"a {SCHEMA} description",
            next_step="copy the .json file that was written with the engine, or build the engine again",
        )
    record = read_json(EngineRecord, path)
    if record.schema != SCHEMA:
        raise ArtifactError(f"'{path}' has an unknown schema.", found=record.schema, expected=SCHEMA)
    return record


def open_engine(plan: Path) -> EngineArtifact:
    """Return the engine at ``plan`` as its sidecar describes it; nothing is loaded or checked yet.

    Raises:
        ArtifactError: The plan or its sidecar is missing, or the sidecar cannot be read.
    """
    if not plan.is_file():
        raise ArtifactError(f"There is no engine at '{plan}'.", next_step="run 'linglos-deploy build' to make one")
    return to_artifact(read_record(plan), plan)


def to_artifact(record: EngineRecord, plan: Path) -> EngineArtifact:
    """Return the artifact that ``record`` describes."""
    requirements = {
        "version": record.version,
        "compute_capability": record.target.describe(),
        "platform": record.target.platform,
        "instructions": ", ".join(record.target.instructions),
    }
    return EngineArtifact(
        path=plan,
        signature=record.signature,
        digest=record.digest,
        backend=record.backend,
        requirements={name: wanted for name, wanted in requirements.items() if wanted},
        lineage=record.lineage,
    )


def build_step(backend: str, version: str, *, model: OnnxArtifact, spec: BuildSpec) -> Step:
    """Return the step that a build adds to an engine's lineage."""
    return Step(
        stage="build",
        inputs={"onnx": model.digest},
        config={"backend": backend, **to_builtins(spec)},
        tools={backend: version},
    )


def write_engine(record: EngineRecord, plan: bytes, *, log: str, out: Path) -> None:
    """Write log, sidecar and plan, the plan last: where a plan stands, its description stands too."""
    with atomic_file(log_path(out)) as partial:
        partial.write_text(log, encoding="utf-8")
    write_json(record, sidecar_path(out))
    with atomic_file(out) as partial:
        partial.write_bytes(plan)


def copy_engine(plan: Path, record: EngineRecord, *, out: Path) -> None:
    """Copy a plan and its log to ``out``, under a sidecar of its own; the plan last, as :func:`write_engine` does."""
    if log_path(plan).is_file():
        copy_file(log_path(plan), log_path(out))
    write_json(record, sidecar_path(out))
    copy_file(plan, out)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all."""
    with atomic_file(target) as partial:
        shutil.copyfile(source, partial)


def adopt(record: EngineRecord, *, model: OnnxArtifact, spec: BuildSpec, out: Path) -> EngineRecord:
    """Return the record of an engine from the cache, with the names and the lineage of the graph at hand."""
    step = build_step(record.backend, record.version, model=model, spec=spec)
    return replace(
        record,
        onnx_name=model.path.name,
        onnx_path=path_from(out.parent, model.path),
        signature=model.signature,
        lineage=(*model.lineage, step),
    )


def path_from(folder: Path, path: Path) -> str:
    """Return ``path`` as seen from ``folder``, empty if there is no such way (another drive)."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return ""


def find_graph(record: EngineRecord, plan: Path) -> Path | None:
    """Return the graph that an engine was compiled from, known by its digest: where it lay, or near the plan.

    Looked at are the place noted in the record, then the plan's folder, the one above and the folders in that one.
    """
    folder = plan.absolute().parent
    places = [folder / record.onnx_path] if record.onnx_path else []
    places += [folder / record.onnx_name, folder.parent / record.onnx_name]
    places += sorted(folder.parent.glob(f"*/{record.onnx_name}"))
    for place in places:
        if place.is_file() and sha256_file(place) == record.onnx_digest:
            near = Path(os.path.relpath(place, folder))
            return Path(os.path.normpath(plan.parent / near))
    return None
