"""Calibrate and quantize what other people made, without metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.errors import CalibrationError, DataError, UsageError
from linglos_deploy.graph.feeds import Sizes
from linglos_deploy.graph.opset import opset_of
from linglos_deploy.images.dataset import open_dataset
from linglos_deploy.images.options import PreprocessOptions
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.verbs.calibrate import CalibrateRequest, calibrate_graph
from linglos_deploy.verbs.quantize import QuantizeRequest, quantize_graph
from tests.verbs.graphs import grey_net, voice, voice_data

GREY = PreprocessOptions(mean=(0.5,), std=(0.25,), input_size=(16, 24))


def pictures(folder: Path, count: int = 4) -> Path:
    random = np.random.default_rng(3)
    folder.mkdir()
    for index in range(count):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


@pytest.mark.parametrize("batch", [1, 8])
def test_several_inputs_of_any_kind_are_calibrated_and_quantized_with_the_if_in_floating_point(
    batch: int, tmp_path: Path
) -> None:
    from linglos_deploy.calibration.calibrate import CalibrationConfig

    model, data = voice(tmp_path / "voice.onnx"), voice_data(tmp_path / "voice.npz")
    config = CalibrationConfig(batch_size=batch)
    table = calibrate_graph(CalibrateRequest(model, data, tmp_path / "t.table", config=config, threads=1))
    assert table.image_count == 40
    assert table.preprocess is None
    assert not table.synthetic
    assert table.tensors["input"].count == 40 * 6
    assert CalibrationTable.load(tmp_path / "t.table").preprocess_digest == ""
    result = quantize_graph(
        QuantizeRequest(model, tmp_path / "t.table", None, QuantScheme(narrow=True), tmp_path / "v.int8.onnx")
    )
    assert result.graph is not None
    assert len(result.plan.quantized_nodes) == 1
    with np.load(data) as stored:
        feeds = dict(stored)
    answers = []
    for path in (model, tmp_path / "v.int8.onnx"):
        with OnnxRuntime(threads=1).open(open_onnx(path)) as runner:
            answers.append(np.array(runner.run(feeds)["output"]))
    assert sqnr_db(*answers) > 35


def test_a_graph_of_an_old_opset_is_calibrated_as_it_is_and_converted_where_int8_needs_it(tmp_path: Path) -> None:
    model, data = grey_net(tmp_path / "grey.onnx"), pictures(tmp_path / "images")
    table = calibrate_graph(CalibrateRequest(model, data, tmp_path / "t.table", preprocess=GREY, threads=1))
    assert table.preprocess is not None
    assert table.preprocess.color == "grey"
    out = tmp_path / "grey.int8.onnx"
    result = quantize_graph(QuantizeRequest(model, tmp_path / "t.table", None, QuantScheme(), out))
    assert result.graph is not None
    assert [step.stage for step in result.graph.lineage] == ["opset", "quantize"]
    assert opset_of(onnx.load(out)) == 17
    assert opset_of(onnx.load(model)) == 9
    assert len(result.plan.quantized_nodes) == 2
    (batch,) = open_dataset(data, table.preprocess).batches(8, signature=open_onnx(model).signature)
    answers = []
    for path in (model, out):
        with OnnxRuntime(threads=1).open(open_onnx(path)) as runner:
            answers.append(np.array(runner.run(batch)["y"]))
    assert sqnr_db(*answers) > 30


@pytest.mark.parametrize("batch", [1, 3])
def test_a_conversion_is_checked_on_as_many_images_as_the_graph_insists_on(batch: int, tmp_path: Path) -> None:
    model, data = grey_net(tmp_path / "grey.onnx", batch=batch), pictures(tmp_path / "images")
    calibrate_graph(CalibrateRequest(model, data, tmp_path / "t.table", preprocess=GREY, threads=1))
    result = quantize_graph(QuantizeRequest(model, tmp_path / "t.table", None, QuantScheme(), tmp_path / "q.onnx"))
    assert result.graph is not None
    assert opset_of(onnx.load(result.graph.path)) == 17


def test_a_folder_of_images_needs_to_be_told_how_they_become_input(tmp_path: Path) -> None:
    model, data = grey_net(tmp_path / "grey.onnx"), pictures(tmp_path / "images", 1)
    with pytest.raises(UsageError, match="does not say how images become its input"):
        calibrate_graph(CalibrateRequest(model, data, tmp_path / "t.table"))
    assert not (tmp_path / "t.table").exists()


def test_without_data_the_input_is_made_up_once_its_size_is_known(tmp_path: Path) -> None:
    model = voice(tmp_path / "voice.onnx")
    with pytest.raises(DataError, match="No input can be made up for 'rate'"):
        calibrate_graph(CalibrateRequest(model, None, tmp_path / "t.table"))
    grey = grey_net(tmp_path / "grey.onnx")
    with pytest.raises(DataError, match="Axis 2 of 'x' may have any size; none was asked for"):
        calibrate_graph(CalibrateRequest(grey, None, tmp_path / "t.table"))
    sizes = Sizes(shapes={"x": (1, 1, 16, 24)})
    table = calibrate_graph(CalibrateRequest(grey, None, tmp_path / "t.table", images=4, sizes=sizes, threads=1))
    assert table.synthetic
    assert table.image_count == 4
    assert table.tensors["x"].count == 4 * 16 * 24


def test_layers_that_all_lie_inside_an_if_are_said_to(tmp_path: Path) -> None:
    model = onnx.load(voice(tmp_path / "voice.onnx"))
    nodes = [made for made in model.graph.node if made.op_type != "MatMul"]
    nodes[1].input[0] = "first"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "inner.onnx")
    with pytest.raises(CalibrationError, match="nothing to calibrate") as raised:
        calibrate_graph(CalibrateRequest(tmp_path / "inner.onnx", voice_data(tmp_path / "v.npz"), tmp_path / "t"))
    assert "2 nodes lie inside If" in str(raised.value.found)
