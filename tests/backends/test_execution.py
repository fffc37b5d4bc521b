"""What a runtime runs is told layer by layer, with the reason where a planned INT8 layer runs in floating point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends import registry
from linglos_deploy.backends.asked import AskedLayer
from linglos_deploy.backends.cpu import this_cpu
from linglos_deploy.backends.execution import prove_execution
from linglos_deploy.choices import Precision
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import find_placement
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.verbs.execution import check_execution
from linglos_deploy.verbs.verdicts import Subject
from tests.quantization.residual import residual_images, residual_model
from tests.quantization.test_placements import planned

needs_integers = pytest.mark.skipif(not this_cpu().int8_dot_products, reason="needs a CPU with INT8 dot products")
LAYERS = ["stem", "depthwise", "project", "wide", "last", "head"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxArtifact, QuantPlan, Path]:
    folder = tmp_path_factory.mktemp("execution")
    return *planned(residual_model(), residual_images(), folder / "m.onnx"), folder


def subject(case: tuple[OnnxArtifact, QuantPlan, Path], name: str) -> Subject:
    original, plan, folder = case
    placement = find_placement(name)
    graph = apply_plan(original, plan, out=folder / f"{name}.onnx", placement=placement)
    return Subject(graph, Precision.INT8, parent=original, plan=plan, placement=placement)


@needs_integers
@pytest.mark.parametrize(("name", "runtime"), [("onnxruntime-x86", "onnxruntime"), ("openvino", "openvino")])
def test_each_runtime_multiplies_integers_in_every_layer_of_its_own_graph(
    case: tuple[OnnxArtifact, QuantPlan, Path], name: str, runtime: str
) -> None:
    if not registry.probe(runtime).installed:
        pytest.skip(f"needs {runtime}: pip install 'linglos-deploy[{runtime}]'")
    finding = check_execution(subject(case, name))
    assert finding is not None
    assert (finding.name, finding.passed) == (f"what {runtime} runs", True), finding.found
    assert finding.found == "6 of 6 INT8 layers compute in integers"


def test_a_graph_for_others_runs_in_floating_point_in_onnxruntime_and_the_reason_is_told(
    case: tuple[OnnxArtifact, QuantPlan, Path],
) -> None:
    graph = subject(case, "tensorrt").graph
    assert isinstance(graph, OnnxArtifact)
    proof = registry.runtime("onnxruntime", int8="safe").explain(graph)  # type: ignore[attr-defined]
    got = {node.node: node.got for node in proof.nodes}
    assert list(got) == LAYERS
    assert got["wide"] == "float32"
    assert "no Quantize follows it" in next(node.reason for node in proof.nodes if node.node == "wide")
    assert "'wide' runs in float32" in proof.detail


@needs_integers
def test_a_layer_whose_result_stays_in_floating_point_is_named_and_left_open(
    case: tuple[OnnxArtifact, QuantPlan, Path],
) -> None:
    original, plan, folder = case
    results = tuple(
        replace(it, quantize=False, low=None, high=None, reason="it is too wide") if it.tensor == "r3" else it
        for it in plan.results
    )
    finding = check_execution(subject((original, replace(plan, results=results), folder), "onnxruntime-x86"))
    assert finding is not None
    assert finding.passed is None
    assert finding.found == (
        "5 of 5 INT8 layers compute in integers; 'wide' stays in floating point: onnxruntime would have to round 'r3', "
        "which stays in floating point: it is too wide"
    )


def test_none_in_integers_is_a_failure_and_an_unknown_one_is_not_taken_for_granted() -> None:
    asked = [AskedLayer(name, "Conv", "int8", 1) for name in ("a", "b")]
    proof = prove_execution(asked, {"a": ("float32", "why not"), "b": ("float32", "why not")}, runtime="r")
    assert proof.missing == ("int8",)
    assert proof.detail.startswith("0 of 2 INT8 layers compute in integers; 'a' runs in float32: why not")

    proof = prove_execution(asked, {"a": ("int8", "")}, runtime="r")
    assert proof.missing == ()
    assert [node.got for node in proof.nodes] == ["int8", ""]
    assert "'b' is not known: r names no such layer" in proof.detail
