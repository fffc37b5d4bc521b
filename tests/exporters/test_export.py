from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import Step, open_onnx
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters.config import Decomposition, ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.preprocessing import normalize
from tests.exporters.conftest import FEATURES, linglo, torch_model

REFERENCE = ExportConfig(decomposition=Decomposition.REFERENCE)


def _images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _worst(module: nn.Module, image: torch.Tensor, outputs: list) -> float:
    with torch.no_grad():
        expected = module(image)
    expected = expected if isinstance(expected, tuple) else (expected,)
    return max(float(np.abs(a.numpy() - b).max()) for a, b in zip(expected, outputs, strict=True))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_logits_agree_with_pytorch_at_every_batch_size(exported, classifier, run_onnx, batch):
    image = _images(batch, 3, 64, 96)
    assert _worst(classifier.module, image, run_onnx(exported.path, {"image": image.numpy()})) < 1e-4


@pytest.mark.parametrize("size", [(64, 96), (160, 224), (320, 320)])
def test_a_dynamic_graph_agrees_with_pytorch_at_every_size(exported_dynamic, classifier, run_onnx, size):
    image = _images(2, 3, *size)
    assert _worst(classifier.module, image, run_onnx(exported_dynamic.path, {"image": image.numpy()})) < 1e-4


def test_signature_names_the_input_the_output_and_the_dynamic_axes(exported, exported_dynamic):
    assert exported.signature.inputs[0].describe() == "image float32[batch, 3, 64, 96]"
    assert exported_dynamic.signature.inputs[0].describe() == "image float32[batch, 3, height, width]"
    assert exported.signature.outputs[0].describe() == "logits float32[batch, 10]"


def test_features_are_named_by_their_stride(run_onnx, tmp_path):
    model = linglo("features")
    artifact = export_onnx(model, ExportConfig(dynamic=True, batch=2), out=tmp_path / "features.onnx")
    assert artifact.signature.output_names == FEATURES
    assert artifact.signature.outputs[1].shape == (2, 32, "height_div_8", "width_div_8")
    image = _images(2, 3, 96, 64)
    assert _worst(model.module, image, run_onnx(artifact.path, {"image": image.numpy()})) < 1e-4


def test_a_fixed_batch_leaves_no_dynamic_axis(tmp_path, classifier):
    artifact = export_onnx(classifier, replace(REFERENCE, batch=4), out=tmp_path / "fixed.onnx")
    assert artifact.signature.inputs[0].shape == (4, 3, 64, 96)
    assert artifact.signature.outputs[0].shape == (4, 10)


def test_graph_uses_standard_operators_only(exported, exported_dynamic):
    for artifact in (exported, exported_dynamic):
        model = onnx.load(artifact.path)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]


def test_gelu_and_layer_norm_stay_one_operator_and_batch_norm_disappears(exported):
    kinds = {node.op_type for node in onnx.load(exported.path).graph.node}
    assert {"Gelu", "LayerNormalization"} <= kinds
    assert not {"Erf", "BatchNormalization", "Constant", "Identity", "Shape"} & kinds


def test_no_tensor_holds_one_element_per_pair_of_positions(exported, exported_dynamic):
    for artifact in (exported, exported_dynamic):
        model = onnx.load(artifact.path)
        del model.graph.value_info[:]
        image = model.graph.input[0].type.tensor_type.shape
        for dim, size in zip(image.dim, (1, 3, 64, 96), strict=True):
            dim.dim_value = size
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
        sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred}
        assert len(sizes) > 80
        for positions in (16 * 24, 8 * 12):
            assert all(shape.count(positions) < 2 for shape in sizes.values())


def test_names_follow_the_module_path(exported):
    graph = onnx.load(exported.path).graph
    nodes = {node.name: node for node in graph.node}
    assert len(nodes) == len(graph.node)
    key = nodes["stages.2.1.attention.key/Conv"]
    assert key.output == ["stages.2.1.attention.key/Conv"]
    assert key.input[1:] == ["stages.2.1.attention.key.weight", "stages.2.1.attention.key.bias"]
    assert nodes["stem.0.0/Conv"].input[1:] == ["stem.0.0.weight", "stem.0.0.bias"]


def test_nothing_in_the_file_tells_where_it_was_made(exported):
    data = exported.path.read_bytes()
    for trace in (b"/site-packages/", b".py", b"stack_trace", str(Path.cwd()).encode()):
        assert trace not in data


def test_metadata_says_what_the_graph_is_and_how_to_feed_it(exported):
    metadata = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert metadata["linglos.name"] == "tiny"
    assert json.loads(metadata["linglos.preprocessing"])["input_size"] == [64, 96]
    assert json.loads(metadata["linglos.labels"]) == ["cat", "dog"]
    assert metadata["linglos.weights_digest"] == "5" * 64
    assert "torch" in json.loads(metadata["linglos.tools"])
    assert metadata["linglos.decomposition"] == "reference"


def test_lineage_records_the_configuration_and_the_tools(exported):
    (step,) = exported.lineage
    assert isinstance(step, Step)
    assert step.stage == "export"
    assert step.config["decomposition"] == "reference"
    assert {"torch", "onnx", "onnxsim"} <= set(step.tools)
    assert open_onnx(exported.path).digest == exported.digest


def test_the_same_export_in_another_process_gives_the_same_bytes(exported, tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.exporters.conftest import linglo\n"
        "from tests.exporters.test_export import REFERENCE, export_onnx\n"
        "print(export_onnx(linglo(), REFERENCE, out=Path(sys.argv[1])).digest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "again.onnx")],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == exported.digest
    assert done.stderr == ""
    assert (tmp_path / "again.onnx").read_bytes() == exported.path.read_bytes()


def test_embedded_preprocessing_gives_the_logits_of_normalized_pixels(classifier, exported, run_onnx, tmp_path):
    artifact = export_onnx(classifier, replace(REFERENCE, embed_preprocessing=True), out=tmp_path / "pixels.onnx")
    assert artifact.signature.inputs[0].describe() == "image uint8[batch, 64, 96, 3]"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    (expected,) = run_onnx(exported.path, {"image": normalize(pixels, classifier.preprocess)})
    (logits,) = run_onnx(artifact.path, {"image": pixels})
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_embedded_preprocessing_rounds_exactly_as_the_library(run_onnx, tmp_path):
    model = torch_model(nn.Identity(), outputs=("same",), divisor=1)
    artifact = export_onnx(model, ExportConfig(embed_preprocessing=True), out=tmp_path / "identity.onnx")
    pixels = np.arange(64 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(1, 64, 96, 3)
    (planes,) = run_onnx(artifact.path, {"image": pixels})
    np.testing.assert_array_equal(planes, normalize(pixels, model.preprocess))


def test_the_model_in_memory_is_left_as_it_was(classifier, exported):
    assert any(isinstance(child, nn.BatchNorm2d) for child in classifier.module.modules())


class ReadsValues(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if image.sum() > 0 else -image


class Unrolls(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([image[index] for index in range(int(image.shape[0]))])


def test_a_module_that_branches_on_values_is_an_export_error_with_torchs_reason(tmp_path):
    with pytest.raises(ExportError, match="cannot capture 'ReadsValues'") as caught:
        export_onnx(torch_model(ReadsValues()), ExportConfig(), out=tmp_path / "no.onnx")
    assert "data-dependent" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not list(tmp_path.iterdir())


def test_a_module_that_fixes_the_batch_says_which_option_helps(tmp_path):
    with pytest.raises(ExportError, match=r"batch") as caught:
        export_onnx(torch_model(Unrolls()), ExportConfig(), out=tmp_path / "no.onnx")
    assert "--batch" in str(caught.value)
    artifact = export_onnx(torch_model(Unrolls()), ExportConfig(batch=2), out=tmp_path / "yes.onnx")
    assert artifact.signature.outputs[0].shape == (2, 3, 64, 96)


def test_a_wrong_number_of_outputs_is_named(tmp_path):
    with pytest.raises(ExportError, match="output names promise") as caught:
        export_onnx(torch_model(nn.Identity(), outputs=("a", "b")), ExportConfig(), out=tmp_path / "no.onnx")
    assert "1 tensors" in str(caught.value)


def test_an_opset_without_gelu_is_refused():
    with pytest.raises(UsageError, match="Opset 17"):
        ExportConfig(opset=17)


def test_an_empty_batch_is_refused():
    with pytest.raises(UsageError, match="at least one image"):
        ExportConfig(batch=0)
