"""What every report comes down to before it is rendered: sections of facts, tables, charts and checks.

A report type becomes renderable everywhere (HTML, Markdown, JUnit, terminal) by one function from it to sections:

    @sections_of.register
    def _(report: MyReport) -> tuple[Section, ...]:
        return (Section(title="Mine", passed=report.passed),)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch

from linglos_deploy.compat import StrEnum

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Tone(StrEnum):
    """What a cell or a bar says about its subject."""

    NEUTRAL = "neutral"
    GOOD = "good"
    BAD = "bad"
    MUTED = "muted"


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a table, with a tone."""

    text: str
    tone: Tone = Tone.NEUTRAL


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: Its heading.
        numeric: Numbers are aligned to the right.
        minor: Left out where the page is too narrow for all columns.
        prose: Sentences, which are wrapped there; names are shortened in the middle.
    """

    title: str
    numeric: bool = False
    minor: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of as many cells as there are columns.

    Attributes:
        title: What it shows.
        columns: Their headings.
        rows: From top to bottom.
        first: Rows that a summary shows, where there are too many to read; ``None`` for all.
        folded: Whether a page shows it only to those who ask for it.
        leading: Whether it stands above the charts.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    first: int | None = None
    folded: bool = False
    leading: bool = False

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a row of table '{self.title}' has another number of cells than there are columns")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: What it stands for.
        value: Its length.
        text: The value as the reader sees it.
        reach: Where the thin line beyond its end stops, such as the 90th percentile; ``None`` for none.
        tone: Of the bar.
    """

    label: str
    value: float
    text: str
    reach: float | None = None
    tone: Tone = Tone.NEUTRAL


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars from zero, with a limit across all of them.

    Attributes:
        title: With the unit.
        caption: How to read it.
        bars: From top to bottom.
        limit: Where a line is drawn; ``None`` for none.
    """

    title: str
    caption: str
    bars: tuple[Bar, ...]
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class LineChart:
    """Values in order, with a limit.

    Attributes:
        title: With the unit.
        caption: How to read it.
        labels: Name of each point.
        values: From left to right.
        limit: Where a line is drawn; ``None`` for none.
    """

    title: str
    caption: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the axis of a histogram.

    Attributes:
        label: What is there.
        value: Where.
        strong: Whether it is the one that counts.
    """

    label: str
    value: float
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts over equally wide steps from zero, on a logarithmic scale, with marks across them.

    Attributes:
        title: With the unit.
        caption: How to read it.
        end: Where the axis ends.
        counts: From left to right.
        marks: Drawn over the counts.
    """

    title: str
    caption: str
    end: float
    counts: tuple[float, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorGrowth:
    """Errors along a graph from its inputs to its outputs, on a logarithmic scale.

    Attributes:
        title: What it shows.
        caption: How to read it.
        labels: Name of each tensor.
        errors: Of each tensor, relative to its size.
        stages: Part of the network that each tensor belongs to.
        limit: Where a line is drawn; ``None`` for none.
        marked: The tensor that the picture is about; the worst one if ``None``.
    """

    title: str
    caption: str
    labels: tuple[str, ...]
    errors: tuple[float, ...]
    stages: tuple[str, ...]
    limit: float | None = None
    marked: str | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """How the values of one subject lie around their middle.

    Attributes:
        label: What they belong to.
        text: Their middle as the reader sees it.
        counts: Over equally wide steps of the chart's axis.
        quartiles: Where on the axis the middle half of them lies.
        beyond: How many lie outside the axis.
    """

    label: str
    text: str
    counts: tuple[float, ...]
    quartiles: tuple[float, float]
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class SpreadChart:
    """Densities below each other on one axis, which says how far values are from the middle of their own row.

    Attributes:
        title: With the unit.
        caption: How to read it.
        start: Where the axis begins, relative to the middle: -0.1 is 10 % below.
        end: Where it ends.
        spreads: From top to bottom.
    """

    title: str
    caption: str
    start: float
    end: float
    spreads: tuple[Spread, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A place of a curve.

    Attributes:
        x: Across.
        y: Up.
        low: Where the thin line through it begins; ``None`` for none.
        high: Where that ends.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One subject of a chart of curves.

    Attributes:
        label: What it is.
        parts: Points that a line connects; there is none from one part to the next.
    """

    label: str
    parts: tuple[tuple[Point, ...], ...]


@dataclass(frozen=True, slots=True)
class CurveChart:
    """Several subjects against a number.

    Attributes:
        title: With the unit.
        caption: How to read it.
        across: What the horizontal axis counts.
        ticks: Places on the horizontal axis, and what stands there.
        curves: In the order of the legend.
        logarithmic: Whether equal distances are equal factors, on both axes.
        percent: Whether the values are shares.
    """

    title: str
    caption: str
    across: str
    ticks: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]
    logarithmic: bool = False
    percent: bool = False


Chart = BarChart | LineChart | Histogram | ErrorGrowth | SpreadChart | CurveChart


@dataclass(frozen=True, slots=True)
class Card:
    """A picture with what is to be said of it.

    Attributes:
        picture: A data URI of a PNG file; anything else is not shown.
        title: Such as the name of a file.
        before: What was said of it.
        after: What is said of it now.
        share: Length of the bar below, from 0 to 1.
        text: What the bar says, in words.
    """

    picture: str
    title: str
    before: str
    after: str
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures side by side.

    Attributes:
        title: What they have in common.
        caption: How to read them.
        cards: In reading order.
    """

    title: str
    caption: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion of a verdict.

    Attributes:
        name: What was checked.
        passed: Whether it holds; ``None`` if it could not be checked here.
        found: What was found.
        limit: What would have been good enough.
    """

    name: str
    passed: bool | None
    found: str
    limit: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a document.

    Attributes:
        title: Its heading.
        passed: Its verdict, ``None`` without one.
        summary: One or two sentences.
        facts: Pairs of name and value.
        warnings: What makes the result doubtful.
        charts: Drawn in HTML only; tables say the same.
        tables: All numbers.
        notes: What else the reader should know.
        checks: Every criterion, for test reports.
        galleries: Shown in HTML only; tables say the same.
    """

    title: str
    passed: bool | None = None
    summary: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    galleries: tuple[Gallery, ...] = ()


@singledispatch
def sections_of(report: object) -> tuple[Section, ...]:
    """Turn a report into sections; register a function for a new report type.

    Raises:
        TypeError: Nobody has said how a report of this type looks.
    """
    raise TypeError(f"there is no rendering of {type(report).__name__}; register one with sections_of.register")


def all_sections(reports: Iterable[object]) -> tuple[Section, ...]:
    """Return the sections of several reports, in order."""
    from linglos_deploy.reports import sections  # registers the report types of this package

    assert sections
    return tuple(section for report in reports for section in sections_of(report))


def printable(text: str) -> str:
    """Replace control characters and lone surrogates: a file's name must not steer a terminal or break a format."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def overall(sections: Iterable[Section]) -> bool | None:
    """Return whether all verdicts are good; ``None`` if there is none."""
    verdicts = [section.passed for section in sections if section.passed is not None]
    return all(verdicts) if verdicts else None
