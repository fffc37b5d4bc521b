"""A bundle that contradicts itself fails, though every graph in it answers as it should."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from linglos_deploy import pipeline
from linglos_deploy.bundle import GOLDEN, Bundle, InputKind, Manifest, open_bundle, seal_bundle
from linglos_deploy.choices import Precision, Weights
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.golden_tensors import read_golden, write_golden
from linglos_deploy.images.preprocessing import Color, Interpolation
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.verbs.check_parity import ParityRequest, check
from linglos_deploy.verbs.consistency import check_golden, check_graph_entry
from tests.commandline import write_images

pytestmark = pytest.mark.xdist_group("consistency")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("consistent")
    request = pipeline.ExportRequest(
        ModelSource(factory="tests.parity.networks:labelled", image_size=(32, 32)),
        folder,
        name="bundle",
        graph=ExportConfig(precision=Precision.INT8),
        precision=Precision.INT8,
        data=write_images(folder / "images", 8, side=40),
        engine="none",
        measure_latency=False,
        threads=1,
    )
    assert pipeline.export_bundle(request).passed
    return open_bundle(folder / "bundle")


def changed(bundle: Bundle, folder: Path, change: Callable[[Manifest], Manifest]) -> Bundle:
    """Return a copy whose manifest says something else, sealed as if nothing had happened."""
    shutil.copytree(bundle.path, folder)
    seal_bundle(folder, change(bundle.manifest))
    return open_bundle(folder)


def prepared(**changes: Any) -> Callable[[Manifest], Manifest]:
    return lambda manifest: replace(manifest, preprocessing=replace(manifest.preprocessing, **changes))


def last_graph(**changes: Any) -> Callable[[Manifest], Manifest]:
    return lambda manifest: replace(manifest, graphs=(*manifest.graphs[:-1], replace(manifest.graphs[-1], **changes)))


PREPARED = {
    "one mean": prepared(mean=(0.45, 0.40, 0.36)),
    "one std": prepared(std=(0.30, 0.28, 0.34)),
    "colours": prepared(color=Color.BGR),
    "crop": prepared(crop_pct=1.0),
    "filter": prepared(interpolation=Interpolation.BILINEAR),
    "scale": prepared(scale=1.0),
}
SAID = {
    **PREPARED,
    "labels by one": lambda manifest: replace(manifest, labels=(*manifest.labels[1:], manifest.labels[0])),
    "no labels": lambda manifest: replace(manifest, labels=()),
    "weights": lambda manifest: replace(manifest, weights=Weights.RANDOM),
    "decoding": lambda manifest: replace(manifest, decoding=replace(manifest.decoding, task="features")),
    "precision": last_graph(precision="int8+fp16"),
    "input": last_graph(input=InputKind.PIXELS),
    "runtimes": last_graph(runtimes=("openvino",)),
    "machines": last_graph(machines=()),
    "a float32 file": last_graph(file="model.onnx"),
}


def test_a_bundle_as_it_was_made_agrees_with_itself(bundle: Bundle) -> None:
    assert [check_graph_entry(bundle, entry).found for entry in bundle.manifest.graphs] == ["they agree"] * 4
    assert check_golden(bundle, read_golden(bundle.path / GOLDEN)).passed


@pytest.mark.parametrize("change", SAID.values(), ids=SAID)
def test_what_the_manifest_says_otherwise_than_the_graph_is_named(
    bundle: Bundle, change: Callable[[Manifest], Manifest], tmp_path: Path
) -> None:
    other = changed(bundle, tmp_path / "bundle", change)
    finding = check_graph_entry(other, other.manifest.graphs[-1])
    assert finding.passed is False
    assert "in the manifest" in finding.found


@pytest.mark.parametrize("change", PREPARED.values(), ids=PREPARED)
def test_golden_images_show_another_preprocessing(
    bundle: Bundle, change: Callable[[Manifest], Manifest], tmp_path: Path
) -> None:
    """Even where every graph's own note was rewritten, too."""
    other = changed(bundle, tmp_path / "bundle", change)
    assert check_golden(other, read_golden(other.path / GOLDEN)).passed is False


def test_golden_input_of_one_image_that_was_changed_is_named(bundle: Bundle) -> None:
    tensors = read_golden(bundle.path / GOLDEN)
    tensors["image"][2, 1, 3, 4] += 1e-3
    finding = check_golden(bundle, tensors)
    assert finding.passed is False
    assert "golden image 2 " in finding.found


@pytest.mark.parametrize(("precision", "wrong"), [(Precision.FP32, 3e-4), (Precision.INT8, 0.1)])
def test_golden_answers_of_another_graph_fail_the_verdict(
    bundle: Bundle, precision: Precision, wrong: float, tmp_path: Path
) -> None:
    """They change nothing here, and let the loaders in C++ refuse a good bundle, or pass a bad one."""
    shutil.copytree(bundle.path, tmp_path / "bundle")
    tensors = read_golden(bundle.path / GOLDEN)
    name = f"{bundle.find_graph(precision).file}:logits"
    tensors[name] = tensors[name] + wrong * np.abs(tensors[name]).max()
    write_golden(tensors, tmp_path / "bundle" / GOLDEN)
    seal_bundle(tmp_path / "bundle", bundle.manifest)
    report = check(ParityRequest(tmp_path / "bundle", precision=precision, threads=1, layers=False)).reports[0]
    assert [finding.name for finding in report.findings if finding.passed is False] == [
        "the golden answers that a loader tests itself with are this graph's"
    ]
    clean = check(ParityRequest(bundle.path, precision=precision, threads=1, layers=False))
    assert clean.passed


def test_the_float32_graph_is_proven_where_the_model_is_at_hand(bundle: Bundle) -> None:
    request = ParityRequest(
        bundle.path,
        source=ModelSource(factory="tests.parity.networks:labelled", image_size=(32, 32)),
        data=bundle.path.parent / "images",
        precision=Precision.FP32,
        threads=1,
    )
    (report,) = check(request).reports
    assert report.passed
    assert "it is what the PyTorch model exports to" in {finding.name for finding in report.findings if finding.passed}


def test_the_graph_of_another_runtime_is_told_by_its_pairs(bundle: Bundle, tmp_path: Path) -> None:
    other = changed(bundle, tmp_path / "bundle", last_graph(file="model.int8.onnx"))
    reports = check(ParityRequest(other.path, precision=Precision.INT8, threads=1, layers=False)).reports
    assert [report.passed for report in reports] == [True, True, False]


def test_a_changed_parent_fails_the_verdict_on_its_child(bundle: Bundle, tmp_path: Path) -> None:
    """The child is proven against its parent, so the parent has to be the one that was checked."""
    shutil.copytree(bundle.path, tmp_path / "bundle")
    graph = onnx.load(bundle.path / "model.onnx")
    graph.doc_string = "harmless"
    onnx.save(graph, tmp_path / "bundle" / "model.onnx")
    seal_bundle(tmp_path / "bundle", bundle.manifest)
    report = check(ParityRequest(tmp_path / "bundle", precision=Precision.INT8, threads=1, layers=False)).reports[0]
    failed = {finding.name: finding.found for finding in report.findings if finding.passed is False}
    assert "its parent: it is the file that was checked when the bundle was made" in failed
    assert "made from the graph" in failed["the manifest says of 'model.int8.onnx' what it is"]
