"""Faults of a network that is not LinGlo are caught, and their layer is named where they sit in one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

from linglos_deploy import pipeline
from linglos_deploy.bundle import open_bundle, seal_bundle
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.parity.structure import prove
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.verbs.check_parity import ParityRequest, check
from tests.commandline import write_images
from tests.parity.faults.planting import Fault
from tests.parity.faults.small import SMALL_FAULTS

pytestmark = pytest.mark.xdist_group("pyramid")

ROUNDING = {"small_epsilon"}
"""Beyond 110 dB, so that measuring cannot tell it from float32's rounding; in derived graphs it is seen."""
PRECISIONS = (Precision.INT8, Precision.INT8_FP16, Precision.FP16)


@pytest.fixture(scope="session")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Precision, Path]:
    """Bundles of the pyramid, for images of any size."""
    folder = tmp_path_factory.mktemp("pyramid")
    images = write_images(folder / "images", 8, side=40)
    bundles = {}
    for precision in PRECISIONS:
        report = pipeline.export_bundle(
            pipeline.ExportRequest(
                ModelSource(factory="tests.parity.networks:pyramid", image_size=(32, 32)),
                folder,
                name=str(precision),
                graph=ExportConfig(dynamic=True, precision=Precision.INT8),
                precision=precision,
                data=images,
                engine="none",
                measure_latency=False,
                threads=1,
            )
        )
        assert report.passed, report.parity
        bundles[precision] = Path(report.bundle)
    return bundles


def graph_of(bundle: Path, precision: Precision) -> Path:
    return bundle / open_bundle(bundle).find_graph(precision).file


@pytest.mark.usefixtures("no_identity")
@pytest.mark.parametrize("fault", [fault for fault in SMALL_FAULTS if str(fault) not in ROUNDING], ids=str)
def test_a_fault_in_the_float32_graph_is_measured(
    pyramid: Mapping[Precision, Path], fault: Fault, tmp_path: Path
) -> None:
    bundle = pyramid[Precision.INT8]
    faulty = fault.plant(onnx.load(bundle / "model.onnx"))
    assert faulty is not None
    shutil.copytree(bundle, tmp_path / "bundle")
    onnx.save(faulty, tmp_path / "bundle" / "model.onnx")
    seal_bundle(tmp_path / "bundle", open_bundle(bundle).manifest)
    assert not check(ParityRequest(tmp_path / "bundle", precision=Precision.FP32, threads=1)).passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_fault_in_a_derived_graph_is_proven_and_its_layer_named(
    pyramid: Mapping[Precision, Path], precision: Precision
) -> None:
    bundle = pyramid[precision]
    parent, graph = onnx.load(bundle / "model.onnx"), onnx.load(graph_of(bundle, precision))
    plan = QuantPlan.load(bundle / "plan.json") if precision.is_int8 else None
    assert prove(parent, graph, precision, plan=plan).passed
    unseen, elsewhere, planted = [], [], 0
    for fault in SMALL_FAULTS:
        faulty = fault.plant(graph)
        if faulty is None:
            continue
        planted += 1
        proof = prove(parent, faulty, precision, plan=plan)
        if proof.passed:
            unseen.append(str(fault))
        elif fault.layer is not None and proof.differences[0].layer != fault.layer:
            elsewhere.append((str(fault), fault.layer, proof.differences[0]))
    assert not unseen
    assert not elsewhere
    assert planted >= len(SMALL_FAULTS) - 4
