"""An RMSNorm whose squares overflow in 16 bits passes as exported, and fails by name with its Pow in float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from linglos_deploy import pipeline
from linglos_deploy.bundle import open_bundle, seal_bundle
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.reports.export import ExportReport
from linglos_deploy.verbs.check_parity import ParityRequest, check
from tests.commandline import write_images
from tests.parity.faults import edits

pytestmark = pytest.mark.xdist_group("overflow")
PRECISION = Precision.INT8_FP16


def export(folder: Path, name: str) -> ExportReport:
    """What ``export --int8 --half`` does."""
    request = pipeline.ExportRequest(
        ModelSource(factory="tests.parity.networks:root_mean_square", image_size=(32, 32)),
        folder,
        name=name,
        graph=ExportConfig(precision=PRECISION),
        precision=PRECISION,
        data=write_images(folder / "images", 8, side=32),
        engine="none",
        measure_latency=False,
        threads=1,
    )
    return pipeline.export_bundle(request)


def squares_in_float16(graph: onnx.ModelProto) -> str:
    """Carry the squares in float16; return the name of the node that makes them."""
    squares = edits.nodes(graph, "Pow")[0]
    assert edits.element_type(graph, squares.output[0]) == TensorProto.FLOAT
    edits.tap(
        graph,
        squares.output[0],
        lambda before, after: [
            helper.make_node("Cast", [before], ["squares/half"], "squares/half", to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["squares/half"], [after], "squares/full", to=TensorProto.FLOAT),
        ],
    )
    return squares.name


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = export(tmp_path_factory.mktemp("overflow"), "right")
    assert report.passed, report.parity
    return Path(report.bundle)


def test_the_squares_of_an_exported_graph_stay_in_float32(bundle: Path) -> None:
    graph = onnx.load(bundle / open_bundle(bundle).find_graph(PRECISION).file)
    squares = edits.nodes(graph, "Pow")[0]
    assert edits.element_type(graph, squares.output[0]) == TensorProto.FLOAT


@pytest.mark.usefixtures("no_identity")
def test_squares_in_float16_fail_the_check_and_their_node_is_named(bundle: Path) -> None:
    path = bundle / open_bundle(bundle).find_graph(PRECISION).file
    manifest, original = open_bundle(bundle).manifest, path.read_bytes()
    graph = onnx.load(path)
    name = squares_in_float16(graph)
    try:
        onnx.save(graph, path)
        seal_bundle(bundle, manifest)
        outcome = check(ParityRequest(bundle, precision=PRECISION, threads=1, locate=True))
    finally:
        path.write_bytes(original)
        seal_bundle(bundle, manifest)
    report = outcome.reports[0]
    assert not report.passed
    assert report.proof is not None
    assert report.proof.passed  # a 16-bit graph may cast where it likes: what that costs is measured
    inner = next(finding for finding in report.findings if finding.name == "no inner tensor is lost")
    assert inner.passed is False
    assert "NaN or infinite" in inner.found or "dB" in inner.found
    assert [location.layer for location in outcome.locations] == [name]


@pytest.mark.slow
def test_an_export_that_carries_them_in_float16_fails_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = pipeline.convert_precision

    def careless(model: object, precision: Precision, *, out: Path, **settings: object) -> object:
        made = narrow(model, precision, out=out, **settings)  # type: ignore[arg-type]
        graph = onnx.load(out)
        squares_in_float16(graph)
        onnx.save(graph, out)
        return made

    monkeypatch.setattr(pipeline, "convert_precision", careless)
    report = export(tmp_path, "careless")
    assert not report.passed
    failed = next(found for found in report.parity if found.precision is PRECISION)
    assert not failed.passed
    assert any(finding.node and finding.passed is False for finding in failed.findings)
    assert np.isfinite(failed.outputs[0].metrics.sqnr_db)
