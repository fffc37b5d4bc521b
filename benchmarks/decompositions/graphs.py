"""The graphs that race: the untouched module, our export of it, softmax attention for contrast, naive 16 bits."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxsim
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.choices import Weights
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.exporters.tracing import quiet_exporter
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.linglo import KeyOnlyAttention, LinGlo


class SoftmaxAttention(nn.Module):
    """Plain multi-head softmax attention of the same width: one weight per pair of positions."""

    def __init__(self, like: KeyOnlyAttention) -> None:
        super().__init__()
        channels = like.key.in_channels
        self.heads = like.heads
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; N x C x H x W in and out."""
        parts = self.query_key_value(x).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        query, key, value = parts.unbind(1)
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        attended: Tensor = self.out((weights @ value).transpose(-1, -2).reshape(x.shape))
        return attended


def as_model(module: nn.Module, *, size: tuple[int, int], name: str = "benchmark") -> TorchModel:
    return TorchModel(
        module=module.eval(),
        name=name,
        output_names=("logits",),
        preprocess=PreprocessSpec(input_size=size),
        labels=(),
        size_divisor=32,
        digest="0" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )


def with_softmax_attention(model: LinGlo) -> LinGlo:
    """Replace every key-only attention, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, KeyOnlyAttention):
                setattr(module, name, SoftmaxAttention(child).eval())
    return model


def untouched(module: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    """Export a module with ``torch.onnx.export`` and onnxsim alone, dynamic batch; the yardstick of every ratio."""
    with quiet_exporter(), warnings.catch_warnings(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *shape[1:]),),
            dynamo=True,
            opset_version=20,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    assert program is not None
    model, _ = onnxsim.simplify(program.model_proto)
    onnx.save(model, path)
    return path


def ours(model: TorchModel, path: Path, config: ExportConfig = ExportConfig()) -> Path:  # noqa: B008 - frozen
    return export_onnx(model, config, out=path).path


class Attention(nn.Module):
    """One attention by itself on N x C x H x W, as a model with a three-channel input cannot be."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, image: Tensor) -> Tensor:
        """Attend."""
        attended: Tensor = self.attention(image)
        return attended


def decompose_layer_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write LayerNormalization as exporters below opset 17 do: mean, difference, square, mean, root, quotient."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.value_info[:]
    nodes: list[onnx.NodeProto] = []
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "last_axis"))
    for node in graph.node:
        if node.op_type != "LayerNormalization":
            nodes.append(node)
            continue
        eps = next(part.f for part in node.attribute if part.name == "epsilon")
        graph.initializer.append(numpy_helper.from_array(np.float32(eps), f"{node.name}/eps"))
        nodes.extend(_decomposed(node))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return result


def _decomposed(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    x, gamma = node.input[:2]
    steps = [
        ("ReduceMean", [x, "last_axis"], "mean"),
        ("Sub", [x, "mean"], "centred"),
        ("Mul", ["centred", "centred"], "square"),
        ("ReduceMean", ["square", "last_axis"], "variance"),
        ("Add", ["variance", "eps"], "safe"),
        ("Sqrt", ["safe"], "deviation"),
        ("Div", ["centred", "deviation"], "normed"),
        ("Mul", ["normed", gamma], "scaled"),
    ]
    if len(node.input) > 2:
        steps.append(("Add", ["scaled", node.input[2]], "shifted"))
    own = {name for _, _, name in steps} | {"eps"}
    made = [
        helper.make_node(
            kind,
            [f"{node.name}/{name}" if name in own else name for name in inputs],
            [f"{node.name}/{output}"],
            name=f"{node.name}/{output}",
        )
        for kind, inputs, output in steps
    ]
    made[-1].output[0] = node.output[0]
    return made


def normalized(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give norms and biases values as after training, so that no fold is trivial."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.LayerNorm | nn.BatchNorm2d):
            nn.init.uniform_(child.weight, 0.5, 1.5, generator=generator)
        if isinstance(getattr(child, "bias", None), Tensor):
            nn.init.normal_(child.bias, std=0.1, generator=generator)
    return module.eval()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) if np.isfinite(b).all() else float("nan")
