"""Errors, signatures, the JSON codec, devices and the backend registry."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import linglos_deploy
from linglos_deploy import codec, errors
from linglos_deploy.artifacts import load_onnx, open_onnx, tool_versions
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device
from linglos_deploy.engines.registry import compiler
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.progress import SILENT
from linglos_deploy.signature import ModelSignature, TensorSpec, unnamed


def test_an_error_says_found_expected_and_next() -> None:
    error = errors.DataError("No image.", found="a song", expected="a picture", next_step="look again")
    assert str(error).splitlines() == [
        "No image.",
        "  found:    a song",
        "  expected: a picture",
        "  next:     look again",
    ]
    assert str(errors.DataError("No image.")) == "No image."


def test_exit_codes_follow_the_documented_table() -> None:
    assert errors.UsageError.exit_code == 2
    assert errors.PlaceTakenError.exit_code == 2  # the place was named by the user
    assert errors.MissingDependencyError.exit_code == 3
    others = {cls for cls in vars(errors).values() if isinstance(cls, type)}
    others -= {errors.UsageError, errors.PlaceTakenError, errors.MissingDependencyError}
    assert {cls.exit_code for cls in others if issubclass(cls, errors.LinglosError)} == {4}


@pytest.fixture
def signature() -> ModelSignature:
    return ModelSignature(
        inputs=(TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "uint8", ("batch",))),
        outputs=(TensorSpec("y", "float32", ("batch", 2)),),
    )


def test_a_fitting_batch_passes(signature: ModelSignature) -> None:
    signature.check_inputs({"a": np.zeros((4, 3), np.float32), "b": np.zeros(4, np.uint8)})
    assert signature.input_names == ("a", "b")
    assert signature.output_names == ("y",)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"a": np.zeros((4, 3), np.float32)}, "name the model's inputs"),
        ({"a": np.zeros((4, 3)), "b": np.zeros(4, np.uint8)}, "Input 'a'"),
        ({"a": np.zeros((4, 2), np.float32), "b": np.zeros(4, np.uint8)}, "Input 'a'"),
        ({"a": np.zeros(4, np.float32), "b": np.zeros(4, np.uint8)}, "Input 'a'"),
        ({"a": np.zeros((4, 3), np.float32), "b": np.zeros(5, np.uint8)}, "Input 'b'"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(
    signature: ModelSignature, batch: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(errors.DataError, match=message):
        signature.check_inputs(batch)


@pytest.mark.parametrize(
    ("text", "device"),
    [("cpu", "cpu"), ("CUDA", "cuda:0"), ("cuda:2", "cuda:2"), ("3", "cuda:3"), (" cuda:1 ", "cuda:1")],
)
def test_devices_parse(text: str, device: str) -> None:
    assert str(Device.parse(text)) == device


@pytest.mark.parametrize("text", ["", "cpu:1", "tpu", "gpu", "gpu:1", "cuda:x", "-1"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="not a device"):
        Device.parse(text)


def test_a_profile_out_of_order_is_refused() -> None:
    with pytest.raises(errors.UsageError, match="min <= opt <= max"):
        ShapeRange(min=(2, 3), opt=(1, 3), max=(8, 3))
    assert BuildSpec(profiles=()).compute_capabilities == ()


@dataclass(frozen=True, slots=True)
class Value:
    path: Path
    numbers: tuple[float, ...]


def test_values_survive_json(tmp_path: Path) -> None:
    value = Value(path=Path("a/b"), numbers=(1.5, 2.0))
    codec.write_json(value, tmp_path / "value.json")
    assert codec.read_json(Value, tmp_path / "value.json") == value
    assert codec.to_builtins({"x": np.float32(1.5)}) == {"x": 1.5}
    assert codec.schema(Value)["$schema"].startswith("https://json-schema.org")
    with pytest.raises(TypeError):
        codec.to_json(object())


@pytest.mark.parametrize("text", ["", "{", '{"path": "a"}', '{"path": 1, "numbers": []}', "[" * 100_000])
def test_wrong_json_is_an_artifact_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text(text)
    with pytest.raises(errors.ArtifactError, match=r"value\.json"):
        codec.read_json(Value, tmp_path / "value.json")


def test_a_missing_json_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ArtifactError, match="cannot be read"):
        codec.read_json(Value, tmp_path / "nothing.json")


def test_a_typo_in_a_backend_name_gets_a_suggestion() -> None:
    with pytest.raises(errors.UsageError, match="did you mean 'onnxruntime'"):
        registry.create("onnxruntme")
    with pytest.raises(errors.UsageError, match="no compiler 'torch'"):
        compiler("torch")


def test_an_onnx_file_tells_its_signature_and_damage_is_named(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, None])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3, None])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph), path)
    assert open_onnx(path).signature.inputs == (TensorSpec("x", "float32", ("batch", 3, unnamed("x", 2))),)
    for damage in (path.read_bytes()[:-7], b"", b"not a model"):
        (tmp_path / "bad.onnx").write_bytes(damage)
        with pytest.raises(errors.ArtifactError, match=r"bad\.onnx.* is not a usable ONNX model"):
            load_onnx(tmp_path / "bad.onnx")
    with pytest.raises(errors.ArtifactError, match="no ONNX file"):
        load_onnx(tmp_path / "none.onnx")


def test_the_public_api_is_lazy_and_complete() -> None:
    for name in linglos_deploy.__all__:
        assert getattr(linglos_deploy, name) is not None
    assert set(dir(linglos_deploy)) == set(linglos_deploy.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        linglos_deploy.no_such_name  # noqa: B018
    code = "import sys, linglos_deploy; print([m for m in ('numpy', 'torch', 'onnx', 'msgspec') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_tools_that_are_not_installed_are_left_out() -> None:
    assert set(tool_versions("numpy", "no-such-distribution")) == {"numpy"}


def test_silence_is_a_progress() -> None:
    with SILENT.stage("nothing", total=3) as advance:
        advance()
    SILENT.warn("nobody hears this")
