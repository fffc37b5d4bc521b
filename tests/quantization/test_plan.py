from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.errors import ArtifactError, QuantizationError
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, TensorDecision, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from tests.quantization.graphs import attention_model, calibrated

ABSMAX = QuantScheme(method="absmax", narrow=True)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxArtifact, CalibrationTable]:
    return calibrated(attention_model(), tmp_path_factory.mktemp("plan") / "m.onnx")


def plan(case: tuple[OnnxArtifact, CalibrationTable], scheme: QuantScheme = ABSMAX) -> QuantPlan:
    return plan_quantization(*case, scheme)


def nodes(plan: QuantPlan) -> dict[str, NodeDecision]:
    return {decision.node: decision for decision in plan.nodes}


def tensors(plan: QuantPlan) -> dict[str, TensorDecision]:
    return {decision.tensor: decision for decision in plan.tensors}


def test_every_candidate_has_a_decision_and_a_reason(case: tuple[OnnxArtifact, CalibrationTable]) -> None:
    made = plan(case)

    assert list(nodes(made)) == ["n0", "n2", "n3", "n4", "n8", "n13", "n17", "n18"]
    assert list(tensors(made)) == ["image", "act", "x", "mixed", "vector", "hidden"]
    assert all(decision.reason for decision in (*made.nodes, *made.tensors))
    assert [decision.node for decision in made.nodes if not decision.quantize] == ["n4"]
    assert "saliency gate" in nodes(made)["n4"].reason


def test_a_shared_tensor_is_decided_once_for_all_that_read_it_in_int8(
    case: tuple[OnnxArtifact, CalibrationTable],
) -> None:
    assert tensors(plan(case))["x"].consumers == ("n3", "n8")


def test_scales_follow_from_what_was_seen(case: tuple[OnnxArtifact, CalibrationTable]) -> None:
    for decision in plan(case).quantized_tensors:
        largest = case[1].tensors[decision.tensor].absolute_maximum
        assert decision.bound == largest
        assert decision.scale == pytest.approx(largest / 127, rel=2e-3)
        assert f"±{largest:.4g}" in decision.reason
        assert "dB" in decision.reason


def test_linear_layers_that_integers_make_no_faster_stay_in_floating_point(
    case: tuple[OnnxArtifact, CalibrationTable],
) -> None:
    rounded, usual = plan(case), plan(case, replace(ABSMAX, narrow=False))
    left = {it.node: it.reason for it in usual.nodes if not it.quantize and nodes(rounded)[it.node].quantize}
    assert {nodes(rounded)[name].op_type for name in left} == {"Gemm", "MatMul"}  # both of them have 8 inputs or less
    assert all("integers multiply no faster" in reason for reason in left.values())
    assert {it.tensor for it in usual.quantized_tensors}.isdisjoint({nodes(usual)[name].data for name in left})


def test_the_scheme_decides_about_names(case: tuple[OnnxArtifact, CalibrationTable]) -> None:
    made = plan(case, QuantScheme(exclude=("n0", "n1[37]"), narrow=True))

    floats = {decision.node: decision.reason for decision in made.nodes if not decision.quantize}
    assert set(floats) == {"n0", "n4", "n13", "n17"}
    assert "excluded by 'n1[37]'" in floats["n13"]
    assert tensors(made)["image"].reason == "nothing reads it in INT8"


def test_seven_bits_are_written_down(case: tuple[OnnxArtifact, CalibrationTable]) -> None:
    made = plan(case, replace(ABSMAX, weight_bits=7))
    assert {decision.weight_bits for decision in made.nodes} == {7, None}
    assert nodes(made)["n4"].weight_bits is None
    assert "INT7 weights" in nodes(made)["n0"].reason


def test_a_table_of_another_graph_is_refused_by_what_differs(case: tuple[OnnxArtifact, CalibrationTable]) -> None:
    artifact, table = case
    with pytest.raises(QuantizationError, match="another graph") as caught:
        plan((artifact, replace(table, graph_digest="f" * 64)))
    assert "ffff" in (caught.value.found or "")
    assert artifact.digest[:16] in (caught.value.expected or "")


def test_a_tensor_without_a_range_is_named_with_its_reader_unless_nothing_needs_it(
    case: tuple[OnnxArtifact, CalibrationTable],
) -> None:
    artifact, table = case
    partial = replace(table, tensors={name: seen for name, seen in table.tensors.items() if name != "mixed"})

    with pytest.raises(QuantizationError, match="'mixed' has no range") as caught:
        plan((artifact, partial))
    assert "n13" in (caught.value.next_step or "")
    assert not nodes(plan((artifact, partial), QuantScheme(exclude=("n13",))))["n13"].quantize


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (observe(np.zeros((2, 4), np.float32)), "zero on every"),
        (observe(np.array([[1.0, np.nan, np.inf]], np.float32)), "2 NaN or infinite"),
        (TensorStatistics(), "never reached"),
        (observe(np.full((2, 4), 1e-42, np.float32)), "too small"),
    ],
)
def test_a_tensor_that_cannot_be_quantized_keeps_its_reader_in_floating_point(
    case: tuple[OnnxArtifact, CalibrationTable], seen: TensorStatistics, reason: str
) -> None:
    artifact, table = case
    made = plan((artifact, replace(table, tensors={**table.tensors, "mixed": seen})))

    assert not tensors(made)["mixed"].quantize
    assert reason in tensors(made)["mixed"].reason
    assert not nodes(made)["n13"].quantize
    assert reason in nodes(made)["n13"].reason
    assert nodes(made)["n8"].quantize


def test_a_method_that_loses_the_signal_is_given_up_for_the_least_squared_error(
    case: tuple[OnnxArtifact, CalibrationTable],
) -> None:
    artifact, table = case
    values = np.full((1, 10_000), 0.001, np.float32)
    values[0, ::100] = 5.0
    outliers = replace(table, tensors={**table.tensors, "mixed": observe(values)})
    made = tensors(plan((artifact, outliers), QuantScheme(method="percentile", percentile=98.9)))

    assert made["mixed"].method == "mse"
    assert made["mixed"].bound is not None
    assert made["mixed"].bound > 4
    assert "percentile would clip at" in made["mixed"].reason
    assert made["x"].method == "percentile"


SCHEMES = st.builds(
    QuantScheme,
    method=st.sampled_from(builtin_methods()),
    percentile=st.sampled_from([99.0, 99.99, 100.0]),
    weight_bits=st.sampled_from([7, 8]),
    exclude=st.lists(st.sampled_from(["n0", "n3", "n13", "n18", "n.*"]), max_size=2).map(tuple),
)


@given(SCHEMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plan_survives_its_file_and_is_consistent(
    case: tuple[OnnxArtifact, CalibrationTable], tmp_path: Path, scheme: QuantScheme
) -> None:
    made = plan(case, scheme)
    made.save(tmp_path / "plan.json")

    assert QuantPlan.load(tmp_path / "plan.json") == made
    assert made.scheme == scheme
    usable = {decision.tensor for decision in made.quantized_tensors}
    assert {decision.data for decision in made.quantized_nodes} == usable
    readers = [node for decision in made.quantized_tensors for node in decision.consumers]
    assert sorted(readers) == sorted(decision.node for decision in made.quantized_nodes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("linglos.plan/2", "linglos.plan/7", "another version"),
        ('"scale": 0.', '"scale": -0.', "no usable scale"),
        ('"scale": 0.', '"scale": "0.', "cannot be read"),
    ],
)
def test_a_plan_file_that_is_not_ours_is_refused(
    case: tuple[OnnxArtifact, CalibrationTable], tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "plan.json"
    plan(case).save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    with pytest.raises(ArtifactError, match=message):
        QuantPlan.load(path)


def test_where_the_ranges_come_from_is_kept(case: tuple[OnnxArtifact, CalibrationTable]) -> None:
    artifact, table = case
    made = plan((artifact, replace(table, synthetic=True, image_count=3)))
    assert (made.synthetic, made.image_count, made.data_digest) == (True, 3, "d" * 64)
    assert made.preprocess_digest == table.preprocess_digest != ""
