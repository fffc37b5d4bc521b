"""Which shards of which data a table has seen, so that nothing is counted twice and nothing is missed unnoticed."""

from __future__ import annotations

from dataclasses import dataclass

from linglos_deploy.errors import CalibrationError


@dataclass(frozen=True, slots=True)
class Coverage:
    """Some shards of one dataset.

    Attributes:
        listing: Digest of the dataset's names, sizes and first and last bytes.
        shards: Number of shards it was split into; 1 once all of them are here.
        seen: Which of them are here, from 1, rising.
    """

    listing: str
    shards: int = 1
    seen: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", tuple(sorted(self.seen)))
        if (
            self.shards < 1
            or len(set(self.seen)) != len(self.seen)
            or not set(self.seen) <= set(range(1, self.shards + 1))
        ):
            raise ValueError(f"shards {self.seen} of {self.shards}")

    @property
    def complete(self) -> bool:
        """Whether no shard is missing."""
        return len(self.seen) == self.shards

    @property
    def missing(self) -> tuple[int, ...]:
        """Shards that are not here."""
        return tuple(sorted(set(range(1, self.shards + 1)) - set(self.seen)))


def merge_coverage(first: tuple[Coverage, ...], second: tuple[Coverage, ...]) -> tuple[Coverage, ...]:
    """Return what is covered by both together, in an order that does not depend on theirs.

    Raises:
        CalibrationError: An image would be counted twice.
    """
    merged = {part.listing: part for part in first}
    for part in second:
        merged[part.listing] = _join(merged[part.listing], part) if part.listing in merged else part
    return tuple(merged[listing] for listing in sorted(merged))


def _join(first: Coverage, second: Coverage) -> Coverage:
    if first.shards != second.shards or set(first.seen) & set(second.seen):
        raise CalibrationError(
            "The calibration tables have seen the same images.",
            found=f"{_describe(first)}, and {_describe(second)}, of the same data",
            expected="different shards of one split, or different data",
            next_step="leave out the table that repeats what another one has",
        )
    together = tuple(sorted(first.seen + second.seen))
    if len(together) == first.shards:
        return Coverage(first.listing)
    return Coverage(first.listing, first.shards, together)


def _describe(part: Coverage) -> str:
    if part.shards == 1:
        return "all images"
    return f"{'shard' if len(part.seen) == 1 else 'shards'} {', '.join(map(str, part.seen))} of {part.shards}"
