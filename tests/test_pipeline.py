"""What the pipeline decides on its own: verdicts, engines, names, and that a failed check still ships its evidence."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from linglos_deploy import pipeline
from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.bundle import open_bundle
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.errors import CalibrationError
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.pipeline import ExportRequest, export_bundle
from tests.commandline import enter, run
from tests.conftest import Shipped

pytestmark = [pytest.mark.xdist_group("shipped"), pytest.mark.usefixtures("quick_export")]


@pytest.fixture
def here(shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    shutil.copyfile(shipped.checkpoint, tmp_path / "tiny.safetensors")
    shutil.copytree(shipped.images, tmp_path / "images")
    return tmp_path


QUICK = ("export", "--checkpoint", "tiny.safetensors", "--engine", "none", "--no-latency")


def test_a_lost_accuracy_exits_with_1_and_still_writes_a_bundle_that_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct: Iterator[int] = iter((9, 9, 7, 9, 9))  # PyTorch, float32, and a graph for each runtime
    monkeypatch.setattr(pipeline, "count_correct", lambda *_, **__: next(correct))
    options = ("--data", "images", "--eval", "images", "--int8", "--max-accuracy-drop", "5", "--json")
    report = run(*QUICK, *options).expect(1).json
    assert report["accuracy"]["passed"] is False
    assert report["accuracy"]["worst_drop"] == pytest.approx(100 * 2 / 9)
    assert open_bundle(here / "build/tiny").manifest.passed is False


def test_the_last_screen_shows_accuracy_parity_and_the_place_of_the_bundle(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "count_correct", lambda *_, **__: 9)
    shown = run(*QUICK, "--data", "images", "--eval", "images", "--max-accuracy-drop", "100", "--int8").expect(0).stdout
    for text in ("PyTorch", "model.onnx", "model.int8.onnx", "Top-1", "Cosine", "PASS", "bundle in build/tiny"):
        assert text in shown


def test_without_labels_there_is_no_accuracy(here: Path) -> None:
    assert run(*QUICK, "--data", "images", "--json").expect(0).json["accuracy"] is None


def test_the_library_makes_the_same_bundle_without_a_terminal(here: Path) -> None:
    source = ModelSource(checkpoint=here / "tiny.safetensors")
    request = ExportRequest(source, here / "out", name="mine", engine="none", measure_latency=False)
    report = export_bundle(request)
    assert report.passed
    assert report.name == "mine"
    assert open_bundle(Path(report.bundle)).manifest.name == "mine"


def test_latency_is_measured_on_every_runtime_and_shipped_with_advice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "LATENCY_PROCESSES", 1)
    made = run("export", "--checkpoint", "tiny.safetensors", "--engine", "none", "--json").expect(0).json
    assert {row["outcome"] for row in made["profile"]["rows"]} == {"measured"}
    assert {row["threads"] for row in made["profile"]["rows"]} == {1}
    here_to_run = {"onnxruntime"} | ({"openvino"} if importlib.util.find_spec("openvino") else set())
    assert {row["backend"] for row in made["profile"]["rows"]} == {"torch"} | here_to_run
    assert "ship model.onnx with " in made["advice"]
    assert all(command.startswith("linglos-deploy ") for command in made["next_commands"])
    assert "reports/profile.json" in open_bundle(here / "build/tiny").manifest.files


def test_force_replaces_a_bundle(here: Path) -> None:
    run(*QUICK, "-q").expect(0)
    (here / "build/tiny/stale").write_text("old")
    run(*QUICK, "-q", "--force").expect(0)
    assert not (here / "build/tiny/stale").exists()
    assert sorted(path.name for path in (here / "build").iterdir()) == ["tiny"]


def test_an_output_without_images_is_refused_by_name_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "counting.py").write_text(
        "import torch\n"
        "from linglos_deploy.images.preprocessing import PreprocessSpec\n"
        "from linglos_deploy.models.factory import ModelDescription\n"
        "class Counting(torch.nn.Module):\n"
        "    def forward(self, image):\n"
        "        return {'logits': image.mean((2, 3)), 'maps': {'n': image.shape[2]}}\n"
        "def factory():\n"
        "    return ModelDescription(Counting(), preprocess=PreprocessSpec((32, 32)))\n"
    )
    monkeypatch.syspath_prepend(str(here))
    options = ("--model", "counting:factory", "--engine", "none", "--no-latency")
    run("export", *options).explain(2, "'maps.n' of shape []", "images along the first axis of every output")
    assert not (here / "build").exists()


def test_sixteen_bits_look_at_ranges_on_made_up_images_and_keep_no_table_of_them(here: Path) -> None:
    run(*QUICK, "--half", "--name", "made_up").expect(0)
    run(*QUICK, "--half", "--name", "real", "--data", "images").expect(0)
    tables = sorted(path.parent.name for path in Path("build").rglob("calibration.table"))
    assert tables == ["real"]


def test_sixteen_bits_do_without_ranges_that_cannot_be_seen_and_say_so(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = pipeline.collect

    def blind(work: pipeline.Work, reference: OnnxArtifact, tensors: tuple[str, ...]) -> CalibrationTable:
        if len(tensors) > len(quantizable_activations(load_onnx(reference.path))):
            raise CalibrationError("The images in 'x' cannot be told apart.")
        return collect(work, reference, tensors)

    monkeypatch.setattr(pipeline, "collect", blind)
    for options in (("--half",), ("--half", "--int8")):
        said = run(*QUICK, *options, "--force").expect(0).stderr
        assert "What could outgrow fp16 was not looked at: The images in 'x' cannot be told apart." in said
