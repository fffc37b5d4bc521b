"""How latency grows with pixels and batch: exact where it is a power, covered by its interval where there is noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linglos_deploy.profiling.scaling import fit_power, scalings
from linglos_deploy.profiling.statistics import summarize
from linglos_deploy.reports.document import CurveChart, all_sections
from linglos_deploy.reports.profile import Against, ProfileReport, ProfileRow
from linglos_deploy.reports.text import to_text
from tests.reports.examples import profile_report

SIDES = ((96, 128), (128, 128), (160, 224), (320, 320))


def row(milliseconds: float, *, batch: int, size: tuple[int, int] | None, threads: int = 1) -> ProfileRow:
    samples = (((milliseconds,) * 3,) * 2,) * 5
    like = replace(profile_report().rows[0], notes=(), layers=None, samples_ms=samples, latency=summarize(samples))
    return replace(like, batch=batch, image_size=size, threads=threads)


def swept(power: float, *, sides: tuple[tuple[int, int], ...] = SIDES) -> list[ProfileRow]:
    """Latency that grows with this power of the pixels, and half as steeply with the batch."""
    return [
        row(1e-3 * (h * w) ** power * batch ** (power / 2), batch=batch, size=(h, w))
        for h, w in sides
        for batch in (1, 2, 4, 8)
    ]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_a_power_is_found_exactly_for_each_setting_of_everything_else(power: float) -> None:
    found = scalings(swept(power), confidence=0.95)
    pixels = [each for each in found if each.against is Against.PIXELS]
    batches = [each for each in found if each.against is Against.BATCH]
    assert [(each.batch, each.image_size, each.points) for each in pixels] == [(b, None, 4) for b in (1, 2, 4, 8)]
    assert [(each.batch, each.image_size, each.points) for each in batches] == [(None, side, 4) for side in SIDES]
    for each in found:
        expected = power if each.against is Against.PIXELS else power / 2
        assert each.exponent == pytest.approx(expected)
        assert each.low == pytest.approx(expected, abs=1e-6)
        assert each.high == pytest.approx(expected, abs=1e-6)


def test_no_exponent_is_given_from_fewer_than_four_sizes() -> None:
    few = scalings(swept(1.0, sides=SIDES[:3]), confidence=0.95)
    pixels = [each for each in few if each.against is Against.PIXELS]
    assert [(each.exponent, each.low, each.high, each.points) for each in pixels] == [(None, None, None, 3)] * 4


@pytest.mark.parametrize(("batch", "size"), [(2, (8, 8)), (1, (16, 8)), (1, (8, 8))])
def test_rows_of_different_threads_are_never_one_sweep(batch: int, size: tuple[int, int]) -> None:
    rows = [row(1.0, batch=1, size=(8, 8)), row(2.0, batch=batch, size=size, threads=2)]
    assert not scalings(rows, confidence=0.95)


def test_what_has_no_images_scales_with_its_batch_only() -> None:
    (found,) = scalings([row(2.0 * batch, batch=batch, size=None) for batch in (1, 2, 3, 5)], confidence=0.95)
    assert (found.against, found.image_size) == (Against.BATCH, None)
    assert found.exponent == pytest.approx(1.0)


def test_turned_images_have_the_same_pixels_and_count_once() -> None:
    rows = [row(1.0, batch=1, size=size) for size in ((8, 16), (16, 8), (8, 8))]
    (found,) = scalings(rows, confidence=0.95)
    assert found.points == 2


@pytest.mark.parametrize("count", [4, 6])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_holds_the_exponent_as_often_as_it_says(count: int, confidence: float) -> None:
    random, sizes = np.random.default_rng(count), np.geomspace(1e4, 1e6, count)
    held = 0
    for _ in range(600):
        times = 1e-3 * sizes**1.2 * random.lognormal(0, 0.1, count)
        fitted = fit_power(list(sizes), list(times), confidence)
        assert fitted is not None
        held += fitted[1] <= 1.2 <= fitted[2]
    assert held / 600 == pytest.approx(confidence, abs=0.05)


def report(rows: list[ProfileRow]) -> ProfileReport:
    found = scalings(rows, confidence=0.95)
    return replace(profile_report(), rows=tuple(rows), checks=(), warnings=(), scalings=found)


def test_a_sweep_is_drawn_against_pixels_and_batch_and_said_in_a_table() -> None:
    (section,) = all_sections([report(swept(1.0))])
    curves = [chart for chart in section.charts if isinstance(chart, CurveChart) and chart.logarithmic]
    assert [chart.title for chart in curves if "pixels" in chart.title] == [
        f"Latency against pixels, batch {batch}, 1 thread (ms)" for batch in (1, 2, 4, 8)
    ]
    assert [chart.title for chart in curves if "batch," in chart.title] == [
        f"Latency against batch, {h} × {w}, 1 thread (ms)" for h, w in SIDES
    ]
    pixels = next(chart for chart in curves if "pixels" in chart.title)
    assert [name for _, name in pixels.ticks] == ["96 × 128", "128²", "160 × 224", "320²"]
    text = to_text([report(swept(1.0))], width=150)
    assert "1.00 [1.00, 1.00]" in text
    assert "Fastest at batch 8, 320 × 320" in text
    assert "needs 4 sizes" in to_text([report(swept(1.0, sides=SIDES[:2]))], width=150)
