"""What was seen, for every tensor a plan could need: saved, merged and read again without the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.calibration import container
from linglos_deploy.calibration.coverage import Coverage, merge_coverage
from linglos_deploy.calibration.sampling import EVERYTHING, Sampling
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.errors import ArtifactError, CalibrationError
from linglos_deploy.files import atomic_file
from linglos_deploy.images.digests import as_hex, combine, preprocess_digest
from linglos_deploy.images.preprocessing import PreprocessSpec

__all__ = ["CalibrationTable", "Coverage", "load_table", "merge_tables"]


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """Statistics of tensors, and what they come from.

    Attributes:
        tensors: Statistics by tensor name.
        graph_digest: SHA-256 of the ONNX file whose tensors they are.
        preprocess: How images became model input, if known.
        data_digest: Digest of the set of model inputs seen, in any order: the sum of their SHA-256, modulo 2^256.
        image_count: Images seen.
        synthetic: Whether any of the images were made up.
        sampling: Which elements histograms and moments cover.
        coverage: Which shards of which data were seen; empty if the data cannot be told apart.
        position: Place in the dataset at which an interrupted pass stopped; ``None`` once it is finished.
        tools: Versions of what could change the numbers, by distribution; several versions are joined by ``" | "``.
    """

    tensors: Mapping[str, TensorStatistics]
    graph_digest: str
    preprocess: PreprocessSpec | None = None
    data_digest: str = as_hex(0)
    image_count: int = 0
    synthetic: bool = False
    sampling: Sampling = EVERYTHING
    coverage: tuple[Coverage, ...] = ()
    position: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)

    @property
    def preprocess_digest(self) -> str:
        """SHA-256 of the preprocessing's JSON form, empty if it is not known."""
        return "" if self.preprocess is None else preprocess_digest(self.preprocess)

    @property
    def complete(self) -> bool:
        """Whether all shards of all data are in it."""
        return all(part.complete for part in self.coverage)

    def merge(self, other: CalibrationTable) -> CalibrationTable:
        """Return the table that one pass over both sets of images would have given, bit for bit.

        Raises:
            CalibrationError: They do not belong together; the message names what differs.
        """
        if self.position is not None or other.position is not None:
            raise CalibrationError(
                "An unfinished calibration cannot be merged.",
                found=f"{(self if self.position is not None else other).image_count} images seen before it stopped",
                expected="finished tables",
                next_step="finish it with 'linglos-deploy calibrate --resume'",
            )
        if different := differences(self, other):
            raise CalibrationError(
                "The calibration tables do not belong together: " + ", ".join(name for name, _, _ in different) + ".",
                found="; ".join(f"{name} {first} and {second}" for name, first, second in different),
                expected="tables of one graph, with one preprocessing, one sampling and the same tensors",
                next_step="calibrate all shards with the same graph and the same options",
            )
        return replace(
            self,
            tensors={name: stats.merge(other.tensors[name]) for name, stats in self.tensors.items()},
            data_digest=as_hex(combine(int(self.data_digest, 16), int(other.data_digest, 16))),
            image_count=self.image_count + other.image_count,
            synthetic=self.synthetic or other.synthetic,
            coverage=merge_coverage(self.coverage, other.coverage),
            tools=_merge_tools(self.tools, other.tools),
        )

    def check_belongs_to(self, model: OnnxArtifact, *, preprocess: PreprocessSpec | None = None) -> None:
        """Check that the table was made with this graph, and with this preprocessing if it is given.

        Raises:
            CalibrationError: It was not; the message names what differs.
        """
        differences = []
        if self.graph_digest != model.digest:
            differences.append(("graph", self.graph_digest, model.digest))
        if preprocess is not None and self.preprocess_digest not in ("", preprocess_digest(preprocess)):
            differences.append(("preprocessing", self.preprocess_digest, preprocess_digest(preprocess)))
        if differences:
            names = " and another ".join(name for name, _, _ in differences)
            raise CalibrationError(
                f"The calibration table was made with another {names} than '{model.path.name}' has.",
                found="; ".join(f"{name} {seen[:12]}" for name, seen, _ in differences),
                expected="; ".join(f"{name} {wanted[:12]}" for name, _, wanted in differences),
                next_step=f"linglos-deploy calibrate {model.path}",
            )

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all; the same table always gives the same bytes.

        Raises:
            OutputError: The place cannot be written.
        """
        data = container.encode(self)
        with atomic_file(path) as partial:
            partial.write_bytes(data)

    @classmethod
    def load(cls, path: Path) -> CalibrationTable:
        """Read a table.

        Raises:
            ArtifactError: The file is missing, damaged, or of a version that this release does not know.
        """
        return load_table(path)


def load_table(path: Path) -> CalibrationTable:
    """Read a table; see :meth:`CalibrationTable.load`."""
    try:
        if path.stat().st_size > container.MAX_FILE_BYTES:
            raise ArtifactError(f"'{path}' is too large for a calibration table.", found=f"{path.stat().st_size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"The calibration table '{path}' cannot be read.",
            found=error.strerror or str(error),
            expected="a file made by 'linglos-deploy calibrate'",
            next_step="make one with 'linglos-deploy calibrate'",
        ) from error
    return container.decode(data, source=str(path))


def merge_tables(tables: Sequence[CalibrationTable]) -> CalibrationTable:
    """Merge tables, in any order with the same result.

    Raises:
        CalibrationError: There is none, or they do not belong together.
    """
    if not tables:
        raise CalibrationError("There are no calibration tables to merge.", expected="one table or more")
    return reduce(CalibrationTable.merge, tables)


def differences(first: CalibrationTable, second: CalibrationTable) -> list[tuple[str, str, str]]:
    """Return what keeps two tables apart: a name, and what it is in the first and in the second one."""
    pairs = {
        "graph": (first.graph_digest[:12], second.graph_digest[:12]),
        "preprocessing": (first.preprocess_digest[:12] or "unknown", second.preprocess_digest[:12] or "unknown"),
        "sampling": (_describe_sampling(first.sampling), _describe_sampling(second.sampling)),
        "tensors": _describe_tensors(first, second),
        "channels": (_describe_channels(first), _describe_channels(second)),
    }
    return [(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def _describe_sampling(sampling: Sampling) -> str:
    return "all elements" if sampling.every == 1 else f"one of {sampling.every} elements with seed {sampling.seed}"


def _describe_channels(table: CalibrationTable) -> str:
    observed = [stats for stats in table.tensors.values() if stats.count]
    return "kept" if any(stats.channels is not None for stats in observed) else "not kept"


def _describe_tensors(first: CalibrationTable, second: CalibrationTable) -> tuple[str, str]:
    only_first, only_second = set(first.tensors) - set(second.tensors), set(second.tensors) - set(first.tensors)
    if not only_first and not only_second:
        return "", ""
    return (
        f"{len(first.tensors)} (without {', '.join(sorted(only_second)[:3]) or 'none'})",
        f"{len(second.tensors)} (without {', '.join(sorted(only_first)[:3]) or 'none'})",
    )


def _merge_tools(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    versions = {
        name: {version for tools in (first, second) if name in tools for version in tools[name].split(" | ")}
        for name in {**first, **second}
    }
    return {name: " | ".join(sorted(versions[name])) for name in sorted(versions)}
