"""The options of ``profile`` reach the measurement, and what it writes can be read."""

from __future__ import annotations

import csv
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.commandline import enter, run

QUICK = ("--processes", "1", "--rounds", "1", "--seconds", "0", "-q")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a graph that takes images of any size."""
    image, pooled = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("image", ["batch", 3, "height", "width"]), ("pooled", ["batch", 3, 1, 1]))
    )
    node = helper.make_node("GlobalAveragePool", ["image"], ["pooled"], "pool")
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph([node], "any", [image], [pooled])
    (tmp_path / "work").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "work" / "model.onnx")
    return enter(tmp_path / "work", monkeypatch)


def test_several_image_sizes_are_measured_and_every_run_is_written(folder: Path) -> None:
    outcome = run("profile", "model.onnx", "--imgsz", "8", "--imgsz", "6x10", "--csv", "runs.csv", *QUICK, "--json")
    report = outcome.expect(0).json
    assert [row["image_size"] for row in report["rows"]] == [[8, 8], [6, 10]]
    assert [each["points"] for each in report["scalings"]] == [2]
    with (folder / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {(line["height"], line["width"]) for line in lines} == {("8", "8"), ("6", "10")}
    assert len(lines) == sum(row["latency"]["runs"] for row in report["rows"])


def test_an_error_about_the_csv_file_names_its_option(folder: Path) -> None:
    (folder / "file").write_text("")
    run("profile", "model.onnx", "--imgsz", "8", "--csv", "file/runs.csv", *QUICK).explain(4, "--csv")
