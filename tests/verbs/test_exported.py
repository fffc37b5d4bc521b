"""A float32 graph is proven by a fresh export: what no input shows, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from linglos_deploy.artifacts import OnnxArtifact, TorchModel, open_onnx
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.verbs.exported import check_export
from tests.parity.faults import edits

pytestmark = pytest.mark.xdist_group("exported")


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return load_model(ModelSource(factory="tests.parity.networks:labelled", image_size=(32, 32)))


@pytest.fixture(scope="module")
def graph(model: TorchModel, tmp_path_factory: pytest.TempPathFactory) -> OnnxArtifact:
    return export_onnx(model, ExportConfig(), out=tmp_path_factory.mktemp("exported") / "model.onnx")


def never(faulty: onnx.ModelProto) -> None:
    """What is above 1e4 becomes zero; nothing is."""
    ends = [edits.add_constant(faulty, name, np.float32(end)) for name, end in (("high", 1e4), ("zero", 0))]
    edits.tap_input(
        faulty,
        lambda before, after: [
            helper.make_node("Greater", [before, ends[0]], ["rare"], "rare"),
            helper.make_node("Where", ["rare", ends[1], before], [after], "where"),
        ],
    )


def bias(factor: float) -> Callable[[onnx.ModelProto], None]:
    return lambda faulty: edits.change(faulty, "6.bias", lambda values: values * np.float32(factor))


def test_the_graph_of_a_model_is_what_the_model_exports_to(model: TorchModel, graph: OnnxArtifact) -> None:
    finding = check_export(model, graph)
    assert finding.passed
    assert "nodes and" in finding.found


@pytest.mark.parametrize(
    ("edit", "passed"),
    [(never, False), (bias(1 + 1e-5), False), (bias(1 + 2e-7), True)],
    ids=["a branch that is never taken", "a bias 100 dB away", "the last bits of a bias"],
)
def test_what_measuring_cannot_see_is_seen(
    model: TorchModel, graph: OnnxArtifact, edit: Callable[[onnx.ModelProto], None], passed: bool, tmp_path: Path
) -> None:
    faulty = onnx.load(graph.path)
    edit(faulty)
    onnx.save(faulty, tmp_path / "model.onnx")
    finding = check_export(model, open_onnx(tmp_path / "model.onnx", lineage=graph.lineage))
    assert finding.passed is passed
    if edit is never:
        assert finding.node == "where" or "rare" in finding.found or "Where" in finding.found


def test_exporters_of_another_version_leave_a_difference_open(
    model: TorchModel, graph: OnnxArtifact, tmp_path: Path
) -> None:
    faulty = onnx.load(graph.path)
    bias(1.01)(faulty)
    onnx.save(faulty, tmp_path / "model.onnx")
    older = tuple(replace(step, tools={**step.tools, "torch": "1.0"}) for step in graph.lineage)
    finding = check_export(model, open_onnx(tmp_path / "model.onnx", lineage=older))
    assert finding.passed is None
    assert "torch 1.0" in finding.found


def test_a_graph_that_does_not_say_how_it_was_exported_is_left_open(model: TorchModel, graph: OnnxArtifact) -> None:
    assert check_export(model, replace(graph, lineage=())).passed is None
