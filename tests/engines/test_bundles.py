"""Engines inside a bundle: made by export, told by doctor, run by profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commandline import run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")


@pytest.mark.usefixtures("quick_export")
def test_a_bundle_with_an_openvino_engine_is_examined_and_measured(shipped: Shipped, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="pip install 'linglos-deploy[openvino]'")
    flags = ("--engine", "openvino", "--no-latency", "-o", tmp_path, "--name", "tiny", "-q")
    run("export", "--checkpoint", shipped.checkpoint, *flags).expect(0)
    report = run("doctor", tmp_path / "tiny", "--json").expect(0).json
    (check,) = report["engines"]
    assert all(condition["passed"] for condition in check["conditions"])
    assert f"build {tmp_path / 'tiny' / 'model.onnx'} --engine openvino" in check["rebuild"]
    measured = (
        run("profile", check["engine"], "--processes", "1", "--rounds", "1", "--seconds", "0.01", "-q", "--json")
        .expect(0)
        .json
    )
    assert measured["rows"][0]["outcome"] == "measured"
    assert measured["rows"][0]["image_size"] == [32, 32]


def test_doctor_of_a_bundle_without_engines_says_what_would_run_and_what_could_be_built(shipped: Shipped) -> None:
    report = run("doctor", shipped.bundle, "--json").expect(0).json
    assert report["engines"] == []
    assert [Path(use["graph"]).name for use in report["graphs"]] == [
        "model.onnx",
        "model.int8.onnx",
        "model.int8.openvino.onnx",
        "model.int8.onnxruntime-x86.onnx",
    ]
    for use in report["graphs"]:
        runs = {offer["backend"]: offer for offer in use["runs"]}
        assert runs["onnxruntime"]["possible"]
        assert use["graph"] in runs["onnxruntime"]["command"]
        assert {offer["backend"] for offer in use["builds"]} >= {"tensorrt", "tensorrt-rtx", "openvino"}
    screen = run("doctor", shipped.bundle).expect(0).stdout
    assert "model.int8.onnx" in screen
    assert "be built" in screen
