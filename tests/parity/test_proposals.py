"""Proposed limits: the model keeps them, a worse one does not, the file can be read, and reasons stand beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomllib
from hypothesis import given
from hypothesis import strategies as st

import linglos_deploy
from linglos_deploy.choices import Precision
from linglos_deploy.parity.criteria import read_criteria
from linglos_deploy.parity.proposals import holds, propose, to_toml
from linglos_deploy.parity.verdict import Criteria, judge
from linglos_deploy.reports.criteria import Condition, ProposedLimit
from linglos_deploy.reports.parity import ParityReport
from tests.commandline import run
from tests.comparing.examples import METRICS, output, report
from tests.conftest import Shipped

CONDITIONS = (Condition("once", 0, 8),)


def judged(precision: str = "int8", *, images: str = "data", name: str = "logits", **changed: Any) -> ParityReport:
    """Return a verdict by the default limits."""
    criteria = judge(replace(METRICS, **changed), Criteria.for_precision(Precision(precision)).limits)
    one = replace(output(name, images=images, **changed), criteria=criteria)
    return report(one, precision=precision)


def limits(*runs: ParityReport) -> dict[str, ProposedLimit]:
    return {str(limit.metric): limit for limit in propose([[run] for run in runs])}


def test_every_criterion_and_the_divergence_get_a_limit_that_the_model_keeps() -> None:
    found = limits(judged(), judged(sample_db_mean=39.5, cosine=0.99985))
    assert {"sqnr_db", "cosine", "worst_cosine", "top1_agreement", "kl_divergence"} <= found.keys()
    for limit in found.values():
        assert holds(limit.metric, limit.worst, limit.limit)
        assert holds(limit.metric, limit.best, limit.worst)


def test_a_limit_is_the_worst_value_less_machine_and_other_images() -> None:
    found = limits(judged())
    others = 3 * (2 * 2.0**2 / 100) ** 0.5
    assert 37 - 1.5 - others - 0.5 < found["sqnr_db"].limit <= 37 - 1.5 - others
    assert "1.5 for another machine" in found["sqnr_db"].reason
    assert f"{others:.1f} for other images" in found["sqnr_db"].reason


def test_the_worst_of_other_images_may_be_6_db_noisier_than_the_worst_of_these() -> None:
    found = limits(judged())["worst_cosine"]
    least = 1.5 + 3 * (2 * 2.0**2 / 100) ** 0.5 + 6
    assert (1 - found.worst) * 10 ** (least / 10) == pytest.approx(1 - found.limit, rel=0.1)  # two digits
    assert "6 for a worse image" in found.reason


def test_what_conditions_move_is_allowed_twice_where_it_is_more_than_a_machine_costs() -> None:
    calm = limits(judged(), judged())["sqnr_db"].limit
    assert limits(judged(), judged(sample_db_mean=39.5))["sqnr_db"].limit == calm
    assert limits(judged(), judged(sample_db_mean=37.0))["sqnr_db"].limit == calm - 4.5


def test_the_worst_value_is_the_largest_where_small_is_good() -> None:
    for runs in ((0.001, 0.004), (0.004, 0.001)):
        found = limits(*(judged(kl_divergence=value) for value in runs))["kl_divergence"]
        assert (found.best, found.worst) == (0.001, 0.004)
        assert 0.004 < found.limit < 0.01


def test_no_limit_is_laxer_than_a_default_that_the_model_holds() -> None:
    found = limits(judged(sqnr_db=13.4, cosine=0.981))
    assert found["sqnr_db"].limit == 13
    assert found["cosine"].limit == 0.98
    assert found["sqnr_db"].reason.endswith("the default")
    assert limits(judged(sqnr_db=9.0))["sqnr_db"].limit < 9


def test_float32_is_not_held_to_more_than_float32_holds() -> None:
    assert limits(judged("fp32", sqnr_db=140, sample_db_mean=140.0, cosine=1.0))["sqnr_db"].limit == 115


def test_limits_are_for_real_images_where_there_are_some() -> None:
    noise, real = judged(images="synthetic golden"), judged(images="golden")
    both = replace(real, outputs=(*noise.outputs, *real.outputs))
    assert {limit.images for limit in propose([[both]])} == {"golden"}
    assert {limit.images for limit in propose([[noise]])} == {"synthetic golden"}


texts = st.text(min_size=1, max_size=20)


@given(texts, texts, texts, st.floats(-50, 140), st.floats(0, 1))
def test_a_file_can_be_read_whatever_names_are_in_it(
    name: str, images: str, subject: str, decibels: float, share: float
) -> None:
    proposed = list(propose([[judged(name=name, images=images, sqnr_db=decibels, top1_agreement=share)]]))
    text = to_toml(proposed, subject=subject, conditions=CONDITIONS)
    read = tomllib.loads(text)["int8"]["images"][images]["outputs"][name]
    assert read == pytest.approx({str(limit.metric): limit.limit for limit in proposed})


def test_two_graphs_of_one_precision_get_the_limits_that_both_hold() -> None:
    good, other = judged(sqnr_db=40.0, kl_divergence=0.1), replace(judged(sqnr_db=30.0), candidate="other.int8.onnx")
    for both in ([good, other], [other, good]):
        proposed = list(propose([both]))
        read = tomllib.loads(to_toml(proposed, subject="x", conditions=CONDITIONS))["int8"]["images"]["data"]["outputs"]
        assert read["logits"]["sqnr_db"] == limits(other)["sqnr_db"].limit
        assert read["logits"]["kl_divergence"] == pytest.approx(limits(good)["kl_divergence"].limit)


def test_a_set_of_images_has_limits_of_its_own(tmp_path: Path) -> None:
    text = "[int8]\nsqnr_db = 20\n[int8.images.data]\nsqnr_db = 30\n[int8.images.data.outputs.logits]\nsqnr_db = 35\n"
    (tmp_path / "parity.toml").write_text(text)
    file = read_criteria(tmp_path / "parity.toml")
    default = Criteria.for_precision(Precision.INT8)
    found = file.apply(default, backend="onnxruntime", images="data")
    assert (found.of("logits").sqnr_db, found.of("boxes").sqnr_db) == (35, 30)
    assert file.apply(default, backend="onnxruntime", images="golden").of("logits").sqnr_db == 20


def test_limits_for_what_was_not_checked_are_named(tmp_path: Path) -> None:
    text = """
        [int8.outputs.logit]
        sqnr_db = 9
        [int8.images.dta.outputs.logits]
        sqnr_db = 9
        [backends.openvino.int8.outputs.boxes]
        sqnr_db = 9
        [fp16.outputs.else]
        sqnr_db = 9
    """
    (tmp_path / "parity.toml").write_text(text)
    named = read_criteria(tmp_path / "parity.toml").strangers([judged()])
    assert named == ("output 'boxes'", "output 'logit'", "images 'dta'")
    assert read_criteria(None).strangers([judged()]) == ()


@pytest.mark.parametrize("text", ["[int8.images]\ndata = 1", "[int8.images.data.images.x]\nsqnr_db = 1"])
def test_sets_of_images_are_tables_and_hold_no_others(tmp_path: Path, text: str) -> None:
    (tmp_path / "parity.toml").write_text(text)
    with pytest.raises(linglos_deploy.LinglosError):
        read_criteria(tmp_path / "parity.toml")


@pytest.mark.xdist_group("shipped")
def test_a_bundle_keeps_the_limits_that_it_was_calibrated_for_and_a_worse_one_does_not(
    shipped: Shipped, tmp_path: Path
) -> None:
    out = tmp_path / "parity.toml"
    asked = ("--data", shipped.images, "--precision", "int8", "-q")
    answer = run("calibrate-criteria", shipped.bundle, *asked, "-o", out, "--json").expect(0).json
    assert len(answer["conditions"]) == 6
    assert {limit["images"] for limit in answer["limits"]} == {"data", "golden"}
    assert "for other images" in out.read_text()
    run("parity", shipped.bundle, *asked, "--criteria", out).expect(0)
    run("calibrate-criteria", shipped.bundle, *asked, "-o", out).explain(2, "--force")
    shifted = out.read_text().replace("sqnr_db = ", "sqnr_db = 1")  # as if it had reached a hundred decibels more
    out.write_text(shifted + "\n[int8.outputs.nobody]\nsqnr_db = 1\n")
    run("parity", shipped.bundle, *asked, "--criteria", out).expect(1, "limits for output 'nobody'")
