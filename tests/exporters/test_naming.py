from __future__ import annotations

import re

import onnx
import pytest
import torch
from torch import nn

from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.exporters.naming import rename
from tests.exporters.conftest import torch_model, trained


class Block(nn.Module):
    """Two linear layers on tokens whose biases are equal, as they are before training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.project = nn.Linear(12, 12)
        self.fc1 = nn.Linear(12, 12)
        self.fc2 = nn.Linear(12, 12)
        for layer in (self.project, self.fc1, self.fc2):
            nn.init.constant_(layer.bias, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.project(self.norm(x)).reshape(x.shape)
        return x + self.fc2(torch.relu(self.fc1(x)))


class Tokens(nn.Module):
    def __init__(self, *, rows: bool) -> None:
        super().__init__()
        self.rows = rows
        self.patches = nn.Conv2d(3, 12, 32, stride=32)
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        mixed = self.blocks(tokens.reshape(-1, 12) if self.rows else tokens)
        return mixed.reshape(tokens.shape).mean(dim=1)


@pytest.fixture(scope="module", params=[(True, None), (False, None), (False, 2)], ids=["rows", "tokens", "fixed"])
def tokens(request, tmp_path_factory):
    """Linear layers as Gemm, as MatMul, and as a Gemm between two Reshapes that onnxsim makes.

    The last one is known by its bias alone; where that equals another's, it bears the name of the module around it.
    """
    rows, batch = request.param
    torch.manual_seed(0)
    module = Tokens(rows=rows)
    model = torch_model(module if batch is None else trained(module))
    artifact = export_onnx(model, ExportConfig(batch=batch), out=tmp_path_factory.mktemp("tokens") / "tokens.onnx")
    return model.module, onnx.load(artifact.path).graph


def test_each_matrix_product_is_called_after_the_layer_that_made_it(tokens):
    module, graph = tokens
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = {name for name, child in module.named_modules() if isinstance(child, nn.Linear)}
    products = {node.name: node for node in graph.node if node.op_type in ("Gemm", "MatMul")}
    assert {name.rpartition("/")[0] for name in products} == layers
    for name, node in products.items():
        layer = module.get_submodule(name.rpartition("/")[0])
        expected = layer.weight.detach().numpy()
        found = weights[node.input[1]]
        assert any((found == each).all() for each in (expected, expected.T)), name


def test_weights_bear_the_names_of_their_layer_even_where_their_values_are_equal(tokens):
    _, graph = tokens
    for node in graph.node:
        if node.op_type in ("Gemm", "MatMul", "LayerNormalization"):
            place = node.name.rpartition("/")[0]
            assert list(node.input)[1:] == [f"{place}.weight", f"{place}.bias"][: len(node.input) - 1]
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used


def test_a_pattern_excludes_one_layer_and_no_other(tokens):
    _, graph = tokens
    pattern = re.compile(r"blocks\.1\.fc1/.*")
    hit = [node.op_type for node in graph.node if pattern.fullmatch(node.name)]
    assert [kind for kind in hit if kind in ("Gemm", "MatMul")] in (["Gemm"], ["MatMul"])


def test_names_are_unique(tokens):
    _, graph = tokens
    made = [name for node in graph.node for name in node.output]
    assert len({node.name for node in graph.node}) == len(graph.node)
    assert len(set(made)) == len(made)


def test_a_constant_that_only_the_body_of_an_if_reads_is_named_after_the_if():
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    bodies = {
        branch: onnx.helper.make_graph([node(kind, ["x", "int64_1_13"], ["z"])], branch, [], [value("z", 7, [2])])
        for branch, kind in (("then_branch", "Add"), ("else_branch", "Mul"))
    }
    graph = onnx.helper.make_graph(
        [node("If", ["truth"], ["y"], **bodies)],
        "g",
        [value("x", 7, [2]), value("truth", 9, [])],
        [value("y", 7, [2])],
        [onnx.helper.make_tensor("int64_1_13", 7, [1], [3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    rename(model, {}, kept={})
    onnx.checker.check_model(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["If.inside"]
    assert model.graph.node[0].attribute[0].g.node[0].input[1] == "If.inside"
