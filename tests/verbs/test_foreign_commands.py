"""The command line over graphs that other people made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from onnx import helper

from tests.commandline import run
from tests.verbs.graphs import grey_net, voice, voice_data
from tests.verbs.test_foreign_graphs import pictures

GREY = ("--mean", "0.5", "--std", "0.25", "--imgsz", "16x24", "--threads", "1", "-q")


def test_calibrate_and_quantize_take_a_foreign_graph_with_options(tmp_path: Path) -> None:
    model, data, table = grey_net(tmp_path / "grey.onnx"), pictures(tmp_path / "images"), tmp_path / "t.table"
    done = run("calibrate", model, "--data", data, *GREY, "-o", table).expect(0)
    assert "16 x 24, grey, nchw, bilinear, crop 1, scale 255, mean 0.5, std 0.25" in " ".join(done.stderr.split())
    done = run("quantize", model, "--table", table, "-q").expect(0)
    assert "of opset 9 and was converted to 17" in " ".join(done.stderr.split())
    assert (tmp_path / "grey.int8.onnx").is_file()


def test_what_is_missing_is_an_error_that_names_the_options(tmp_path: Path) -> None:
    model, data = grey_net(tmp_path / "grey.onnx"), pictures(tmp_path / "images", 1)
    table = ("-q", "-o", tmp_path / "t.table")
    for options, missing in [((), "--mean"), (("--mean", "0"), "--imgsz"), (("--mean", "0", "--imgsz", "8"), "--std")]:
        run("calibrate", model, "--data", data, *options, *table).explain(2, missing)
    assert not (tmp_path / "t.table").exists()


def test_profile_measures_several_inputs_on_given_arrays_or_shapes(tmp_path: Path) -> None:
    model, data = voice(tmp_path / "voice.onnx"), voice_data(tmp_path / "voice.npz")
    quick = ("--processes", "1", "--rounds", "1", "--seconds", "0", "--threads", "1", "--json", "-q")
    report = json.loads(run("profile", model, "--data", data, "--batch", "3", *quick).expect(0).stdout)
    assert report["rows"][0]["outcome"] == "measured"
    assert report["rows"][0]["batch"] == 3
    refused = run("profile", model, *quick).expect(2)
    assert "No input can be made up for 'rate'" in json.loads(refused.stdout)["error"]["message"]
    grey = grey_net(tmp_path / "grey.onnx")
    shaped = json.loads(run("profile", grey, "--shape", "1x1x16x24", *quick).expect(0).stdout)
    assert shaped["rows"][0]["image_size"] == [16, 24]


@pytest.mark.parametrize("verb", ["inspect", "profile"])
def test_a_graph_with_axes_without_names_is_shown_and_measured(verb: str, tmp_path: Path) -> None:
    grey = grey_net(tmp_path / "grey.onnx")
    options = (
        ("--processes", "1", "--rounds", "1", "--seconds", "0", "--imgsz", "16", "-q") if verb == "profile" else ()
    )
    assert "grey" in run(verb, grey, *options).expect(0).stdout


def test_weights_in_constant_nodes_are_quantized(tmp_path: Path) -> None:
    model = onnx.load(voice(tmp_path / "voice.onnx"))
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    model.graph.initializer.remove(weight)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    onnx.save(model, tmp_path / "voice.onnx")
    data, table = voice_data(tmp_path / "voice.npz"), tmp_path / "t.table"
    run("calibrate", tmp_path / "voice.onnx", "--data", data, "-q", "-o", table).expect(0)
    run("quantize", tmp_path / "voice.onnx", "--table", table, "--narrow", "-q").expect(0)
    made = onnx.load(tmp_path / "voice.int8.onnx").graph.node
    assert sum(node.op_type == "QuantizeLinear" for node in made) == 1
    (axis,) = {
        it.i for node in made if node.op_type == "DequantizeLinear" for it in node.attribute if it.name == "axis"
    }
    assert axis == 1  # each output of the layer has a scale of its own


def test_parity_compares_foreign_graphs_on_images_and_on_arrays(tmp_path: Path) -> None:
    model, images, table = grey_net(tmp_path / "grey.onnx"), pictures(tmp_path / "images", 12), tmp_path / "t.table"
    run("calibrate", model, "--data", images, *GREY, "-o", table).expect(0)
    run("quantize", model, "--table", table, "-q").expect(0)
    int8 = tmp_path / "grey.int8.onnx"
    same = run("parity", int8, "--reference", model, "--data", images, *GREY, "--json").expect(0).json
    assert same["passed"]
    assert same["reports"][0]["candidate"] == "grey.int8.onnx"
    run("parity", int8, "--reference", model, "--data", images, "-q").explain(2, "how images become its input")
    voices, data = voice(tmp_path / "voice.onnx"), voice_data(tmp_path / "voice.npz")
    run("parity", voices, "--reference", voices, "--data", data, "--threads", "1", "-q").expect(0)


def test_parity_fails_where_a_foreign_graph_answers_something_else(tmp_path: Path) -> None:
    voices, data = voice(tmp_path / "voice.onnx"), voice_data(tmp_path / "voice.npz")
    other = onnx.load(voices)
    (weight,) = (tensor for tensor in other.graph.initializer if tensor.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, "w"))
    onnx.save(other, tmp_path / "other.onnx")
    run("parity", tmp_path / "other.onnx", "--reference", voices, "--data", data, "--threads", "1", "-q").expect(1)


def test_parity_says_that_the_reference_itself_is_no_number(tmp_path: Path) -> None:
    row = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    answer = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph([helper.make_node("Log", ["x"], ["y"])], "log", [row], [answer])
    model = tmp_path / "log.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    values = np.ones((6, 4), np.float32)
    call = ("parity", model, "--reference", model, "--data", tmp_path / "x.npz", "--threads", "1", "-q", "--json")
    for spoilt, said in ((0, False), (3, True)):
        values.reshape(-1)[:spoilt] = -1
        np.savez(tmp_path / "x.npz", x=values)
        assert (f"{spoilt} values of 'y'" in str(run(*call).expect(0).json["reports"][0]["warnings"])) is said
