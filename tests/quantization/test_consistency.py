"""A plan is a file that people edit: every field of it acts, or is refused by the name of what contradicts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.choices import Precision
from linglos_deploy.errors import ArtifactError, LinglosError, QuantizationError
from linglos_deploy.graph.passes.running import run_passes
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.placement import DEFAULT, find_placement, placement_names
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, ResultDecision, TensorDecision, plan_quantization
from linglos_deploy.quantization.qdq import InsertQdq
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import attention_model, calibrated

RECORDS = {"reason", "expected_db"}
"""Fields that say how a decision was made."""


@pytest.fixture(scope="module")
def artifact_and_plan(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxArtifact, QuantPlan]:
    artifact, table = calibrated(attention_model(), tmp_path_factory.mktemp("plan") / "m.onnx")
    return artifact, plan_quantization(artifact, table, QuantScheme(exclude=("n13",)))


@pytest.fixture(scope="module")
def model(artifact_and_plan: tuple[OnnxArtifact, QuantPlan]) -> onnx.ModelProto:
    return load_onnx(artifact_and_plan[0].path)


@pytest.fixture(scope="module")
def made(artifact_and_plan: tuple[OnnxArtifact, QuantPlan]) -> QuantPlan:
    return artifact_and_plan[1]


def carried_out(model: onnx.ModelProto, plan: QuantPlan, placement: str = DEFAULT) -> bytes:
    return run_passes(model, InsertQdq(plan, find_placement(placement))).SerializeToString(deterministic=True)


def everywhere(model: onnx.ModelProto, plan: QuantPlan) -> list[bytes]:
    """What every placement makes of a plan."""
    return [carried_out(model, plan, name) for name in placement_names()]


def with_node(plan: QuantPlan, name: str, **changes: Any) -> QuantPlan:
    nodes = (replace(each, **changes) if each.node == name else each for each in plan.nodes)
    return replace(plan, nodes=tuple(nodes))


def with_tensor(plan: QuantPlan, name: str, **changes: Any) -> QuantPlan:
    tensors = (replace(each, **changes) if each.tensor == name else each for each in plan.tensors)
    return replace(plan, tensors=tuple(tensors))


def with_result(plan: QuantPlan, name: str, **changes: Any) -> QuantPlan:
    results = (replace(each, **changes) if each.tensor == name else each for each in plan.results)
    return replace(plan, results=tuple(results))


def other_values(value: Any) -> list[Any]:
    """Values of the same kind that a person might write instead."""
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return [7, 8, 0.25]
    if isinstance(value, int):
        return [None, 7, 4, value + 1, 1 - value]
    if isinstance(value, float):
        return [None, value * 1.0001, value * 2, value / 2]
    if isinstance(value, tuple):
        return [(), value[1:], (*value, "n4"), (*value, "n0"), (*value, "ghost"), value + value]
    return ["ghost", "x", "n0", "w0", "Gemm"]


def edits(plan: QuantPlan) -> Iterator[tuple[str, QuantPlan]]:
    """Every edit of one field of one decision."""
    for node in plan.nodes:
        for each in fields(NodeDecision):
            for value in other_values(getattr(node, each.name)):
                if each.name not in RECORDS and value != getattr(node, each.name):
                    yield f"{node.node}.{each.name} = {value}", with_node(plan, node.node, **{each.name: value})
    for tensor in plan.tensors:
        for each in fields(TensorDecision):
            for value in other_values(getattr(tensor, each.name)):
                if each.name in RECORDS or value == getattr(tensor, each.name):
                    continue
                try:
                    yield (
                        f"{tensor.tensor}.{each.name} = {value}",
                        with_tensor(plan, tensor.tensor, **{each.name: value}),
                    )
                except LinglosError:
                    continue  # refused before there is a plan
    for result in plan.results:
        for each in fields(ResultDecision):
            for value in other_values(getattr(result, each.name)):
                if each.name in RECORDS or value == getattr(result, each.name):
                    continue
                try:
                    yield (
                        f"{result.tensor}.{each.name} = {value}",
                        with_result(plan, result.tensor, **{each.name: value}),
                    )
                except LinglosError:
                    continue


def test_every_edit_of_one_field_acts_or_is_refused_by_name(model: onnx.ModelProto, made: QuantPlan) -> None:
    plain = everywhere(model, made)
    ignored, unnamed, acted, refused = [], [], 0, 0
    for what, edited in edits(made):
        try:
            result = everywhere(model, edited)
        except LinglosError as error:
            refused += 1
            if f"'{what.partition('.')[0]}'" not in str(error):
                unnamed.append((what, str(error)))
        else:
            acted += 1
            if result == plain and not follows_from_the_rest(what):
                ignored.append(what)
    assert not ignored
    assert not unnamed
    assert acted >= 8
    assert refused >= 100


def follows_from_the_rest(what: str) -> bool:
    """Leaving out the scale changes nothing: it follows from the bound. Nor does saying that no method found it."""
    return what.endswith((".scale = None", ".method = None"))


def test_a_decision_that_is_missing_or_given_twice_is_refused(model: onnx.ModelProto, made: QuantPlan) -> None:
    for edited, name in (
        (replace(made, nodes=made.nodes[1:]), made.nodes[0].node),
        (replace(made, nodes=tuple(each for each in made.nodes if each.node != "n4")), "n4"),
        (replace(made, tensors=made.tensors[1:]), made.tensors[0].tensor),
        (replace(made, nodes=(*made.nodes, made.nodes[2])), made.nodes[2].node),
        (replace(made, tensors=(*made.tensors, made.tensors[2])), made.tensors[2].tensor),
    ):
        with pytest.raises(QuantizationError, match=f"'{name}'"):
            carried_out(model, edited)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_two_edits_are_carried_out_or_refused_but_nothing_breaks(
    model: onnx.ModelProto, made: QuantPlan, data: st.DataObject
) -> None:
    _, once = data.draw(st.sampled_from(list(edits(made))))
    choices = list(edits(once))
    _, twice = data.draw(st.sampled_from(choices))
    try:
        result = onnx.load_from_string(carried_out(model, twice))
    except LinglosError:
        return
    onnx.checker.check_model(result, full_check=True)
    dequantized = {name for node in result.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    integer = {node.name for node in result.graph.node if len(dequantized.intersection(node.input)) == 2}
    assert integer == {decision.node for decision in twice.quantized_nodes}


def test_a_bound_that_was_edited_gives_the_scale_where_the_scale_is_left_out(
    model: onnx.ModelProto, made: QuantPlan
) -> None:
    edited = with_tensor(made, "x", bound=1.27, scale=None)
    stored = {tensor.name: tensor for tensor in onnx.load_from_string(carried_out(model, edited)).graph.initializer}
    assert float(numpy_helper.to_array(stored["x/scale"])) == pytest.approx(0.01)

    with pytest.raises(QuantizationError, match="scale of tensor 'x' does not follow from its bound") as caught:
        carried_out(model, with_tensor(made, "x", bound=1.27))
    assert "0.01" in (caught.value.expected or "")


def test_a_node_can_be_given_seven_bits_alone(model: onnx.ModelProto, made: QuantPlan) -> None:
    edited = onnx.load_from_string(carried_out(model, with_node(made, "n0", weight_bits=7)))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in edited.graph.initializer}
    assert np.abs(stored["w0/int8"]).max() == 63
    assert np.abs(stored["wk/int8"]).max() == 127


def test_a_node_is_switched_off_with_its_place_among_the_consumers(model: onnx.ModelProto, made: QuantPlan) -> None:
    off = with_node(made, "n3", quantize=False, weight_bits=None)
    with pytest.raises(QuantizationError, match="'n3' is listed as a consumer of tensor 'x', but stays in floating"):
        carried_out(model, off)
    edited = onnx.load_from_string(carried_out(model, with_tensor(off, "x", consumers=("n8",))))
    (node,) = (node for node in edited.graph.node if node.name == "n3")
    assert list(node.input[:2]) == ["x", "wk"]


def test_a_tensor_that_stays_in_floating_point_takes_its_readers_with_it(
    model: onnx.ModelProto, made: QuantPlan
) -> None:
    gone: dict[str, Any] = dict.fromkeys(("scale", "bound", "low", "high", "method"))
    off = with_tensor(made, "x", quantize=False, consumers=(), **gone)
    with pytest.raises(QuantizationError, match="'n3' is to be INT8, but its input 'x' stays in floating point"):
        carried_out(model, off)
    for name in ("n3", "n8"):
        off = with_node(off, name, quantize=False, weight_bits=None)
    result = onnx.load_from_string(carried_out(model, off))
    assert "x/int8" not in {name for node in result.graph.node for name in node.output}


def test_whoever_insists_gets_a_gate_in_int8_but_no_excluded_node(model: onnx.ModelProto, made: QuantPlan) -> None:
    insisted = with_node(made, "n4", quantize=True, weight_bits=8)
    consumers = next(each.consumers for each in made.tensors if each.tensor == "x")
    insisted = with_tensor(insisted, "x", consumers=(*consumers, "n4"))
    assert "wg/int8" in {each.name for each in onnx.load_from_string(carried_out(model, insisted)).graph.initializer}

    with pytest.raises(QuantizationError, match="'n13' is to be INT8, but the plan's scheme keeps it"):
        carried_out(model, with_node(made, "n13", quantize=True, weight_bits=8))


def test_a_scale_that_float16_does_not_have_is_refused_where_the_graph_becomes_float16(
    model: onnx.ModelProto, made: QuantPlan
) -> None:
    short = replace(made, scheme=replace(made.scheme, floating=Precision.FP16))
    with pytest.raises(QuantizationError, match=r"scale of tensor .* does not follow from its bound") as caught:
        carried_out(model, short)
    assert "float16" in (caught.value.expected or "")


def test_a_plan_with_edits_is_read_from_its_file(
    artifact_and_plan: tuple[OnnxArtifact, QuantPlan], tmp_path: Path
) -> None:
    artifact, made = artifact_and_plan
    with_tensor(made, "x", bound=1.27, scale=None, method=None).save(tmp_path / "plan.json")
    result = apply_plan(artifact, QuantPlan.load(tmp_path / "plan.json"), out=tmp_path / "q.onnx")
    assert "x/scale" in {tensor.name for tensor in load_onnx(result.path).graph.initializer}


def test_a_bound_without_a_method_leaves_nothing_but_its_scale_to_say(model: onnx.ModelProto, made: QuantPlan) -> None:
    plain = carried_out(model, made)
    assert carried_out(model, with_tensor(made, "x", bound=None, method=None)) == plain
    with pytest.raises(QuantizationError, match="'x' has a method, but not the bound"):
        carried_out(model, with_tensor(made, "x", bound=None))


def test_a_method_is_one_that_the_scheme_uses(model: onnx.ModelProto, made: QuantPlan) -> None:
    with pytest.raises(QuantizationError, match="method of tensor 'x' is none that the plan's scheme uses"):
        carried_out(model, with_tensor(made, "x", method="absmax"))
    other_scheme = replace(made, scheme=replace(made.scheme, method="absmax"))
    assert carried_out(model, with_tensor(other_scheme, "x", method="absmax"))


@pytest.mark.parametrize("place", ["", "scheme", "tensors", "nodes"])
def test_a_field_that_plans_do_not_have_is_refused_by_its_place(made: QuantPlan, tmp_path: Path, place: str) -> None:
    made.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    part = content[place] if place else content
    (part[1] if isinstance(part, list) else part)["symetric"] = False
    (tmp_path / "plan.json").write_text(json.dumps(content))
    where = {"": "symetric", "scheme": "scheme.symetric"}.get(place, f"{place}[1].symetric")
    with pytest.raises(ArtifactError, match="holds fields that QuantPlan does not have") as caught:
        QuantPlan.load(tmp_path / "plan.json")
    assert caught.value.found == f"'{where}'"
