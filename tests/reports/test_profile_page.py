"""The page of a profile: what its charts say, and that nothing of it is cut off on a desk, a phone and paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.profiling.statistics import compare, summarize
from linglos_deploy.reports.charts import draw
from linglos_deploy.reports.document import Curve, CurveChart, Point, SpreadChart, all_sections
from linglos_deploy.reports.html import write_html
from linglos_deploy.reports.profile import MachineLimits, ProfileReport, ProfileRow
from tests.browser import Page, needs_chromium, opened
from tests.reports.examples import profile_report

LABELS = ("model.onnx · onnxruntime", "model.int8.onnxruntime-x86.onnx · a-backend-with-a-long-name", "torch")
PAPER = 718
"""CSS pixels between the margins of A4."""


def swept() -> ProfileReport:
    """Three candidates at two batches; nine processes of three rounds each."""
    random, report = np.random.default_rng(0), profile_report()
    found = report.rows[0].layers
    assert found is not None
    layers = replace(found, layers=tuple(replace(layer, macs=10**6, bytes=10**5) for layer in found.layers))
    rows: list[ProfileRow] = []
    for batch in (1, 8):
        for label, milliseconds in zip(LABELS, (8.0, 5.5, 30.0), strict=True):
            made = batch * milliseconds * random.lognormal(0, 0.05, size=(9, 3, 60))
            samples = tuple(tuple(map(tuple, rounds)) for rounds in made.tolist())
            row = replace(
                report.rows[0],
                label=label,
                batch=batch,
                samples_ms=samples,
                latency=summarize(samples),
                notes=(),
                layers=layers,
            )
            if label != LABELS[0]:
                base = next(other for other in rows if (other.label, other.batch) == (LABELS[0], batch))
                ratio = compare(samples, base.samples_ms, label=base.label, confidence=0.95, min_effect=0.01)
                row = replace(row, ratio=ratio)
            rows.append(row)
    return replace(report, rows=tuple(rows), checks=(), warnings=(), limits=(MachineLimits(2, 1e10, 1e10),))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    write_html([swept()], folder / "latency.html")
    with opened(folder / "latency.html", profile=folder / "profile") as page:
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        yield page


pytestmark = pytest.mark.xdist_group("chromium")

CUT_OFF = """[...document.querySelectorAll('.scroll')]
    .filter(e => e.scrollWidth > e.clientWidth).map(e => e.getAttribute('aria-label'))"""
OUTSIDE_ITS_DRAWING = """[...document.querySelectorAll('.drawing text')].filter(text => {
    const box = text.getBBox(), view = text.ownerSVGElement.viewBox.baseVal;
    return box.x < -1 || box.x + box.width > view.width + 1 || box.y < -3 || box.y + box.height > view.height + 3
}).map(text => text.textContent)"""


@needs_chromium
def test_the_page_of_a_profile_logs_nothing_and_fetches_nothing_but_itself(page: Page) -> None:
    assert [address.rpartition("/")[2] for address in page.requests] == ["latency.html"]
    assert page.complaints == []


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_no_column_and_no_name_in_a_chart_is_cut_off(page: Page, width: int) -> None:
    page.prefer("light")
    page.resize(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(OUTSIDE_ITS_DRAWING) == []


@needs_chromium
def test_no_column_is_cut_off_on_paper(page: Page, tmp_path: Path) -> None:
    page.resize(PAPER)
    page.print_preview()
    wide = f"""[...document.querySelectorAll('table, svg')]
        .filter(e => e.getBoundingClientRect().right > {PAPER}).map(e => e.textContent)"""
    assert page.evaluate(wide) == []
    page.pdf(tmp_path / "latency.pdf")
    page.prefer("light")
    assert (tmp_path / "latency.pdf").read_bytes().startswith(b"%PDF")


def charts_of(report: ProfileReport) -> list[object]:
    return [chart for section in all_sections([report]) for chart in section.charts]


def test_every_run_of_a_row_is_drawn_or_said_to_lie_beyond() -> None:
    spreads = [chart for chart in charts_of(swept()) if isinstance(chart, SpreadChart)]
    assert len(spreads) == 2
    for chart in spreads:
        assert [spread.label for spread in chart.spreads] == list(LABELS)
        for spread in chart.spreads:
            assert sum(spread.counts) + spread.beyond == 9 * 3 * 60
            assert chart.start < spread.quartiles[0] < 0 < spread.quartiles[1] < chart.end
            assert f"{spread.beyond} of {spread.label}" in chart.caption


def test_a_line_of_time_by_round_ends_with_its_process() -> None:
    rounds = [chart for chart in charts_of(swept()) if isinstance(chart, CurveChart) and chart.percent]
    assert len(rounds) == 2
    for curve in rounds[0].curves:
        assert [len(part) for part in curve.parts] == [3] * 9
        assert [point.x for part in curve.parts for point in part] == list(range(1, 28))
        assert float(np.median([point.y for part in curve.parts for point in part])) == pytest.approx(0, abs=1e-12)


def test_latency_is_drawn_against_the_batch_where_there_are_several() -> None:
    (chart,) = (chart for chart in charts_of(swept()) if isinstance(chart, CurveChart) and chart.logarithmic)
    assert [name for _, name in chart.ticks] == ["1", "8"]
    (part,) = chart.curves[0].parts
    assert [round(point.y / point.x) for point in part] == [8, 8]
    one = replace(swept(), rows=tuple(row for row in swept().rows if row.batch == 1))
    assert not any(isinstance(chart, CurveChart) and chart.logarithmic for chart in charts_of(one))


def test_equal_factors_are_equal_distances_on_a_logarithmic_chart() -> None:
    curve = Curve("a", (tuple(Point(4.0**power, 3.0 * 2**power) for power in range(4)),))
    drawn = draw(CurveChart("t", "c", "x", ((1.0, "1"),), (curve,), logarithmic=True), name="x")
    places = [tuple(map(float, place)) for place in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    steps = np.diff(np.array(places), axis=0)
    assert np.abs(steps - steps[0]).max() < 0.2
    assert all(left[0] < right[0] and left[1] > right[1] for left, right in pairwise(places))


def test_the_slowest_layers_stand_first() -> None:
    report = profile_report()
    row = report.rows[0]
    assert row.layers is not None
    layers = tuple(replace(layer, milliseconds=float(index)) for index, layer in enumerate(row.layers.layers, 1))
    rows = (replace(row, layers=replace(row.layers, layers=layers)),)
    _, section = all_sections([replace(report, rows=rows)])
    assert [bar.value for bar in section.charts[0].bars] == list(range(14, 2, -1))  # type: ignore[union-attr]


def test_curves_of_one_point_and_spreads_of_one_value_are_not_drawn() -> None:
    assert draw(CurveChart("t", "c", "x", (), (Curve("a", ((Point(1, 2),),)),)), name="x") == ""
    assert draw(SpreadChart("t", "c", 0.0, 0.0, ()), name="x") == ""
    row = profile_report().rows[0]
    constant = replace(row, samples_ms=(((8.0, 8.0), (8.0, 8.0)),))
    found = charts_of(replace(profile_report(), rows=(constant,)))
    assert not any(isinstance(chart, SpreadChart) for chart in found)
