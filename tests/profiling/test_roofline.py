"""Layers against the machine's limits: what they have to do, what the machine can, and what could be gained."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.errors import RunError
from linglos_deploy.profiling import limits as module
from linglos_deploy.profiling.limits import bytes_a_second, measure_limits, products_a_second
from linglos_deploy.profiling.work import with_work
from linglos_deploy.reports.document import all_sections
from linglos_deploy.reports.profile import LayerProfile, LayerTime, MachineLimits
from tests.reports.examples import profile_report


def layer(name: str, milliseconds: float, dtype: str = "float32") -> LayerTime:
    return LayerTime(name, "", "Conv", dtype, milliseconds, 0.1)


@pytest.fixture
def artifact(tmp_path: Path) -> OnnxArtifact:
    """A convolution of 3 to 5 channels, 3 x 3, and a linear layer on its mean; every size of the input is open."""
    random = np.random.default_rng(0)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 7])
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["map"], "stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"], "mean/Pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], "mean/Flatten"),
        helper.make_node("MatMul", ["flat", "v"], ["logits"], "head/MatMul"),
    ]
    weights = {"w": (5, 3, 3, 3), "v": (5, 7)}
    tensors = [numpy_helper.from_array(random.random(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(nodes, "net", [image], [logits], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "net.onnx")  # as exported: open sizes inside, too
    return open_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (4, 6, 10)])
def test_layers_get_the_work_of_their_node_at_the_sizes_that_ran(
    artifact: OnnxArtifact, batch: int, height: int, width: int
) -> None:
    steps = LayerProfile((layer("stem/Conv_nchwc", 2.0), layer("head/MatMul", 1.0), layer("reorder", 1.0)), 4.0)
    image = np.zeros((batch, 3, height, width), np.float32)
    conv, matmul, reorder = with_work(steps, artifact, {"image": image}).layers
    pixels = batch * height * width
    assert conv.macs == pixels * 5 * 27
    assert conv.bytes == 4 * (pixels * 3 + pixels * 5 + 5 * 27)
    assert (matmul.macs, matmul.bytes) == (batch * 35, 4 * (batch * 5 + 35 + batch * 7))
    assert (reorder.macs, reorder.bytes) == (None, None)


def test_of_several_steps_of_one_node_the_slowest_does_the_work_and_integers_have_no_limit(
    artifact: OnnxArtifact,
) -> None:
    steps = (
        layer("stem/Conv", 1.0),
        layer("stem/Conv_2", 3.0),
        layer("stem/Conv_3", 2.0),
        layer("head/MatMul", 1, "int8"),
    )
    found = with_work(LayerProfile(steps, 7.0), artifact, {"image": np.zeros((1, 3, 8, 8), np.float32)}).layers
    assert [each.macs is not None for each in found] == [False, True, False, False]


def test_a_limit_is_the_fastest_of_several_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIDE", 16)
    monkeypatch.setattr(module, "_COPIED_BYTES", 1 << 12)
    durations = [4.0, 2.0, 0.5, 1.0, 3.0, 2.0, 5.0, 1.0]

    def clock() -> float:
        ticks.append(len(ticks))
        started, index = divmod(len(ticks), 2)
        return 100.0 * started if index else 100.0 * (started - 1) + durations[started - 1]

    ticks: list[int] = []
    assert products_a_second(1, clock=clock) == pytest.approx(16**3 / 0.5)
    for threads in (1, 3):
        ticks.clear()
        assert bytes_a_second(threads, clock=clock) == pytest.approx(2 * (1 << 12) / 0.5)


def test_limits_come_from_a_process_of_their_own_and_its_failure_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    says = 'import sys; print(\'{"threads": \' + sys.argv[1] + \', "macs": 2.0, "bytes": 3.0}\')'
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", says))
    assert measure_limits(4) == MachineLimits(4, 2.0, 3.0)
    monkeypatch.setattr(module, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(RunError, match="limits could not be measured"):
        measure_limits(1)


def test_a_layer_takes_at_least_what_its_products_or_its_bytes_take() -> None:
    limit = MachineLimits(1, macs=1e9, bytes=1e8)
    assert limit.least_ms(replace(layer("a", 9), macs=2_000_000, bytes=1_000)) == pytest.approx(2.0)
    assert limit.least_ms(replace(layer("a", 9), macs=2_000, bytes=300_000)) == pytest.approx(3.0)
    assert limit.least_ms(layer("a", 9)) is None


def test_what_could_be_gained_most_stands_first() -> None:
    layers = (
        replace(layer("near", 10.0), macs=9_000_000, bytes=8),
        replace(layer("far", 6.0), macs=1_000_000, bytes=8),
        replace(layer("cached", 1.0), macs=8, bytes=200_000),
        layer("unknown", 50.0),
    )
    first = replace(profile_report().rows[0], layers=LayerProfile(layers, 70.0), threads=2)
    report = replace(profile_report(), rows=(first,), limits=(MachineLimits(2, 1e9, 1e8),))
    _, section = all_sections([report])
    (table,) = (table for table in section.tables if table.title.startswith("What could be gained"))
    assert table.title.endswith("3 of 4 layers")
    assert [row[0].text for row in table.rows] == ["far", "near", "cached"]
    assert [row[-1].text for row in table.rows] == ["5.00", "1.00", "0"]
    assert [row[4].text for row in table.rows] == ["products", "products", "memory"]
    assert [row[2].text for row in table.rows[:2]] == ["0.3", "1.8"]
    (name, found), *_ = section.facts
    assert name == "limits of this machine, 2 threads"
    assert found.startswith("2.0 GFLOP/s, 0.1 GB/s, measured")
    other = replace(report, limits=(MachineLimits(1, 1e9, 1e8),))  # of another number of threads
    assert not any("gained" in table.title for table in all_sections([other])[1].tables)
