"""The page shows every tensor with every threshold, and needs nothing from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from linglos_deploy import descriptions
from linglos_deploy.calibration.coverage import Coverage
from linglos_deploy.calibration.figures import describe, facts_of, histogram
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.reports.charts import draw
from linglos_deploy.reports.document import Histogram, Mark
from linglos_deploy.reports.html import to_html

assert descriptions  # registered how a table looks

VALUES = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
TABLE = CalibrationTable(
    {"a<b>": observe(VALUES), "zeros": observe(np.zeros((1, 4), np.float32)), "none": TensorStatistics()},
    "ab" * 32,
    preprocess=PreprocessSpec(),
    image_count=3,
    tools={"numpy": "2"},
)


def test_the_page_names_every_tensor_and_is_self_contained():
    page = to_html([TABLE])
    assert "<h2>a&lt;b&gt;</h2>" in page
    assert page.count("<svg") == 1  # zeros and nothing cannot be drawn
    assert "synthetic" not in page
    assert not any(word in page for word in ("http:", "https:", "<script", "url(", "@import"))
    assert "synthetic images" in to_html([replace(TABLE, synthetic=True)])


def test_every_threshold_is_marked_at_its_place():
    stats = TABLE.tensors["a<b>"]
    drawn = histogram(stats, chosen=1.25)
    assert drawn is not None
    assert [mark.label for mark in drawn.marks] == [*builtin_methods(), "chosen"]
    assert [mark.value for mark in drawn.marks] == [*(threshold(stats, name) for name in builtin_methods()), 1.25]
    assert drawn.end == stats.absolute_maximum
    assert sum(drawn.counts) == pytest.approx(stats.count)
    assert histogram(TABLE.tensors["zeros"]) is None


def test_a_mark_is_drawn_where_its_value_lies_on_the_axis():
    chart = Histogram("t", "c", end=4.0, counts=(8.0, 0.0, 1.0, 0.0), marks=(Mark("half", 2.0), Mark("beyond", 9.0)))
    drawing = ElementTree.fromstring(draw(chart, name="n")).find(".//svg")
    assert drawing is not None
    assert [line.get("x1") for line in drawing.iter("line")] == ["280.0", "550.0"]
    tall, small = (float(bar.get("height", "")) for bar in drawing.iter("rect"))
    assert tall == 100.0
    assert small == pytest.approx(100 * np.log(2) / np.log(9), abs=0.05)


def test_tensors_are_described_in_a_line():
    assert describe(TensorStatistics()) == "no values"
    assert describe(observe(np.full((1, 2), np.nan, np.float32))) == "2 values, none of them finite"
    assert "1 not finite" in describe(observe(np.array([1, np.inf], np.float32)))


def test_facts_say_what_is_missing():
    unfinished = replace(
        TABLE, preprocess=None, tools={}, sampling=Sampling(4, 1), coverage=(Coverage("x", 3, (2,)),), position=7
    )
    facts = dict(facts_of(unfinished))
    assert facts["coverage"] == "shards 2 of 3, stopped at image 7"
    assert facts["preprocessing"] == facts["tools"] == "unknown"
    assert facts["elements"].startswith("one of 4")
    assert dict(facts_of(replace(TABLE, coverage=(Coverage("x"),))))["coverage"] == "all images"
