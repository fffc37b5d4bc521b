"""Two bundles: the gate sees lost quality, grown files, layers that left INT8, and tells what else has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import linglos_deploy
from linglos_deploy.bundle import EngineEntry, open_bundle, seal_bundle
from linglos_deploy.errors import UsageError
from tests.commandline import run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")


@pytest.fixture
def edited(shipped: Shipped, tmp_path: Path) -> Callable[..., Path]:
    """Copy the bundle, change JSON files in it, and seal it again."""

    def edit(file: str = "", change: Callable[[Any], None] = lambda _: None, **manifest: Any) -> Path:
        folder = tmp_path / f"bundle{len(list(tmp_path.iterdir()))}"
        shutil.copytree(shipped.bundle, folder)
        was = open_bundle(folder).manifest
        if file:
            content = json.loads((folder / file).read_text())
            change(content)
            (folder / file).write_text(json.dumps(content))
        seal_bundle(folder, replace(was, **manifest))
        return folder

    return edit


def measures(old: Path, new: Path, **tolerances: Any) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Return what is worse, and what else has changed."""
    report = linglos_deploy.compare(old, new, **tolerances)
    told = {change.measure: (change.old, change.new) for change in report.changes if change.passed is None}
    worse = [change.measure for change in report.changes if change.passed is False]
    assert report.passed is not bool(worse)
    return worse, told


def test_a_bundle_is_as_good_as_itself(shipped: Shipped) -> None:
    assert measures(shipped.bundle, shipped.bundle) == ([], {})
    assert linglos_deploy.compare(shipped.bundle, shipped.bundle).warnings == ()


def test_figures_about_another_file_are_no_proof_of_quality(shipped: Shipped, edited: Callable[..., Path]) -> None:
    """A graph that was exchanged without a check: its bundle still says how close the old one came."""
    reached = open_bundle(shipped.bundle).manifest.reached
    other = edited(
        reached=tuple(replace(it, digest="0" * 64) if it.graph == reached[0].graph else it for it in reached)
    )
    assert measures(shipped.bundle, other)[0] == ["the file that was checked"]


def test_an_engine_that_is_gone_is_a_regression_and_a_new_one_is_told(
    shipped: Shipped, edited: Callable[..., Path]
) -> None:
    graph = open_bundle(shipped.bundle).manifest.graphs[0]
    engine = EngineEntry(graph.file, "tensorrt", graph.file, graph.precision, graph.input, graph.signature)
    with_engine = edited(engines=(engine,))
    assert measures(with_engine, shipped.bundle)[0] == ["built"]
    assert measures(shipped.bundle, with_engine) == ([], {"built": ("no", "yes")})


def test_lost_quality_is_a_regression(shipped: Shipped, edited: Callable[..., Path]) -> None:
    def spoil(report: Any) -> None:
        report["parity"][1]["outputs"][0]["metrics"]["sample_db_mean"] -= 5

    assert measures(shipped.bundle, edited("reports/export.json", spoil))[0] == ["SQNR, mean over images"]
    assert measures(shipped.bundle, edited("reports/export.json", spoil), max_drop={"sqnr_db": 6})[0] == []


def test_lost_accuracy_is_a_regression(edited: Callable[..., Path]) -> None:
    def label(correct: int) -> Callable[[Any], None]:
        def change(report: Any) -> None:
            row = {"model": "PyTorch", "precision": "fp32", "correct": correct, "count": 450}
            report["accuracy"] = {"rows": [row], "max_drop": None, "worst_drop": 0.0, "passed": True}

        return change

    old, bad = (edited("reports/export.json", label(correct)) for correct in (448, 437))
    assert measures(old, bad)[0] == ["top-1"]
    assert measures(old, bad, max_drop={"accuracy": 2.5})[0] == []
    assert measures(old, edited())[0] == ["accuracy"]  # nobody looked


def test_a_grown_file_is_a_regression_and_a_smaller_one_is_not(shipped: Shipped, edited: Callable[..., Path]) -> None:
    large = edited()
    with (large / "model.int8.onnx").open("ab") as file:
        file.write(b"\0" * (large / "model.int8.onnx").stat().st_size)
    seal_bundle(large, replace(open_bundle(shipped.bundle).manifest, reached=()))  # no figure is about this file
    assert measures(shipped.bundle, large)[0] == ["size"]
    assert measures(large, shipped.bundle)[0] == []
    assert measures(shipped.bundle, large, max_growth=1.1)[0] == []
    assert "size" in measures(shipped.bundle, large, max_growth=float("inf"))[1]


def test_a_layer_that_left_int8_is_a_regression_and_named(shipped: Shipped, edited: Callable[..., Path]) -> None:
    def leave(plan: Any) -> None:
        node = next(node for node in plan["nodes"] if node["quantize"])
        node.update(quantize=False, weight_bits=None, reason="somebody said so")

    new = edited("plan.json", leave)
    worse, told = measures(shipped.bundle, new)
    assert worse == ["INT8 layers"]
    assert told["layer"] == ("INT8, weights of 8 bits", "floating point: somebody said so")
    assert measures(shipped.bundle, new, max_drop={"int8_layers": 1})[0] == []
    assert measures(new, shipped.bundle)[0] == []


def test_other_ranges_tools_and_labels_are_told(shipped: Shipped, edited: Callable[..., Path]) -> None:
    def widen(plan: Any) -> None:
        next(tensor for tensor in plan["tensors"] if tensor["quantize"])["bound"] *= 2
        plan["scheme"]["method"] = "absmax"

    told = measures(shipped.bundle, edited("plan.json", widen))[1]
    assert {"clipped at", "method"} <= told.keys()
    manifest = open_bundle(shipped.bundle).manifest
    told = measures(shipped.bundle, edited(labels=("a", "b", "c"), tools={**manifest.tools, "onnx": "0.1"}))[1]
    assert told["labels"] == ("ant, bee, cat", "a, b, c")
    assert told["onnx"][1] == "0.1"


def test_inner_tensors_that_lost_much_are_told(shipped: Shipped, edited: Callable[..., Path]) -> None:
    reached = open_bundle(shipped.bundle).manifest.reached
    number = next(number for number, entry in enumerate(reached) if entry.layers)
    name = next(iter(reached[number].layers))
    layers = {**reached[number].layers, name: reached[number].layers[name] - 9}
    lower = edited(reached=(*reached[:number], replace(reached[number], layers=layers), *reached[number + 1 :]))
    report = linglos_deploy.compare(shipped.bundle, lower)
    assert [change.subject for change in report.changes if change.passed is None] == [f"model.int8.onnx: {name}"]


def test_a_bundle_without_its_report_is_refused_with_a_way_out(shipped: Shipped, edited: Callable[..., Path]) -> None:
    bare = edited()
    (bare / "reports" / "export.json").unlink()
    seal_bundle(bare, open_bundle(shipped.bundle).manifest)
    with pytest.raises(UsageError, match="does not say how close"):
        linglos_deploy.compare(shipped.bundle, bare)


def test_kinds_that_differ_and_kinds_that_nobody_compares_are_refused(shipped: Shipped) -> None:
    run("compare", shipped.bundle, shipped.bundle / "plan.json").explain(2, "a bundle", "a plan")
    run("compare", shipped.bundle / "plan.json", shipped.bundle / "plan.json").explain(2, "bundle")
    run("compare", shipped.bundle, shipped.bundle, "--max-regression", "5%").explain(2, "--max-regression")
    export = shipped.bundle / "reports" / "export.json"
    run("compare", export, export, "-q").expect(0)
