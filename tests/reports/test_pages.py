"""HTML reports in a browser: nothing complains, nothing is fetched, and they fit a phone, the night and paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.images.thumbnails import thumbnail
from linglos_deploy.reports.comparison import Change, ComparisonReport
from linglos_deploy.reports.html import to_html, write_html
from linglos_deploy.reports.parity import (
    ClassAgreement,
    Finding,
    Flip,
    Location,
    ParityOutcome,
    ParityReport,
    Probe,
)
from tests.browser import Page, needs_chromium, opened
from tests.reports.examples import NASTY, all_reports, parity_report

RNG = np.random.default_rng(0)
PICTURE = thumbnail(RNG.normal(size=(3, 20, 24)))
LONG = "a/" + "very-long-folder-name-without-any-place-to-break" * 3 + ".png"


def full_parity() -> ParityReport:
    """A verdict with everything that a page can show."""
    report = parity_report()
    flips = (
        Flip("val/3.png", 0, 1, 2.5, 0.5, PICTURE),
        Flip(LONG, 1, 0, 0.1, 3.0, ""),
        Flip(NASTY, 2, 7, 0.0, 0.0, "javascript:alert(1)"),
    )
    classes = (ClassAgreement(0, 40, 39, 1), ClassAgreement(1, 24, 24, None))
    (output,) = report.outputs
    growth = tuple(Probe(f"stages.{index // 10}.0/conv{index}", 60.0 - index) for index in range(40))
    return replace(
        report,
        outputs=(replace(output, flips=flips, classes=classes),),
        findings=(Finding("an image answers the same in any place of a batch", False, LONG, "at least 90 dB"),),
        labels=(NASTY, "a class with a long name " * 4, "c"),
        growth=growth,
    )


def location() -> Location:
    probes = tuple(Probe(name, db) for name, db in (("image", 300.0), ("conv", 8.0), ("logits", 7.0)))
    return Location("model.onnx", NASTY, 9, 5, 60.0, "conv", "conv", "conv", "stem.conv", 8.0, ("image",), probes)


def outcome() -> ParityOutcome:
    return ParityOutcome((full_parity(), parity_report(decibels=30)), (), passed=False, locations=(location(),))


def comparison() -> ComparisonReport:
    changes = (
        Change("logits", "SQNR", "40.0 dB", "9.0 dB", "at least 38.5 dB: 1.5 dB on the same images", passed=False),
        Change(LONG, "layer", "INT8", NASTY),
    )
    return ComparisonReport.of("bundle", "old", LONG, changes, ("doubtful",))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    write_html([outcome(), comparison(), *all_reports()], folder / "report.html")
    with opened(folder / "report.html", profile=folder / "profile") as page:
        yield page


pytestmark = pytest.mark.xdist_group("chromium")


@needs_chromium
def test_a_page_logs_nothing_and_fetches_nothing_but_itself(page: Page) -> None:
    assert [address.rpartition("/")[2] for address in page.requests] == ["report.html"]
    assert page.complaints == []
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("[...document.images].map(i => i.naturalWidth)") == [24]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(page: Page, scheme: str) -> None:
    page.prefer(scheme)
    page.resize(400)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    outside = """[...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > 400 && !e.closest('.scroll, .drawing, .name'))
        .map(e => e.tagName + '.' + e.className)"""
    assert page.evaluate(outside) == []


@needs_chromium
def test_a_page_follows_the_readers_light_or_dark_setting(page: Page) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        colours = [
            page.evaluate(f"getComputedStyle(document.querySelector('{part}')).{what}")
            for part, what in (("section", "backgroundColor"), ("section", "color"), (".card", "backgroundColor"))
        ]
        brightness[scheme] = [sum(map(int, colour[4:-1].split(","))) for colour in colours]
    (ground, text, card), (night, light, night_card) = brightness["light"], brightness["dark"]
    assert ground > 600 > 200 > text
    assert night < 200 < 600 < light
    assert card > 600
    assert night_card < 200


@needs_chromium
def test_folded_tables_are_printed(page: Page, tmp_path: Path) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    page.pdf(tmp_path / "closed.pdf")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.pdf(tmp_path / "open.pdf")
    closed, whole = (path.stat().st_size for path in (tmp_path / "closed.pdf", tmp_path / "open.pdf"))
    assert (tmp_path / "closed.pdf").read_bytes().startswith(b"%PDF")
    assert closed == pytest.approx(whole, rel=0.02)


def test_a_picture_that_is_no_png_is_not_put_into_a_page() -> None:
    text = to_html([full_parity()])
    assert text.count("<img ") == 1
    assert "javascript:" not in text
    evil = replace(full_parity().outputs[0], flips=(Flip("x", 0, 1, 1.0, 0.0, PICTURE + '" onerror="alert(1)'),))
    assert "<img " not in to_html([replace(full_parity(), outputs=(evil,))])


def test_flips_say_both_answers_by_name_and_their_margins() -> None:
    report = replace(full_parity(), labels=("ant", "bee"))
    text = to_html([report])
    assert (
        '<span class="tone-good">ant</span> <span aria-label="became">→</span> <span class="tone-bad">bee</span>'
        in text
    )
    assert "margin 2.50, then 0.500" in text
    assert '<span class="tone-bad">7</span>' in text  # a class without a name is a number


def test_the_worst_inner_tensor_is_named_and_parts_of_the_network_are_told_apart() -> None:
    text = to_html([full_parity()])
    assert "stages.3.0/conv39  8.91 %" in text
    assert all(f">stages.{number}</text>" in text for number in range(4))
    assert "How the error grows" not in to_html([parity_report()])


def test_where_a_graph_goes_wrong_is_marked_in_the_picture() -> None:
    text = to_html([location()])
    assert "conv  39.8 %" in text
    assert "limit 0.100 %" in text
