"""The directory that ships: a manifest, graphs, engines, golden tensors and reports.

``manifest.json`` (schema ``linglos.bundle/1``) lists every other file with its size and SHA-256; ``manifest.sha256``,
in the format of ``sha256sum``, covers the manifest itself. A loader, in Python or C++, trusts nothing before both hold,
and never follows a path that leaves the directory.
"""

from __future__ import annotations

import platform
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from linglos_deploy.artifacts import EngineArtifact, Lineage, OnnxArtifact
from linglos_deploy.choices import Weights
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import ArtifactError, LinglosError, UsageError
from linglos_deploy.files import sha256_bytes, sha256_file
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.parity.reached import Reached
from linglos_deploy.signature import Decoding, ModelSignature

SCHEMA = "linglos.bundle/1"
MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
GOLDEN = "golden/golden.safetensors"

MAX_MANIFEST_BYTES = 16 << 20
MAX_FILES = 10_000
MAX_SIDE = 16_384
"""Largest height or width of a model input; of the resized image before the crop, four times that."""
MAX_GOLDEN_IMAGES = 10_000
MAX_DIMENSION = 1 << 30


class InputKind(StrEnum):
    """What a graph's ``image`` input takes."""

    TENSOR = "tensor"
    """Preprocessed float32, N x 3 x H x W."""
    PIXELS = "pixels"
    """Resized and cropped uint8 RGB, N x H x W x 3."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file's size in bytes and the SHA-256 of its contents."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class GraphEntry:
    """An ONNX graph of the bundle.

    Attributes:
        file: Its path in the bundle.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``int8+fp16``.
        input: What it takes.
        signature: Its inputs and outputs.
        session_options: ONNX Runtime session configuration entries that a loader must set for the answer that was
            checked, such as ``{"session.x64quantprecision": "1"}``.
        saturating_session_options: Entries that it must set besides on x86 CPUs without VNNI or AMX, whose fast INT8
            kernels overflow; elsewhere they cost speed.
        lineage: How it came to be.
        placement: Where its Q/DQ pairs stand, by name; empty without INT8.
        runtimes: The backends that it is made for, such as ``("openvino",)``; empty for all.
        machines: The processors that it is made for, such as ``("x86_64", "AMD64")``; empty for all.
    """

    file: str
    precision: str
    input: InputKind
    signature: ModelSignature
    session_options: Mapping[str, str] = field(default_factory=dict)
    lineage: Lineage = ()
    saturating_session_options: Mapping[str, str] = field(default_factory=dict)
    placement: str = ""
    runtimes: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()

    def serves(self, runtime: str, machine: str) -> bool:
        """Return whether it is made for a backend on a processor, rather than merely readable there."""
        return runtime in self.runtimes and (not self.machines or machine in self.machines)


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """A compiled engine of the bundle.

    Attributes:
        file: Its path in the bundle; the sidecar has the same stem and ends in ``.json``.
        backend: What built it and can run it.
        source: The graph that it was compiled from.
        precision: The precision of that graph.
        input: What it takes.
        signature: Its inputs and outputs.
        requirements: What a machine needs to load it.
        lineage: How it came to be.
    """

    file: str
    backend: str
    source: str
    precision: str
    input: InputKind
    signature: ModelSignature
    requirements: Mapping[str, str] = field(default_factory=dict)
    lineage: Lineage = ()


@dataclass(frozen=True, slots=True)
class Golden:
    """Where the golden tensors are and how closely a loader must reproduce them.

    The file is a safetensors file with, for each image i: ``pixels.i`` (uint8 H x W x 3, any size, as decoded), and for
    all together: ``pixels`` (resized and cropped, uint8 N x H x W x 3), ``image`` (normalized, float32
    N x 3 x H x W), ``torch:OUTPUT`` (float32, from the PyTorch model) and ``GRAPH:OUTPUT`` for every graph file (from
    ONNX Runtime on the machine that made the bundle).

    Attributes:
        file: Its path in the bundle.
        count: Number of images.
        max_abs: Largest absolute difference from ``GRAPH:OUTPUT`` that a self-test accepts, per graph, as a share of
            the largest absolute value of that output.
    """

    file: str
    count: int
    max_abs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a loader needs to know.

    Attributes:
        schema: ``linglos.bundle/1``.
        name: Short name of the model.
        passed: Whether every requested check passed when the bundle was made.
        warnings: What the user was warned of: synthetic weights, synthetic calibration, and the like.
        weights: Whether the weights are trained, seeded random numbers, or nobody said.
        synthetic_calibration: True when the INT8 ranges come from synthetic images; ``None`` without INT8.
        preprocessing: How images become input.
        labels: Class names in output order; empty if unknown.
        graphs: ONNX graphs; the first is the float32 reference.
        engines: Compiled engines.
        golden: Golden tensors for self-tests.
        files: Every file but the manifest and its digest, by path relative to the bundle, with ``/``.
        tools: Versions of what made the bundle.
        reached: How close each graph was to PyTorch when the bundle was made; what later checks are held against.
        decoding: What the outputs mean; ``None`` in bundles of before, which hold classifiers or bare outputs.
    """

    schema: str
    name: str
    passed: bool
    warnings: tuple[str, ...]
    weights: Weights
    synthetic_calibration: bool | None
    preprocessing: PreprocessSpec
    labels: tuple[str, ...]
    graphs: tuple[GraphEntry, ...]
    engines: tuple[EngineEntry, ...]
    golden: Golden | None
    files: Mapping[str, FileEntry]
    tools: Mapping[str, str]
    reached: tuple[Reached, ...] = ()
    decoding: Decoding | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose every byte was checked.

    Attributes:
        path: The directory.
        manifest: Its manifest.
    """

    path: Path
    manifest: Manifest

    def graph(self, entry: GraphEntry) -> OnnxArtifact:
        """Return one of the manifest's graphs as an artifact."""
        return OnnxArtifact(
            path=self.path / entry.file,
            signature=entry.signature,
            digest=self.manifest.files[entry.file].sha256,
            lineage=entry.lineage,
        )

    def engine(self, entry: EngineEntry) -> EngineArtifact:
        """Return one of the manifest's engines as an artifact."""
        return EngineArtifact(
            path=self.path / entry.file,
            signature=entry.signature,
            digest=self.manifest.files[entry.file].sha256,
            backend=entry.backend,
            requirements=entry.requirements,
            lineage=entry.lineage,
        )

    def find_graph(
        self, precision: str | None = None, *, runtime: str | None = None, machine: str | None = None
    ) -> GraphEntry:
        """Return the graph of a precision, or the reference graph.

        Args:
            precision: Which precision; the reference graph's if ``None``.
            runtime: The backend that will run it: the graph that is made for it goes before the first of its precision.
            machine: The processor, as ``platform.machine()`` calls it; this one if ``None``.

        Raises:
            UsageError: The bundle has no such graph.
        """
        found = [entry for entry in self.manifest.graphs if precision in (None, entry.precision)]
        if precision is not None and runtime is not None:
            here = machine or platform.machine()
            found.sort(key=lambda entry: not entry.serves(runtime, here))
        if found:
            return found[0]
        raise UsageError(
            f"The bundle '{self.path}' has no {precision} graph.",
            found=", ".join(entry.precision for entry in self.manifest.graphs),
            expected=str(precision),
            next_step=f"linglos-deploy export --precision {precision} … makes one",
        )


def seal_bundle(directory: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` and ``manifest.sha256`` over all files that stand in ``directory``.

    Args:
        directory: The bundle, complete but for its manifest.
        manifest: Its manifest; ``files`` is filled in here.

    Returns:
        The manifest as written.
    """
    files = {
        path.relative_to(directory).as_posix(): FileEntry(bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, MANIFEST_DIGEST)
    }
    sealed = replace(manifest, files=files)
    text = to_json(sealed).encode()
    (directory / MANIFEST).write_bytes(text)
    (directory / MANIFEST_DIGEST).write_text(f"{sha256_bytes(text)}  {MANIFEST}\n", encoding="ascii")
    return sealed


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and check every byte of it.

    Raises:
        ArtifactError: The manifest is missing, damaged or of another schema; a file is missing, has another size or
            digest, or lies outside the directory.
    """
    try:
        manifest = _read_manifest(path)
        _check_references(path, manifest)
        for name, entry in manifest.files.items():
            _check_file(path, name, entry)
    except LinglosError:
        raise
    except OSError as error:
        raise ArtifactError(
            f"'{path}' cannot be read.",
            found=error.strerror or str(error),
            expected="a bundle that this user may read",
            next_step="check its owner and permissions",
        ) from error
    return Bundle(path=path, manifest=manifest)


def is_bundle(path: Path) -> bool:
    """Return whether ``path`` is a directory that looks like a bundle, checked or not."""
    return (path / MANIFEST).is_file()


def _read_manifest(path: Path) -> Manifest:
    file, digest_file = path / MANIFEST, path / MANIFEST_DIGEST
    if not file.is_file():
        raise ArtifactError(
            f"'{path}' is not a bundle.",
            found="no directory" if not path.is_dir() else f"no {MANIFEST} in it",
            expected="a directory made by 'linglos-deploy export'",
            next_step="check the path; 'linglos-deploy export --variant s' makes a bundle in ./linglo_s",
        )
    size = file.stat().st_size
    if file.is_symlink() or size > MAX_MANIFEST_BYTES:
        raise ArtifactError(
            f"'{file}' is not a manifest.",
            found="a symbolic link" if file.is_symlink() else f"{size} bytes",
            expected=f"a regular file of at most {MAX_MANIFEST_BYTES} bytes",
            next_step="copy the bundle again from where it was made",
        )
    data = file.read_bytes()
    recorded = _recorded_digest(digest_file)
    if recorded != sha256_bytes(data):
        raise ArtifactError(
            f"'{file}' was changed after the bundle was made.",
            found=f"SHA-256 {sha256_bytes(data)}",
            expected=f"SHA-256 {recorded} (from {MANIFEST_DIGEST})",
            next_step="copy the bundle again from where it was made",
        )
    schema = from_json(_SchemaOnly, data, source=str(file)).schema
    if schema != SCHEMA:
        raise ArtifactError(
            f"'{file}' is of another schema.",
            found=schema,
            expected=SCHEMA,
            next_step="use the version of linglos-deploy that made it, or export again",
        )
    try:
        manifest = from_json(Manifest, data, source=str(file))
    except UsageError as error:  # a value that its own type refuses
        raise ArtifactError(f"'{file}': {error.message}", found=error.found, expected=error.expected) from error
    _check_sizes(file, manifest)
    return manifest


@dataclass(frozen=True, slots=True)
class _SchemaOnly:
    schema: str


def _recorded_digest(file: Path) -> str:
    try:
        text = "" if file.is_symlink() or file.stat().st_size > 256 else file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        text = ""
    match = re.fullmatch(r"([0-9a-f]{64})  " + re.escape(MANIFEST) + "\n", text)
    if match is None:
        raise ArtifactError(
            f"'{file}' does not hold the manifest's digest.",
            found="nothing usable" if not text else repr(text[:80]),
            expected=f"64 hexadecimal digits, two spaces, {MANIFEST}",
            next_step="copy the bundle again from where it was made",
        )
    return match.group(1)


def _check_sizes(file: Path, manifest: Manifest) -> None:
    """Refuse numbers that no real model has: a loader is about to allocate by them."""
    signatures = [graph.signature for graph in manifest.graphs] + [engine.signature for engine in manifest.engines]
    tensors = [spec for signature in signatures for spec in (*signature.inputs, *signature.outputs)]
    sizes = [dim for spec in tensors for dim in spec.shape or () if isinstance(dim, int)]
    images = manifest.golden.count if manifest.golden else 0
    side = max(manifest.preprocessing.input_size)
    resized = int(min(side / manifest.preprocessing.crop_pct, 1e12))  # a tiny crop_pct divides to infinity
    for what, found, most in (
        ("input size", side, MAX_SIDE),
        ("resized image", resized, 4 * MAX_SIDE),
        ("largest tensor dimension", max(sizes, default=0), MAX_DIMENSION),
        ("smallest tensor dimension", -min(sizes, default=0), 0),
        ("number of golden images", images, MAX_GOLDEN_IMAGES),
        ("number of golden images", -images, 0),
    ):
        if found > most:
            raise ArtifactError(
                f"'{file}' gives an impossible {what}.",
                found=str(found if most else -found),
                expected=f"at most {most}" if most else "at least 0",
                next_step="copy the bundle again from where it was made",
            )


def _check_references(path: Path, manifest: Manifest) -> None:
    if len(manifest.files) > MAX_FILES:
        raise ArtifactError(
            f"'{path / MANIFEST}' lists too many files.",
            found=str(len(manifest.files)),
            expected=f"at most {MAX_FILES}",
        )
    if not manifest.graphs:
        raise ArtifactError(f"'{path / MANIFEST}' lists no graph.", expected="at least the float32 reference graph")
    used = [graph.file for graph in manifest.graphs] + [engine.file for engine in manifest.engines]
    used += [entry.source for entry in manifest.engines]
    used += [manifest.golden.file] if manifest.golden else []
    for name in used:
        if name not in manifest.files:
            raise ArtifactError(
                f"'{path / MANIFEST}' refers to '{name}' without listing it among its files.",
                next_step="copy the bundle again from where it was made",
            )


def _check_file(root: Path, name: str, entry: FileEntry) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in name or str(pure) != name:
        raise ArtifactError(
            f"The manifest of '{root}' names a path that leaves the bundle.",
            found=repr(name),
            expected="a plain relative path",
            next_step="do not use this bundle",
        )
    file = root
    for part in pure.parts:
        file = file / part
        if file.is_symlink():
            raise ArtifactError(
                f"'{file}' is a symbolic link.",
                expected="regular files and directories only",
                next_step="copy the bundle with links resolved (cp -rL)",
            )
    again = "copy the bundle again from where it was made"
    if not file.exists():
        raise ArtifactError(
            f"'{file}' is missing from the bundle.", found="nothing", expected=f"{entry.bytes} bytes", next_step=again
        )
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.bytes:
        raise ArtifactError(
            f"'{file}' is not the file that the manifest describes.",
            found=f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "not a regular file",
            expected=f"{entry.bytes} bytes",
            next_step=again,
        )
    digest = sha256_file(file)
    if digest != entry.sha256:
        raise ArtifactError(
            f"'{file}' was changed after the bundle was made.",
            found=f"SHA-256 {digest}",
            expected=f"SHA-256 {entry.sha256}",
            next_step=again,
        )
