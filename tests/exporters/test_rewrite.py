from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.decompositions.costs import choose, macs
from linglos_deploy.exporters.decompositions.form import AttentionSize
from linglos_deploy.exporters.decompositions.layer import MapLayer, TokenLayer
from linglos_deploy.exporters.decompositions.records import read_attention
from linglos_deploy.exporters.decompositions.registry import form_names
from linglos_deploy.exporters.decompositions.rewrite import Request, rewrite_attention
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.models.attention import Norm, SaliencyGate
from linglos_deploy.models.linglo import AttentionLayer, KeyOnlyAttention
from tests.exporters.conftest import linglo, torch_model, trained

AUTO = Request("auto")
LARGE, SMALL = torch.zeros(1, 32, 16, 16), torch.zeros(1, 32, 2, 2)


def _attention(channels: int = 32, *, cls: type[KeyOnlyAttention] = KeyOnlyAttention) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(trained(cls(channels, 2))).eval()


def _noise(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


def test_auto_reassociates_where_positions_outnumber_channels():
    for image, form in ((LARGE, "reassociated"), (SMALL, "pooled")):
        module = _attention()
        expected = module(_noise(image))
        (record,) = rewrite_attention(module, {"image": _noise(image)}, AUTO)
        assert (record.path, record.form) == ("0", form)
        assert record.macs_after < record.macs_before
        torch.testing.assert_close(module(_noise(image)), expected, rtol=1e-4, atol=1e-5)


def test_auto_keeps_constant_weights_for_int8():
    (record,) = rewrite_attention(_attention(), {"image": _noise(LARGE)}, replace(AUTO, int8=True))
    assert record.form == "pooled"
    assert "INT8" in record.reason


def test_reference_leaves_the_module_as_trained():
    module = _attention()
    (record,) = rewrite_attention(module, {"image": _noise(LARGE)}, Request("reference"))
    assert isinstance(module[0], KeyOnlyAttention)
    assert record.form == "reference"
    assert record.macs_after == record.macs_before


def test_a_whole_layer_is_rewritten_at_once():
    torch.manual_seed(0)
    for request, kind in ((AUTO, TokenLayer), (replace(AUTO, int8=True), MapLayer)):
        module = nn.Sequential(trained(AttentionLayer(32)))
        expected = module(_noise(LARGE))
        (record,) = rewrite_attention(module, {"image": _noise(LARGE)}, request)
        assert isinstance(module[0], kind)
        assert (record.path, record.folded) == ("0.attention", ("norm1", "norm2"))
        torch.testing.assert_close(module(_noise(LARGE)), expected, rtol=1e-4, atol=1e-5)


class Scaled(KeyOnlyAttention):
    """Looks like key-only attention and is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 1.01


class Misshapen(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        return replace(super().saliency_gate(), key=torch.zeros(3, 3))


class OddHeads(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        return replace(super().saliency_gate(), heads=5)


class WrongBias(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        return replace(super().saliency_gate(), out_bias=torch.zeros(7))


class Spatial(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        return replace(super().saliency_gate(), key=torch.zeros(32, 32, 3, 3))


class WrongLayout(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        return replace(super().saliency_gate(), channels_last=True)


class Speechless(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        raise AttributeError("no such tensor")


class Empty(KeyOnlyAttention):
    def saliency_gate(self) -> SaliencyGate:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Empty, "cannot name its tensors: AttributeError"),
        (Speechless, "cannot name its tensors: AttributeError: no such tensor"),
        (Scaled, "do not reproduce it: relative difference 9"),
        (Misshapen, r"'gate' is \(2, 32\) where \(2, 3\)|5 heads|2 heads do not divide 3"),
        (OddHeads, "5 heads do not divide 32 channels"),
        (WrongBias, "'out_bias' has 7 elements"),
        (Spatial, "matrix or a 1x1 convolution"),
        (WrongLayout, "does not have 32 channels on axis -1"),
    ],
)
def test_a_module_that_only_looks_similar_is_left_alone_with_the_reason(cls, reason):
    module = _attention(cls=cls)
    (record,) = rewrite_attention(module, {"image": _noise(LARGE)}, AUTO)
    assert isinstance(module[0], cls)
    assert record.form == "reference"
    assert record.reason.startswith("left as it is: ")
    assert re.search(reason, record.reason)


def test_a_module_with_hooks_keeps_them():
    module = _attention()
    module[0].register_forward_hook(lambda *_: None)
    (record,) = rewrite_attention(module, {"image": _noise(LARGE)}, AUTO)
    assert "hooks" in record.reason


def test_an_attention_that_is_never_run_is_left_alone():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = KeyOnlyAttention(32, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    (record,) = rewrite_attention(Idle().eval(), {"image": _noise(LARGE)}, AUTO)
    assert "was not run" in record.reason


def test_a_layer_with_a_wrong_norm_falls_back_to_its_attention():
    class OtherEps(AttentionLayer):
        def saliency_layer(self):
            return replace(super().saliency_layer(), norm1=Norm(None, None, 0.5))

    torch.manual_seed(0)
    module = nn.Sequential(trained(OtherEps(32)))
    expected = module(_noise(LARGE))
    (record,) = rewrite_attention(module, {"image": _noise(LARGE)}, AUTO)
    assert (record.path, record.form, record.folded) == ("0.attention", "reassociated", ())
    assert isinstance(module[0], OtherEps)
    torch.testing.assert_close(module(_noise(LARGE)), expected, rtol=1e-4, atol=1e-5)


def test_a_module_without_attention_is_not_even_run():
    class Fails(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    assert rewrite_attention(Fails(), {"image": _noise(LARGE)}, AUTO) == ()


def test_measured_takes_what_the_timer_found_fastest():
    seen = []

    def timer(modules, sample):
        seen.append(sample.shape)
        return {"pooled": 1.23456, "reassociated": 0.5}

    request = Request("measured", timer=timer)
    (record,) = rewrite_attention(_attention(), {"image": _noise(SMALL)}, request)
    assert record.form == "reassociated"
    assert record.milliseconds == {"pooled": 1.2346, "reassociated": 0.5}
    assert seen == [(1, 32, 2, 2)]
    (record,) = rewrite_attention(_attention(), {"image": _noise(SMALL)}, replace(request, int8=True))
    assert record.form == "pooled"


def test_costs_follow_the_formulas():
    size = AttentionSize(channels=64, heads=2, positions=100)
    assert macs("reference", size) == 3 * 64 * 64 * 100 + 2 * 64 * 100 + 64 * 100
    assert choose(AttentionSize(512, 16, 49), int8=False)[0] == "pooled"
    assert choose(AttentionSize(512, 16, 4096), int8=False)[0] == "reassociated"


def test_the_graph_remembers_every_decision(exported_dynamic):
    records = read_attention(exported_dynamic.path)
    assert [record.path for record in records] == [f"stages.{stage}.1.attention" for stage in range(4)]
    assert records[0].form == "reassociated"
    assert exported_dynamic.lineage[-1].config["attention"][0]["form"] == "reassociated"


def test_measured_times_every_form_on_the_runtime(tmp_path):
    config = ExportConfig(decomposition="measured")
    artifact = export_onnx(_one_layer(), config, out=tmp_path / "measured.onnx")
    (record,) = read_attention(artifact.path)
    assert set(record.milliseconds) == set(form_names())
    assert record.milliseconds[str(record.form)] == min(record.milliseconds.values())


def _one_layer() -> TorchModel:
    torch.manual_seed(0)
    return torch_model(trained(nn.Sequential(nn.Conv2d(3, 32, 4, stride=4), AttentionLayer(32))), size=(32, 32))


@pytest.mark.parametrize(
    ("precision", "form"),
    [(Precision.INT8, "pooled"), (Precision.FP16, "reassociated")],
)
def test_graphs_meant_for_other_precisions_compute_the_same(precision, form, run_onnx, tmp_path):
    model = _one_layer()
    artifact = export_onnx(model, ExportConfig(precision=precision), out=tmp_path / "graph.onnx")
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.module(image)
    (found,) = run_onnx(artifact.path, {"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)
    assert [record.form for record in read_attention(artifact.path)] == [form]


def test_the_weights_of_the_original_are_untouched():
    model = linglo()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    rewrite_attention(copy.deepcopy(model.module), torch.zeros(1, 3, 64, 64), AUTO)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
