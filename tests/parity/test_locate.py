"""The first layer that goes wrong is found by looking at few tensors, and named as the PyTorch module it came from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.bundle import open_bundle
from linglos_deploy.choices import Precision
from linglos_deploy.codec import from_json, to_json
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.golden_tensors import read_golden
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.parity.locate import locate, module_of
from linglos_deploy.reports.parity import Location
from linglos_deploy.verbs.check_parity import ParityRequest, bundle_subjects, check
from linglos_deploy.verbs.locating import locate_in
from linglos_deploy.verbs.verdicts import Subject
from tests.parity.conftest import CHECKPOINT, Digits
from tests.parity.faults import edits
from tests.parity.faults.floating import FLOAT_FAULTS
from tests.parity.faults.integer import INTEGER_FAULTS
from tests.parity.faults.planting import Fault
from tests.parity.test_layerwise import X, chain

pytestmark = pytest.mark.xdist_group("digits")

FAULTS = {str(fault): fault for fault in (*FLOAT_FAULTS, *INTEGER_FAULTS)}
QUICK = [
    (Precision.FP32, "zeroed_mlp"),
    (Precision.FP32, "no_shortcut"),
    (Precision.FP32, "leak_of_a_tenth"),
    (Precision.INT8, "scale_by_a_tenth"),
    (Precision.INT8, "one_step"),
    (Precision.INT8_FP16, "dead_integer_channel"),
    (Precision.FP16, "tanh_gelu"),
]
ALL = [
    (precision, str(fault))
    for precision in (Precision.FP32, Precision.INT8, Precision.INT8_FP16, Precision.FP16)
    for fault in (*FLOAT_FAULTS, *(INTEGER_FAULTS if precision.is_int8 else ()))
    if fault.layer is not None
]


def located(digits: Digits, precision: Precision, fault: Fault | None, folder: Path) -> Location | None:
    path = digits.graph(precision)
    graph = onnx.load(path)
    faulty = graph if fault is None else fault.plant(graph)
    if faulty is None:
        return None
    onnx.save(faulty, folder / path.name)
    bundle = open_bundle(path.parent)
    subject = next(found for found in bundle_subjects(bundle) if found.precision is precision)
    if precision is Precision.FP32:
        subject = replace(subject, counterpart=open_onnx(path))
    images = read_golden(bundle.path / "golden/golden.safetensors")["image"]
    batch = {"image": np.concatenate([images[:2], images[-2:]])}
    return locate_in(replace(subject, graph=open_onnx(folder / path.name)), batch, threads=1)


@pytest.mark.parametrize(("precision", "name"), QUICK)
def test_the_right_layer_is_named(digits: Digits, precision: Precision, name: str, tmp_path: Path) -> None:
    found = located(digits, precision, FAULTS[name], tmp_path)
    assert found is not None
    assert found.layer == FAULTS[name].layer
    assert found.module == str(found.layer).rpartition("/")[0]
    assert found.runs <= 2 * math.log2(found.tensors) + 5
    assert from_json(Location, to_json(found), source="test") == found


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "name"), ALL)
def test_every_fault_that_sits_in_one_layer_is_located(
    digits: Digits, precision: Precision, name: str, tmp_path: Path
) -> None:
    found = located(digits, precision, FAULTS[name], tmp_path)
    if found is None:
        pytest.skip(f"{precision} graphs have no such weight; its INT8 form is among the INT8 faults")
    assert found.layer == FAULTS[name].layer
    assert found.runs <= 2 * math.log2(found.tensors) + 5


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8, Precision.INT8_FP16, Precision.FP16])
def test_nothing_is_found_in_a_clean_graph(digits: Digits, precision: Precision, tmp_path: Path) -> None:
    found = located(digits, precision, None, tmp_path)
    assert found is not None
    assert (found.tensor, found.layer, found.runs) == (None, None, 2)


def test_a_float32_fault_is_located_against_pytorch(digits: Digits, tmp_path: Path) -> None:
    faulty = FAULTS["no_bias"].plant(onnx.load(digits.graph(Precision.FP32)))
    assert faulty is not None
    bundle = digits.with_graph(Precision.FP32, faulty, tmp_path / "bundle")
    outcome = check(
        ParityRequest(
            bundle,
            source=ModelSource(checkpoint=CHECKPOINT),
            data=digits.images,
            images=8,
            precision=Precision.FP32,
            threads=1,
            locate=True,
        )
    )
    assert not outcome.passed
    assert [location.layer for location in outcome.locations] == [FAULTS["no_bias"].layer]


def test_what_feeds_the_first_wrong_tensor_is_told(tmp_path: Path) -> None:
    clean, wrong = chain(tmp_path / "a.onnx"), chain(tmp_path / "b.onnx", second=30.0)
    found = locate(
        onnx.load(clean.path),
        onnx.load(wrong.path),
        {"image": X},
        runtime=OnnxRuntime(threads=1),
        names=("a", "b"),
    )
    assert (found.tensor, found.node, found.layer, found.feeds) == ("b", "two", "two", ("a", "noise"))
    assert [probe.tensor for probe in found.probes if probe.sqnr_db < found.limit_db] == ["b", "c"]


def test_a_node_without_a_scope_has_no_module() -> None:
    assert module_of("stages.0.1.mlp.2/Conv") == "stages.0.1.mlp.2"
    assert module_of("ReduceMean") == ""


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_the_largest_variant_is_searched_in_twice_the_logarithm_of_its_tensors(
    variant_b: Path, place: float, tmp_path: Path
) -> None:
    graph = onnx.load(variant_b)
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    wrong = convolutions[int(place * len(convolutions))]
    edits.change(graph, wrong.input[1], lambda weight: weight * 1.02)
    onnx.save(graph, tmp_path / "wrong.onnx")
    subject = Subject(open_onnx(tmp_path / "wrong.onnx"), Precision.FP32, counterpart=open_onnx(variant_b))
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    found = locate_in(subject, {"image": images}, threads=1)
    assert found.layer == wrong.name
    assert found.tensors > 200
    assert found.runs <= 2 * math.log2(found.tensors) + 5


@pytest.fixture(scope="session")
def variant_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(ModelSource(variant="b", image_size=(64, 64)))
    return export_onnx(model, ExportConfig(), out=tmp_path_factory.mktemp("b") / "model.onnx").path
