r"""The file of a calibration table; ``docs/formats/calibration-table.md`` is its specification.

    8 bytes   magic ``\x89LGCAL\r\n``
    u32       format version
    u32       bytes of the header
    u64       bytes of the payload before compression
    header    JSON: what the table comes from, and the scalars of each tensor
    payload   zlib: bins (uint16) and counts (uint64) of all histograms, one tensor, and one group, after the other
    32 bytes  SHA-256 of everything before

All numbers are little-endian. Nothing is allocated before its size was checked against the size of the file.
"""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from linglos_deploy.calibration.bins import BIN_COUNT, SIGN_BIT, bin_of, non_finite
from linglos_deploy.calibration.coverage import Coverage
from linglos_deploy.calibration.groups import ChannelGroups, GroupHistograms, add_histograms
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.statistics import ChannelStatistics, TensorStatistics
from linglos_deploy.errors import ArtifactError, LinglosError
from linglos_deploy.images.preprocessing import PreprocessSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from linglos_deploy.calibration.table import CalibrationTable

MAGIC = b"\x89LGCAL\r\n"
VERSION = 2
MAX_FILE_BYTES = 1 << 30

_PREFIX = struct.Struct("<8sIIQ")
_DIGEST_BYTES = 32
_BIN_BYTES = 2
_COUNT_BYTES = 8
_MAX_RATIO = 1040
_LEVEL = 6

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Digest = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})$")]
_Units = Annotated[str, msgspec.Meta(pattern="^-?0x[0-9a-f]{1,256}$")]
_Float = Annotated[str, msgspec.Meta(pattern=r"^(-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|-?inf)$")]


@dataclass(frozen=True, slots=True)
class _ChannelEntry:
    minimum: tuple[_Float, ...]
    maximum: tuple[_Float, ...]
    count: tuple[_Count, ...]
    sums: tuple[_Units, ...]
    squares: tuple[_Units, ...]


@dataclass(frozen=True, slots=True)
class _GroupsEntry:
    members: tuple[Annotated[int, msgspec.Meta(ge=0, lt=256)], ...]
    gains: tuple[_Float, ...]
    bins: tuple[Annotated[int, msgspec.Meta(ge=0, le=BIN_COUNT)], ...]


@dataclass(frozen=True, slots=True)
class _TensorEntry:
    name: str
    count: _Count
    non_finite: _Count
    minimum: _Float
    maximum: _Float
    sum: _Units
    sum_of_squares: _Units
    bins: Annotated[int, msgspec.Meta(ge=0, le=BIN_COUNT)]
    channels: _ChannelEntry | None
    groups: _GroupsEntry | None = None

    @property
    def histograms(self) -> tuple[int, ...]:
        """Occupied bins of each histogram of the payload: the tensor's, or those of its groups."""
        return (self.bins,) if self.groups is None else self.groups.bins


@dataclass(frozen=True, slots=True)
class _Header:
    graph_digest: str
    preprocess: PreprocessSpec | None
    data_digest: _Digest
    image_count: _Count
    synthetic: bool
    sampling: Sampling
    coverage: tuple[Coverage, ...]
    position: _Count | None
    tools: dict[str, str]
    tensors: tuple[_TensorEntry, ...]


def encode(table: CalibrationTable, *, level: int = _LEVEL) -> bytes:
    """Return a table as bytes.

    Args:
        table: What to encode.
        level: zlib's compression level; 0 is fastest.
    """
    names = sorted(table.tensors)
    header = _Header(
        graph_digest=table.graph_digest,
        preprocess=table.preprocess,
        data_digest=table.data_digest,
        image_count=table.image_count,
        synthetic=table.synthetic,
        sampling=table.sampling,
        coverage=table.coverage,
        position=table.position,
        tools=dict(sorted(table.tools.items())),
        tensors=tuple(_entry(name, table.tensors[name]) for name in names),
    )
    text = msgspec.json.encode(header)
    stats = [table.tensors[name] for name in names]
    arrays = [
        part
        for one in stats
        for bins, counts in _histograms(one)
        for part in (bins.astype("<u2"), counts.astype("<u8"))
    ]
    payload = b"".join(array.tobytes() for array in arrays)
    body = _PREFIX.pack(MAGIC, VERSION, len(text), len(payload)) + text + zlib.compress(payload, level)
    return body + hashlib.sha256(body).digest()


def decode(data: bytes, *, source: str) -> CalibrationTable:
    """Read a table from bytes.

    Args:
        data: The whole file.
        source: What error messages call it.

    Raises:
        ArtifactError: The data are no table, damaged, or of an unknown version.
    """
    from linglos_deploy.calibration.table import CalibrationTable

    header_bytes, raw_bytes = _check_frame(data, source)
    text = data[_PREFIX.size : _PREFIX.size + header_bytes]
    try:
        header = msgspec.json.decode(text, type=_Header)
        expected = sum(sum(entry.histograms) for entry in header.tensors) * (_BIN_BYTES + _COUNT_BYTES)
        if expected != raw_bytes:
            raise ValueError(f"histograms of {expected} bytes in a payload of {raw_bytes}")
        payload = _inflate(data[_PREFIX.size + header_bytes : -_DIGEST_BYTES], raw_bytes)
        return CalibrationTable(
            tensors=_tensors(header.tensors, payload),
            graph_digest=header.graph_digest,
            preprocess=header.preprocess,
            data_digest=header.data_digest,
            image_count=header.image_count,
            synthetic=header.synthetic,
            sampling=header.sampling,
            coverage=header.coverage,
            position=header.position,
            tools=header.tools,
        )
    except (
        msgspec.DecodeError,
        ValueError,
        OverflowError,
        UnicodeDecodeError,
        RecursionError,
        zlib.error,
        LinglosError,
    ) as error:
        raise _damaged(source, str(error).splitlines()[0]) from error


def _check_frame(data: bytes, source: str) -> tuple[int, int]:
    if len(data) < _PREFIX.size + _DIGEST_BYTES or not data.startswith(MAGIC):
        raise _damaged(source, f"{len(data)} bytes" + ("" if data.startswith(MAGIC) else " that do not begin like one"))
    _, version, header_bytes, raw_bytes = _PREFIX.unpack_from(data)
    if version > VERSION:
        raise ArtifactError(
            f"The calibration table '{source}' was made by a newer release.",
            found=f"format version {version}",
            expected=f"format version {VERSION} or older",
            next_step="pip install --upgrade linglos-deploy, or calibrate again with this release",
        )
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise _damaged(source, "contents that do not match their checksum")
    packed = len(data) - _PREFIX.size - _DIGEST_BYTES - header_bytes
    if version < 1 or packed < 0 or raw_bytes > max(packed, 1) * _MAX_RATIO:
        raise _damaged(source, "sizes that do not fit together")
    return header_bytes, raw_bytes


def _inflate(packed: bytes, size: int) -> bytes:
    worker = zlib.decompressobj()
    raw = worker.decompress(packed, size + 1)
    if len(raw) != size or not worker.eof or worker.unused_data:
        raise ValueError(f"a payload that does not have {size} bytes")
    return raw


def _histograms(stats: TensorStatistics) -> Iterable[tuple[NDArray[np.uint16], NDArray[np.int64]]]:
    """Return what tells all histograms of a tensor: those of its groups add up to its own."""
    if stats.groups is None:
        return ((stats.bins, stats.counts),)
    return zip(stats.groups.bins, stats.groups.counts, strict=True)


def _entry(name: str, stats: TensorStatistics) -> _TensorEntry:
    channels, groups = stats.channels, stats.groups
    return _TensorEntry(
        name=name,
        count=stats.count,
        non_finite=stats.non_finite,
        minimum=stats.minimum.hex(),
        maximum=stats.maximum.hex(),
        sum=hex(stats.total),
        sum_of_squares=hex(stats.squares),
        bins=len(stats.bins),
        channels=None
        if channels is None
        else _ChannelEntry(
            minimum=tuple(float(value).hex() for value in channels.minimum),
            maximum=tuple(float(value).hex() for value in channels.maximum),
            count=tuple(channels.count.tolist()),
            sums=tuple(map(hex, channels.sums)),
            squares=tuple(map(hex, channels.squares)),
        ),
        groups=None
        if groups is None
        else _GroupsEntry(
            members=groups.groups.members,
            gains=tuple(gain.hex() for gain in groups.groups.gains),
            bins=tuple(len(bins) for bins in groups.bins),
        ),
    )


def _tensors(entries: tuple[_TensorEntry, ...], payload: bytes) -> dict[str, TensorStatistics]:
    tensors: dict[str, TensorStatistics] = {}
    offset = 0
    for entry in entries:
        histograms = []
        for occupied in entry.histograms:
            bins = np.frombuffer(payload, "<u2", occupied, offset)
            offset += bins.nbytes
            counts = np.frombuffer(payload, "<u8", occupied, offset)
            offset += counts.nbytes
            histograms.append((bins.astype(np.uint16), counts.astype(np.int64)))
        if entry.name in tensors:
            raise ValueError(f"tensor '{entry.name}' twice")
        tensors[entry.name] = _statistics(entry, histograms)
    return tensors


def _statistics(
    entry: _TensorEntry, histograms: Sequence[tuple[NDArray[np.uint16], NDArray[np.int64]]]
) -> TensorStatistics:
    for occupied, number in histograms:
        if reason := _no_histogram(occupied, number):
            raise ValueError(f"tensor '{entry.name}': {reason}")
    if not histograms:
        raise ValueError(f"tensor '{entry.name}': no group of channels")
    bins, counts = functools.reduce(add_histograms, histograms)
    if len(bins) != entry.bins:
        raise ValueError(f"tensor '{entry.name}': {entry.bins} bins, and groups that occupy {len(bins)}")
    stats = TensorStatistics(
        count=entry.count,
        non_finite=entry.non_finite,
        minimum=float.fromhex(entry.minimum),
        maximum=float.fromhex(entry.maximum),
        total=int(entry.sum, 16),
        squares=int(entry.sum_of_squares, 16),
        bins=bins,
        counts=counts,
        channels=None if entry.channels is None else _channels(entry.channels),
        groups=None if entry.groups is None else _groups(entry.groups, histograms),
    )
    if reason := _contradiction(stats):
        raise ValueError(f"tensor '{entry.name}': {reason}")
    return stats


def _no_histogram(bins: NDArray[np.uint16], counts: NDArray[np.int64]) -> str | None:
    if (np.diff(bins.astype(np.int64)) <= 0).any():
        return "bins that do not rise"
    return "counts that do not fit" if (counts <= 0).any() else None


def _groups(entry: _GroupsEntry, histograms: Sequence[tuple[NDArray[np.uint16], NDArray[np.int64]]]) -> GroupHistograms:
    if not 1 < len(entry.gains) == len(entry.bins):
        raise ValueError("groups of channels of different numbers")
    groups = ChannelGroups(entry.members, tuple(map(float.fromhex, entry.gains)))
    return GroupHistograms(groups, *(tuple(part) for part in zip(*histograms, strict=True)))


def _contradiction(stats: TensorStatistics) -> str | None:
    """Return what no set of values could have given, if anything."""
    if stats.counts.astype(np.float64).sum() > stats.count:
        return "counts that do not fit"
    if stats.non_finite > stats.count or int(stats.counts[non_finite(stats.bins)].sum()) > stats.non_finite:
        return "more non-finite values than values"
    if stats.finite == 0:
        return None if (stats.minimum, stats.maximum) == (np.inf, -np.inf) else "a range without a value"
    if not -np.inf < stats.minimum <= stats.maximum < np.inf:
        return "a minimum above the maximum"
    if any(float(np.float32(edge)) != edge for edge in (stats.minimum, stats.maximum)):
        return "a range that is not float32"
    if _beyond(stats.bins[stats.bins < SIGN_BIT], stats.maximum) or _beyond(
        stats.bins[stats.bins >= SIGN_BIT], -stats.minimum
    ):
        return "values outside the range"
    if stats.squares < 0:
        return "a negative sum of squares"
    return None


def _beyond(bins: NDArray[np.uint16], bound: float) -> bool:
    """Return whether a finite bin, all of one sign, holds larger magnitudes than ``bound`` allows."""
    finite = bins[~non_finite(bins)]
    return len(finite) > 0 and int(finite[-1]) % SIGN_BIT > bin_of(max(bound, 0.0))


def _channels(entry: _ChannelEntry) -> ChannelStatistics:
    if len({len(entry.minimum), len(entry.maximum), len(entry.count), len(entry.sums), len(entry.squares)}) != 1:
        raise ValueError("channels of different numbers")
    return ChannelStatistics(
        minimum=np.array([float.fromhex(value) for value in entry.minimum], dtype=np.float32),
        maximum=np.array([float.fromhex(value) for value in entry.maximum], dtype=np.float32),
        count=np.array(entry.count, dtype=np.int64),
        sums=tuple(int(value, 16) for value in entry.sums),
        squares=tuple(int(value, 16) for value in entry.squares),
    )


def _damaged(source: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"'{source}' is no usable calibration table.",
        found=found,
        expected=f"a complete calibration table, format version {VERSION}",
        next_step="copy it again, or make a new one with 'linglos-deploy calibrate'",
    )
