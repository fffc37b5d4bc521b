"""The ``.json`` file beside a plan: what the plan is, what it needs, how it was made.

The plan itself stays exactly as the builder wrote it, so that other tools can read it too. This schema is the contract
with the C++ library, which reads the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import EngineArtifact, Lineage
from linglos_deploy.backends.base import BuildSpec
from linglos_deploy.codec import read_json
from linglos_deploy.errors import ArtifactError
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
    """

    compute_capabilities: tuple[str, ...] = ()
    minimum_compute_capability: str | None = None
    gpu: str | None = None
    driver: str | None = None
    platform: str = ""

    def describe(self) -> str:
        """Return the compute capabilities in words, such as ``8.6, 8.9`` or ``8.0 or later``."""
        listed = ", ".join(self.compute_capabilities)
        if self.minimum_compute_capability is None:
            return listed
        return f"{self.minimum_compute_capability} or later"


@dataclass(frozen=True, slots=True)
class PrecisionProof:
    """What the inspector says about the layers of a built engine.

    Attributes:
        inspected: Whether the engine was inspected.
        detail: One sentence: what was found, or why nothing was looked at, such as ``not inspected, no GPU``.
        expected: Precisions that the graph asks for, such as ``("int8", "float16")``.
        layers: Number of layers per precision of their outputs.
        reformat_layers: Number of layers that only change a tensor's format or type.
        time_share: Share of the running time per precision, empty if not measured.
        missing: Precisions that the graph asks for and no layer has.
    """

    inspected: bool
    detail: str
    expected: tuple[str, ...] = ()
    layers: Mapping[str, int] | None = None
    reformat_layers: int = 0
    time_share: Mapping[str, float] | None = None
    missing: tuple[str, ...] = ()


UNKNOWN = PrecisionProof(inspected=False, detail="not inspected")
"""What a sidecar says before anybody has looked."""


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """Contents of the sidecar.

    Attributes:
        schema: ``linglos.engine/1``.
        backend: ``tensorrt`` or ``tensorrt-rtx``.
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
    requirements = {"version": record.version, "compute_capability": record.target.describe()}
    if record.target.platform:
        requirements["platform"] = record.target.platform
    return EngineArtifact(
        path=plan,
        signature=record.signature,
        digest=record.digest,
        backend=record.backend,
        requirements=requirements,
        lineage=record.lineage,
    )
