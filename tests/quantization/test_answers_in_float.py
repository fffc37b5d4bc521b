"""The layers whose numbers a task reads stay in floating point, told by what the graph says it is for."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from linglos_deploy.codec import to_builtins
from linglos_deploy.errors import ArtifactError
from linglos_deploy.graph.metadata import PREFIX, stated_decoding
from linglos_deploy.quantization.candidates import find_candidates
from linglos_deploy.signature import Decoding
from tests.quantization.graphs import graph_of

SEGMENT = '{"task": "segment", "outputs": {"scores": "y"}, "settings": {"output": "scores"}}'


def obstacles(decoding: str | None) -> dict[str, str | None]:
    weight = np.ones((3, 3, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "head.smooth.0/Conv"),
        helper.make_node("Conv", ["a", "w"], ["y"], "head.predict/Conv"),
    ]
    graph = graph_of(nodes, {"w": weight})
    if decoding is not None:
        helper.set_model_props(graph, {f"{PREFIX}decoding": decoding})
    return {candidate.node: candidate.obstacle for candidate in find_candidates(graph)}


def test_the_predicting_layer_of_a_segmenter_stays_and_all_others_are_free() -> None:
    found = obstacles(SEGMENT)
    assert found["head.smooth.0/Conv"] is None
    assert "the model's answer" in (found["head.predict/Conv"] or "")


@pytest.mark.parametrize(
    "decoding", [None, SEGMENT.replace("segment", "classify"), SEGMENT.replace("segment", "other")]
)
def test_graphs_of_other_tasks_have_no_such_layer(decoding: str | None) -> None:
    assert set(obstacles(decoding).values()) == {None}


def test_a_graphs_decoding_is_read_back_and_nonsense_is_refused() -> None:
    graph = graph_of([helper.make_node("Relu", ["x"], ["y"])], {})
    assert stated_decoding(graph) is None
    helper.set_model_props(graph, {f"{PREFIX}decoding": SEGMENT})
    assert stated_decoding(graph) == Decoding("segment", {"scores": "y"}, {"output": "scores"})
    assert to_builtins(stated_decoding(graph))["task"] == "segment"
    helper.set_model_props(graph, {f"{PREFIX}decoding": "[]"})
    with pytest.raises(ArtifactError):
        stated_decoding(graph)
