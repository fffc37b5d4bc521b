"""The folder for DeepStream's nvinfer: what its graph computes, and what its config file says. It has not been run."""

from __future__ import annotations

import json
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, open_onnx
from linglos_deploy.codec import to_json
from linglos_deploy.engines.compiling import compile_graph
from linglos_deploy.engines.containers.deepstream import check_deepstream, pixels_to_probabilities
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.record import SCHEMA, UNKNOWN, EngineRecord, Target, open_engine, read_record, write_engine
from linglos_deploy.engines.registry import compiler
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import UsageError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.progress import SILENT, Progress

SPEC = PreprocessSpec(input_size=(4, 6))
SAYS = {
    "decoding": {"task": "classify", "outputs": {"logits": "logits"}, "settings": {}},
    "preprocessing": json.loads(to_json(SPEC)),
    "labels": ["a cat", "a dog", "neither"],
}


def save_classifier(folder: Path, *, size: tuple[Any, Any] = (4, 6), **says: Any) -> OnnxArtifact:
    """Save a classifier of three channels that says about itself what an exported graph says."""
    weight = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in {**SAYS, **says}.items():
        if value is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = f"linglos.{key}", value if isinstance(value, str) else json.dumps(value)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "linglo_t.onnx")
    return open_onnx(folder / "linglo_t.onnx")


def served(model: OnnxArtifact, *batches: tuple[int, int, int]) -> BuildSpec:
    return BuildSpec(profiles=tuple(make_profile(model.signature, {"batch": batch}) for batch in batches))


class Compiler:
    """Writes the graph itself as the plan."""

    name = "tensorrt"

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        plan = model.path.read_bytes()
        record = EngineRecord(
            schema=SCHEMA,
            backend=self.name,
            version="10.16.1.11",
            digest=sha256_bytes(plan),
            bytes=len(plan),
            onnx_digest=model.digest,
            onnx_name=model.path.name,
            target=Target(("8.9",)),
            spec=spec,
            flags=(),
            strongly_typed=True,
            host_code=False,
            precision=UNKNOWN,
            signature=model.signature,
            lineage=model.lineage,
        )
        write_engine(record, plan, log="", out=out)
        return open_engine(out)


def contain(model: OnnxArtifact, folder: Path, *batches: tuple[int, int, int]) -> Path:
    options = EngineOptions(batch_profiles=batches, containers=("deepstream",))
    _, (outcome,) = compile_graph(model, "tensorrt", options, compilers={"tensorrt": Compiler()}, folder=folder)
    (name,) = outcome.containers
    return folder / name


def read_config(folder: Path) -> dict[str, str]:
    """Read the one config file, as GLib's key files are written."""
    (file,) = (path for path in folder.glob("*.txt") if path.name != "labels.txt")
    parser = ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(file.read_text())
    assert parser.sections() == ["property"]
    return dict(parser["property"])


@pytest.mark.parametrize("batch", [1, 3])
def test_its_graph_takes_pixels_and_answers_with_the_probabilities_of_the_graph_it_came_from(
    tmp_path: Path, batch: int
) -> None:
    model = save_classifier(tmp_path)
    (tmp_path / "c").mkdir()
    own = pixels_to_probabilities(model, tmp_path / "c")
    onnx.checker.check_model(onnx.load(own.path), full_check=True)
    pixels = np.random.default_rng(1).integers(0, 256, (batch, 3, 4, 6)).astype(np.float32)
    offset, scale = (array.reshape(1, 3, 1, 1) for array in SPEC.offset_and_scale())
    (logits,) = onnxruntime.InferenceSession(model.path).run(None, {"image": (pixels - offset) / scale})
    (probabilities,) = onnxruntime.InferenceSession(own.path).run(["probabilities"], {"image": pixels})
    exact = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(probabilities, exact / exact.sum(-1, keepdims=True), rtol=1e-5)
    assert own.lineage[-1].inputs == {"graph": model.digest}


def test_the_folder_has_all_that_its_config_file_names_and_the_engine_is_of_its_own_graph(tmp_path: Path) -> None:
    folder = contain(save_classifier(tmp_path / "m"), tmp_path, (1, 2, 8), (1, 16, 32))
    config = read_config(folder)
    assert config == {
        "gie-unique-id": "1",
        "process-mode": "1",
        "network-type": "1",
        "model-engine-file": "linglo_t.engine",
        "labelfile-path": "labels.txt",
        "batch-size": "8",  # of the first profile, the only one that nvinfer uses
        "infer-dims": "3;4;6",
        "network-input-order": "0",
        "net-scale-factor": "1.0",
        "model-color-format": "0",
        "maintain-aspect-ratio": "0",
        "output-blob-names": "probabilities",
        "classifier-threshold": "0.0",
    }
    assert (folder / "labels.txt").read_text() == "a cat;a dog;neither\n"
    assert (folder / "linglo_t.engine").read_bytes() == (folder / "linglo_t.onnx").read_bytes()
    assert read_record(folder / "linglo_t.engine").signature.output_names == ("probabilities",)
    assert "Not yet run" in (folder / "linglo_t.txt").read_text()


def test_a_letterbox_keeps_the_aspect_ratio_with_bars_on_both_sides_and_colours_are_the_models(tmp_path: Path) -> None:
    says = json.loads(to_json(replace(SPEC, fit="letterbox", color="bgr")))
    config = read_config(contain(save_classifier(tmp_path / "m", preprocessing=says), tmp_path, (1, 1, 1)))
    assert (config["maintain-aspect-ratio"], config["symmetric-padding"]) == ("1", "1")
    assert config["model-color-format"] == "1"


def test_without_labels_none_are_named(tmp_path: Path) -> None:
    folder = contain(save_classifier(tmp_path / "m", labels=[]), tmp_path, (1, 1, 1))
    assert "labelfile-path" not in read_config(folder)
    assert not (folder / "labels.txt").exists()


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"decoding": None}, "does not say what its outputs mean"),
        ({"decoding": {"task": "detect", "outputs": {}, "settings": {}}}, "task 'detect'"),
        ({"preprocessing": None}, "no preprocessing"),
        ({"preprocessing_embedded": "true"}, "--embed-preprocessing"),
        ({"preprocessing": {**SAYS["preprocessing"], "layout": "nhwc"}}, "planes of float32"),
        ({"labels": ["one", "two"]}, "2 labels for 3 classes"),
        ({"labels": ["one", "two; or three", "four"]}, "the label 'two; or three'"),
        ({"labels": ["one", "two\nthree", "four"]}, "without ';'"),
        ({"size": ("height", "width")}, "one height and width"),
    ],
)
def test_what_nvinfer_cannot_feed_or_read_is_refused_before_anything_is_built(
    tmp_path: Path, says: dict[str, Any], message: str
) -> None:
    model = save_classifier(tmp_path / "m", **says)
    with pytest.raises(UsageError) as caught:
        contain(model, tmp_path / "out", (1, 1, 1))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_four_channels_are_refused(tmp_path: Path) -> None:
    wide = PreprocessSpec(input_size=(4, 6), color="rgba", mean=(0.0,) * 4, std=(1.0,) * 4)  # type: ignore[arg-type]
    model = save_classifier(tmp_path, preprocessing=json.loads(to_json(wide)))
    with pytest.raises(UsageError, match="no such colours"):
        check_deepstream(model, served(model, (1, 1, 1)))


def test_numbers_of_16_bits_are_refused(tmp_path: Path) -> None:
    model = save_classifier(tmp_path)
    (answer,) = model.signature.outputs
    narrow = replace(model, signature=replace(model.signature, outputs=(replace(answer, dtype="float16"),)))
    with pytest.raises(UsageError, match="one row of float32 a picture"):
        check_deepstream(narrow, served(model, (1, 1, 1)))


def test_tensorrt_rtx_compiles_its_graph(tmp_path: Path, rtx: object) -> None:
    model = save_classifier(tmp_path / "m")
    (tmp_path / "c").mkdir()
    own = pixels_to_probabilities(model, tmp_path / "c")
    out = compiler("tensorrt-rtx", cache=False).compile(own, served(own, (1, 2, 8)), out=tmp_path / "own.engine")
    assert out.signature.output_names == ("probabilities",)
