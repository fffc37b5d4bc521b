from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import Step, TorchModel, open_onnx
from linglos_deploy.backends.calling import returned
from linglos_deploy.choices import Weights
from linglos_deploy.errors import ExportError, UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.preprocessing import normalize
from linglos_deploy.progress import Silent
from linglos_deploy.signature import TensorSpec
from tests.exporters.conftest import FEATURES, linglo, torch_model, trained

REFERENCE = ExportConfig(decomposition="reference")


class Spoken(Silent):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


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


def test_the_same_export_in_another_process_gives_the_same_bytes(exported_dynamic, tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.exporters.conftest import linglo\n"
        "from tests.exporters.test_export import ExportConfig, export_onnx\n"
        "print(export_onnx(linglo(), ExportConfig(dynamic=True), out=Path(sys.argv[1])).digest)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "again.onnx")],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "1"},  # this process has some other one
    )
    assert done.stdout.strip() == exported_dynamic.digest
    assert done.stderr == ""
    assert (tmp_path / "again.onnx").read_bytes() == exported_dynamic.path.read_bytes()


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
    assert "torch.where" in (caught.value.next_step or "")
    assert len(str(caught.value)) < 1000
    assert not list(tmp_path.iterdir())


def test_a_module_that_fixes_the_batch_becomes_a_graph_for_one_sample_and_says_so(run_onnx, tmp_path):
    progress = Spoken()
    artifact = export_onnx(torch_model(Unrolls()), ExportConfig(), out=tmp_path / "one.onnx", progress=progress)
    assert artifact.signature.outputs[0].shape == (1, 3, 64, 96)
    assert "fixes the batch" in artifact.warnings[0]
    assert progress.warnings == list(artifact.warnings)
    image = _images(1, 3, 64, 96)
    assert _worst(Unrolls(), image, run_onnx(artifact.path, {"image": image.numpy()})) == 0
    asked = export_onnx(torch_model(Unrolls()), ExportConfig(batch=2), out=tmp_path / "two.onnx")
    assert asked.signature.outputs[0].shape == (2, 3, 64, 96)
    assert asked.warnings == ()


class OneSize(nn.Module):
    """Refuses other images as the patch embeddings of transformers do."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[2] != 64:
            raise ValueError(f"{image.shape[2]} pixels are not 64")
        return image.mean(dim=(2, 3))


def test_dynamic_sizes_that_a_module_fixes_are_refused_with_the_constraint(tmp_path):
    with pytest.raises(ExportError, match="one height only") as caught:
        export_onnx(torch_model(OneSize()), ExportConfig(dynamic=True), out=tmp_path / "no.onnx")
    assert "height == 64" in str(caught.value)
    assert "leave --dynamic out" in str(caught.value)
    fixed = export_onnx(torch_model(OneSize()), ExportConfig(), out=tmp_path / "yes.onnx")
    assert fixed.signature.inputs[0].shape == ("batch", 3, 64, 96)
    assert fixed.warnings == ()


class OnlyLarge(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(2, 3)) if image.shape[2] >= 48 else image.amax(dim=(2, 3))


def test_sizes_that_take_another_path_through_the_module_are_named(tmp_path):
    artifact = export_onnx(torch_model(OnlyLarge(), divisor=1), ExportConfig(dynamic=True), out=tmp_path / "l.onnx")
    assert "right only where height >= 48" in artifact.warnings[0]


class Enlarges(nn.Module):
    """Returns more pixels than it takes, as super resolution does."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.pixel_shuffle(image[:, :1].repeat(1, 9, 1, 1), 3)


def test_sizes_of_what_is_sampled_up_are_named_after_the_inputs(tmp_path):
    graph = export_onnx(torch_model(Enlarges()), ExportConfig(dynamic=True), out=tmp_path / "large.onnx")
    assert graph.signature.outputs[0].shape == ("batch", 1, "height_times_3", "width_times_3")


class Translates(nn.Module):
    """PyTorch's own transformer with a causal mask, which it looks into where it is not captured."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(8, 2, 8, batch_first=True)
        self.body = nn.TransformerDecoder(layer, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = image[:, 0, :5, :8]
        return self.body(tokens, image[:, 1, :3, :8], tgt_mask=nn.Transformer.generate_square_subsequent_mask(5))


def test_the_causal_mask_of_pytorchs_transformer_can_be_captured(run_onnx, tmp_path):
    torch.manual_seed(0)
    model = torch_model(Translates())
    artifact = export_onnx(model, ExportConfig(), out=tmp_path / "decoder.onnx")
    image = _images(3, 3, 64, 96)
    assert _worst(model.module, image, run_onnx(artifact.path, {"image": image.numpy()})) < 1e-5


class Everything(nn.Module):
    """Returns what modules return besides one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchors", torch.arange(6.0).reshape(1, 6))
        self.mean = nn.Linear(3, 4)

    def forward(self, image: torch.Tensor) -> dict[str, object]:
        scores = self.mean(image.mean(dim=(2, 3)))
        return {
            "scores": scores,
            "size": image.shape[0],
            "count": 3,
            "flag": True,
            "maps": (image, [image]),
            "mean": scores * 2,
            "best": scores.argmax(dim=1),
            "anchors": self.anchors,
            "mask": scores > 0,
        }


def test_constants_integers_truth_values_and_the_input_itself_can_be_outputs(run_onnx, tmp_path):
    torch.manual_seed(0)
    model = torch_model(
        Everything(),
        outputs=("scores", "size", "count", "flag", "maps_0", "maps_1_0", "mean", "best", "anchors", "mask"),
    )
    artifact = export_onnx(model, ExportConfig(), out=tmp_path / "everything.onnx")
    image = _images(3, 3, 64, 96)
    with torch.no_grad():
        expected = [tensor.numpy() for _, tensor in returned(model.module(image)).tensors]
    found = run_onnx(artifact.path, {"image": image.numpy()})
    assert [array.dtype for array in found] == [array.dtype for array in expected]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    assert artifact.signature.output_names == model.output_names


class Validates(nn.Module):
    """Checks its numbers as torch.distributions does, with an operator that PyTorch's exporter does not know."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch._is_all_true(image > -9), torch._is_all_true(image > 0)])


def test_a_check_of_all_values_has_a_translation(run_onnx, tmp_path):
    artifact = export_onnx(torch_model(Validates()), ExportConfig(batch=1), out=tmp_path / "all.onnx")
    assert run_onnx(artifact.path, {"image": _images(1, 3, 64, 96).numpy()})[0].tolist() == [True, False]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.project = nn.Linear(8, 5)

    def forward(self, unused=None, *, mask=None, tokens=None):
        return {"hidden": self.project(self.embed(tokens)) * mask[..., None]}


def test_several_inputs_by_keyword_with_an_axis_of_their_own(run_onnx, tmp_path):
    torch.manual_seed(0)
    model = TorchModel(
        module=TwoInputs().eval(),
        name="tokens",
        output_names=("hidden",),
        preprocess=None,
        labels=(),
        size_divisor=1,
        digest="0" * 64,
        weights=Weights.UNKNOWN,
        lineage=(),
        inputs=(TensorSpec("tokens", "int64", ("batch", "length")), TensorSpec("mask", "float32", ("batch", "length"))),
        sizes={"length": 6},
    )
    fixed = export_onnx(model, ExportConfig(), out=tmp_path / "fixed.onnx")
    assert [spec.describe() for spec in fixed.signature.inputs] == ["tokens int64[batch, 6]", "mask float32[batch, 6]"]
    open_ = export_onnx(model, ExportConfig(dynamic=True), out=tmp_path / "open.onnx")
    assert open_.signature.outputs[0].describe() == "hidden float32[batch, length, 5]"
    tokens, mask = torch.randint(0, 11, (3, 9)), torch.rand(3, 9)
    with torch.no_grad():
        expected = model.module(tokens=tokens, mask=mask)["hidden"].numpy()
    (found,) = run_onnx(open_.path, {"tokens": tokens.numpy(), "mask": mask.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(UsageError, match="no preprocessing to embed"):
        export_onnx(model, ExportConfig(embed_preprocessing=True), out=tmp_path / "no.onnx")


class Tapped(nn.Module):
    """Returns the map before a normalization, as backbones that number their layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        before = self.body[0](image)
        return before, self.body[3](self.body[2](self.body[1](before)))


def test_a_map_that_is_tapped_before_its_normalization_is_the_map_before(run_onnx, tmp_path):
    torch.manual_seed(0)
    model = torch_model(trained(Tapped()), outputs=("before", "after"))
    artifact = export_onnx(model, ExportConfig(), out=tmp_path / "tapped.onnx")
    image = _images(2, 3, 64, 96)
    assert _worst(model.module, image, run_onnx(artifact.path, {"image": image.numpy()})) < 1e-5
    graph = onnx.load(artifact.path).graph
    assert [node.name for node in graph.node] == ["body.0/Conv", "body.1/BatchNormalization", "body.2/Conv"]
    assert list(graph.node[2].input)[1:] == ["body.2.weight", "body.2.bias"]


def test_a_captured_graph_is_not_printed_when_a_module_cannot_be_captured(capfd, tmp_path):
    with pytest.raises(ExportError):
        export_onnx(torch_model(ReadsValues()), ExportConfig(), out=tmp_path / "no.onnx")
    said = capfd.readouterr()
    assert said.out + said.err == ""


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
