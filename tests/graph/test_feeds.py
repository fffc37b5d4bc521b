from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.graph.feeds import Sizes, index_ranges, input_shapes, parse_shapes, synthetic_feeds
from linglos_deploy.signature import ModelSignature, TensorSpec, unnamed


def takes(dtype: str, *shape: int | str) -> ModelSignature:
    return ModelSignature((TensorSpec("image", dtype, shape),), ())


def test_input_fits_the_signature_whatever_is_fixed_and_whatever_is_free() -> None:
    for signature, size in [
        (takes("float32", "batch", 3, 32, 48), None),
        (takes("float32", 2, 3, "height", "width"), (32, 48)),
        (takes("uint8", "batch", 32, 48, 3), (32, 48)),
        (takes("float16", "batch", 3, "height", "width"), (32, 48)),
        (takes("float32", "batch", "height", "width", 1), (32, 48)),
        (takes("bool", "batch", 7), None),
    ]:
        feeds = synthetic_feeds(signature, Sizes(batch=2, image_size=size), seed=0)
        signature.check_inputs(feeds)
        assert feeds["image"].shape[0] == 2
        assert feeds["image"].ndim != 4 or {32, 48} <= set(feeds["image"].shape)


def test_the_same_seed_gives_the_same_input() -> None:
    signature = takes("float32", "batch", 3, 8, 8)
    first, again, other = (synthetic_feeds(signature, seed=seed)["image"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_of_any_size_get_none_that_nobody_asked_for() -> None:
    with pytest.raises(DataError, match="Axis 1 of 'image' may have any size; none was asked for") as raised:
        input_shapes(takes("uint8", "batch", "height", "width", 3))
    assert raised.value.next_step == "--shape image=…x…x…x3, or real input with --data"


def test_a_fixed_size_that_is_not_the_wanted_one_is_refused() -> None:
    with pytest.raises(DataError, match="axis 0 of 'image' is fixed"):
        input_shapes(takes("float32", 1, 3, 8, 8), Sizes(batch=2))
    with pytest.raises(DataError, match="axis 3 of 'image' is fixed"):
        input_shapes(takes("float32", 1, 3, 8, 8), Sizes(image_size=(8, 9)))


def test_axes_of_one_name_get_one_size_wherever_they_lie() -> None:
    signature = ModelSignature(
        (TensorSpec("input", "float32", ("batch", "samples")), TensorSpec("state", "float32", (2, "batch", 128))), ()
    )
    shapes = input_shapes(signature, Sizes(batch=3, shapes={"input": (3, 576)}))
    assert shapes == {"input": (3, 576), "state": (2, 3, 128)}


def test_two_sizes_for_one_name_are_refused() -> None:
    signature = ModelSignature((TensorSpec("a", "float32", ("n", 4)), TensorSpec("b", "float32", (4, "n"))), ())
    with pytest.raises(DataError, match="has two sizes"):
        input_shapes(signature, Sizes(shapes={"a": (2, 4), "b": (4, 3)}))


def test_an_axis_that_nobody_gave_a_size_is_named_with_the_option_that_gives_one() -> None:
    signature = ModelSignature((TensorSpec("state", "float32", (2, unnamed("state", 1), 128)),), ())
    with pytest.raises(DataError, match="Axis 1 of 'state'") as raised:
        input_shapes(signature, Sizes(batch=2))
    assert raised.value.next_step == "--shape state=2x…x128, or real input with --data"
    assert input_shapes(signature, Sizes(shapes={"": (2, 5, 128)})) == {"state": (2, 5, 128)}


def test_a_shape_for_an_input_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="no input 'picture'"):
        input_shapes(takes("float32", 1, 3), Sizes(shapes={"picture": (1, 3)}))
    with pytest.raises(DataError, match="another number of axes"):
        input_shapes(takes("float32", 1, 3), Sizes(shapes={"image": (1, 3, 1)}))


def test_shapes_are_read_as_they_are_written() -> None:
    assert parse_shapes(["x=1x3x8x9", "sr="]) == {"x": (1, 3, 8, 9), "sr": ()}
    for texts in (["x=1x0"], ["x=axb"], ["x=1", "x=2"]):
        with pytest.raises(UsageError):
            parse_shapes(texts)


def embedding(rows: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Unsqueeze", ["tokens", "one"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["index"], to=TensorProto.INT32),
        helper.make_node("Gather", ["table", "index"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["open"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["open"], ["weight"], keepdims=0),
        helper.make_node("Mul", ["rows", "weight"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("tokens", TensorProto.INT64, ["n", "length"]), value("mask", TensorProto.INT64, ["n", "length"])],
        [value("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.ones((rows, 4), np.float32), "table"),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_indices_stay_within_the_rows_of_the_table_they_pick_from() -> None:
    assert index_ranges(embedding(11)) == {"tokens": 11}
    signature = ModelSignature((TensorSpec("tokens", "int64", (4, 50)),), ())
    tokens = synthetic_feeds(signature, Sizes(batch=4), seed=0, index_ranges={"tokens": 11})["tokens"]
    assert tokens.dtype == np.int64
    assert (tokens.min(), tokens.max()) == (0, 10)


def test_integers_whose_range_the_graph_does_not_show_are_asked_for() -> None:
    with pytest.raises(DataError, match="No input can be made up for 'image'") as raised:
        synthetic_feeds(takes("int64", "batch"), seed=0)
    assert "--data" in str(raised.value.next_step)
