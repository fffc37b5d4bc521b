"""The page shows every tensor with every threshold, and needs nothing from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np

from linglos_deploy.calibration.coverage import Coverage
from linglos_deploy.calibration.figures import describe, facts_of, histogram_svg, table_html
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.thresholds import threshold
from linglos_deploy.images.preprocessing import PreprocessSpec

VALUES = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
TABLE = CalibrationTable(
    {"a<b>": observe(VALUES), "zeros": observe(np.zeros((1, 4), np.float32)), "none": TensorStatistics()},
    "ab" * 32,
    preprocess=PreprocessSpec(),
    image_count=3,
    tools={"numpy": "2"},
)


def test_the_page_names_every_tensor_and_is_self_contained():
    page = table_html(TABLE, chosen={"a<b>": 1.25})
    assert "<h2>a&lt;b&gt;</h2>" in page
    assert "nothing to draw" in page
    assert "chosen 1.25" in page
    assert "Synthetic" not in page
    assert not any(word in page for word in ("http", "<script", "url(", "@import"))
    assert "Synthetic images" in table_html(replace(TABLE, synthetic=True))


def test_every_threshold_is_drawn_at_its_place():
    stats = TABLE.tensors["a<b>"]
    drawing = ElementTree.fromstring(histogram_svg(stats))
    lines = [element for element in drawing if element.tag == "line"]
    texts = [element.text for element in drawing if element.tag == "text"]
    assert len(lines) == len(builtin_methods())
    for method, line in zip(builtin_methods(), lines, strict=True):
        bound = threshold(stats, method)
        assert f"{method} {bound:.4g}" in texts
        assert float(line.get("x1")) == round(24 + 592 * bound / stats.absolute_maximum, 1)
    assert any(element.tag == "rect" for element in drawing)


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
