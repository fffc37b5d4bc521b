"""Every command end to end on a tiny bundle: what it prints where, what it writes, and how it is configured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomllib
from PIL import Image

from linglos_deploy import cli
from linglos_deploy.bundle import open_bundle
from linglos_deploy.calibration.table import CalibrationTable
from tests.commandline import enter, run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")

GRAPH, INT8, TABLE = "tiny/model.onnx", "tiny/model.int8.onnx", "tiny/calibration.table"
COMMANDS = ("export", "calibrate", "quantize", "build", "parity", "profile", "inspect", "doctor")

QUICK_CALLS = {
    "export": (
        "export",
        "--checkpoint",
        "tiny.safetensors",
        "--int8",
        "--engine",
        "none",
        "--no-latency",
        "--data",
        "images",
    ),
    "calibrate": ("calibrate", GRAPH, "--data", "images"),
    "merge": ("calibrate", "merge", TABLE, "-o", "merged.table"),
    "quantize": ("quantize", GRAPH, "--table", TABLE, "-o", "out.onnx"),
    "dry run": ("quantize", GRAPH, "--table", TABLE, "-o", "out.onnx", "--dry-run"),
    "parity": ("parity", "tiny"),
    "inspect bundle": ("inspect", "tiny"),
    "inspect graph": ("inspect", INT8),
    "inspect table": ("inspect", TABLE),
    "inspect plan": ("inspect", "tiny/plan.json"),
    "doctor": ("doctor", "tiny"),
}


@pytest.fixture
def here(shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a bundle, its checkpoint and labelled images."""
    enter(tmp_path, monkeypatch)
    shutil.copytree(shipped.bundle, tmp_path / "tiny")
    shutil.copyfile(shipped.checkpoint, tmp_path / "tiny.safetensors")
    shutil.copytree(shipped.images, tmp_path / "images")
    return tmp_path


@pytest.mark.usefixtures("here", "quick_export")
@pytest.mark.parametrize("call", QUICK_CALLS)
def test_json_is_all_there_is_on_stdout(call: str) -> None:
    assert run(*QUICK_CALLS[call], "--json").expect(0).json


@pytest.mark.usefixtures("here", "quick_export")
@pytest.mark.parametrize("call", QUICK_CALLS)
def test_quiet_results_are_for_people_and_stderr_has_warnings_at_most(call: str) -> None:
    said = run(*QUICK_CALLS[call], "--quiet").expect(0)
    assert said.stdout.strip()
    assert all(line.startswith("warning: ") for line in said.stderr.splitlines())


def test_the_real_program_prints_json_alone_even_where_libraries_print(here: Path) -> None:
    """Native libraries write to the file descriptor, which only a process of its own shows."""
    program = Path(sys.executable).with_name("linglos-deploy")
    if not program.exists():
        pytest.skip("the console script is not installed; pip install -e .")
    done = subprocess.run([program, "parity", "tiny", "--json"], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(report["passed"] for report in json.loads(done.stdout)["reports"])


def test_profile_measures_a_graph_and_holds_it_to_a_budget(here: Path) -> None:
    measure = ("profile", GRAPH, "--processes", "1", "--rounds", "1", "--seconds", "0", "--json")
    made = run(*measure, "--html", "latency.html").expect(0)
    assert made.json["rows"][0]["outcome"] == "measured"
    assert "<html" in (here / "latency.html").read_text()
    assert run(*measure, "--max-p50-ms", "0.000001").expect(1).json["passed"] is False


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_names_options_that_exist(name: str) -> None:
    text = run(name, "--help").expect(0).stdout
    examples = [line.strip() for line in text.splitlines() if line.strip().startswith(f"linglos-deploy {name}")]
    assert examples
    for example in examples:
        assert all(word in text.split("Options:")[1] for word in example.split() if word.startswith("--")), example


def test_help_imports_no_framework() -> None:
    code = (
        "import sys; from linglos_deploy import cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'tensorrt', 'tensorrt_rtx', 'openvino', 'PIL', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Exit codes:" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_printed() -> None:
    assert run("--version").expect(0).stdout.startswith("linglos-deploy ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("exprot",),
        ("export", "--varaint", "s"),
        ("export", "--variant", "s", "--precision", "int4"),
        ("export", "--variant", "s", "--batch", "0"),
        ("calibrate",),
        ("quantize", "model.onnx"),
        ("quantize", "model.onnx", "--table", "a", "--plan", "b"),
        ("quantize", "model.onnx", "--table", "a", "--weight-bits", "4"),
        ("export", "--variant", "s", "--half", "--precision", "int8"),
        ("export", "--variant", "s", "--opset", "11"),
        ("export", "--variant", "s", "--profile", "8,1"),
        ("export", "--checkpoint", "tiny.safetensors", "--size-profile", "32,64,96"),
        ("export", "--checkpoint", "tiny.safetensors", "--dynamic", "--size-profile", "32,48,96"),
        ("export", "--checkpoint", "tiny.safetensors", "--dynamic", "--size-profile", "64,96,128"),
        ("export", "--variant", "s", "--dynamic", "--size-profile", "64,32,96"),
        ("export", "--variant", "s", "--dynamic", "--size-profile", "small"),
        ("export", "--variant", "s", "--workspace", "much"),
        ("export", "--variant", "s", "--sm", "ampere"),
        ("export", "--variant", "s", "--imgsz", "big"),
        ("profile", "tiny", "--batch", "none"),
        ("profile", "tiny", "--backend", "onnxruntim"),
        ("build", GRAPH, "--engine", "none"),
        ("parity", "tiny", "--reference", GRAPH),
        ("parity", "tiny", "--checkpoint", "tiny.safetensors"),
        ("parity", "tiny", "--precision", "fp16"),
        ("parity", GRAPH),
        ("parity", GRAPH, "--data", "images"),
        ("calibrate", GRAPH, TABLE),
        ("profile", TABLE),
        ("doctor", TABLE),
        ("inspect", "images"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_prints_no_result(here: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).expect(2).stdout == ""


def test_an_error_is_json_too_where_json_was_asked_for(here: Path) -> None:
    failed = run("inspect", "nowhere", "--json").expect(2, "There is nothing at 'nowhere'.")
    assert failed.json["error"]["exit_code"] == 2
    assert failed.json["error"]["next_step"]


def test_a_missing_backend_exits_with_3(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    run("build", GRAPH, "--engine", "tensorrt").explain(3, "pip install")
    run("build", GRAPH).explain(3, "No engine c")
    run(*QUICK_CALLS["export"][:4], "--engine", "tensorrt-rtx").explain(3, "pip install")


@pytest.mark.usefixtures("quick_export")
def test_a_saved_configuration_repeats_the_run(here: Path) -> None:
    first = (
        run(*QUICK_CALLS["export"], "--threads", "1", "-o", "a", "--save-config", "run.toml", "--json").expect(0).json
    )
    saved = tomllib.loads((here / "run.toml").read_text())["export"]
    assert saved["threads"] == 1
    assert not {"config", "save-config", "as-json", "quiet"} & saved.keys()
    again = run("export", "--config", "run.toml", "--output", "b", "--json").expect(0).json
    assert (again["precision"], again["parity"]) == (first["precision"], first["parity"])
    assert (here / "a/tiny/model.int8.onnx").read_bytes() == (here / "b/tiny/model.int8.onnx").read_bytes()


@pytest.mark.parametrize("call", ["calibrate", "quantize", "parity", "inspect graph", "doctor"])
def test_every_command_reads_back_what_it_saves(here: Path, call: str) -> None:
    command, *_ = QUICK_CALLS[call]
    run(*QUICK_CALLS[call], "--save-config", "run.toml", "-q").expect(0)
    assert tomllib.loads((here / "run.toml").read_text()).keys() == {command}
    again = ("--force",) if command in ("calibrate", "quantize") else ()
    run(*QUICK_CALLS[call], *again, "--config", "run.toml", "-q").expect(0)


def test_pyproject_configures_every_run_in_its_folder(here: Path) -> None:
    (here / "pyproject.toml").write_text('[tool.linglos-deploy.calibrate]\ndata = "images"\nimages = 2\n')
    assert run("calibrate", GRAPH, "--json").expect(0).json["image_count"] == 2
    assert run("calibrate", GRAPH, "--images", "5", "--force", "--json").expect(0).json["image_count"] == 5


def test_a_typo_in_a_configuration_gets_a_suggestion(here: Path) -> None:
    (here / "run.toml").write_text('[calibrate]\ndta = "images"\n')
    run("calibrate", GRAPH, "--config", "run.toml").explain(2, "'dta'", "did you mean 'data'?")
    run("calibrate", GRAPH, "--config", "nowhere.toml").explain(2, "nowhere.toml")


FACTORY = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )
"""


def test_a_module_in_this_directory_can_be_exported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(here))])
    (here / "mynet_of_this_test.py").write_text(FACTORY)
    options = ("--model", "mynet_of_this_test:build", "--imgsz", "32", "--engine", "none", "--no-latency")
    made = run("export", *options, "-o", "out", "--json").expect(0).json
    assert made["passed"] is True
    signature = open_bundle(Path(made["bundle"])).manifest.graphs[0].signature
    assert signature.inputs[0].shape == ("batch", 3, 32, 32)
    np.save(here / "pixels.npy", np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8))
    checked = run("parity", made["bundle"], "--model", options[1], "--data", "pixels.npy", "--json").expect(0).json
    assert [output["metrics"]["samples"] for output in checked["reports"][0]["outputs"]] == [4, 10, 7, 10]


def test_a_fixed_batch_passes_the_whole_pipeline(here: Path) -> None:
    options = ("--data", "images", "--int8", "--engine", "none", "--no-latency", "--batch", "2")
    made = run("export", "--checkpoint", "tiny.safetensors", *options, "-o", "out", "--json").expect(0).json
    assert made["passed"] is True


def test_embedded_preprocessing_takes_pixels_from_export_to_parity(here: Path) -> None:
    options = ("--data", "images", "--int8", "--engine", "none", "--no-latency", "--embed-preprocessing")
    made = run("export", "--checkpoint", "tiny.safetensors", *options, "-o", "out", "--json").expect(0).json
    manifest = open_bundle(here / "out/tiny").manifest
    assert {graph.input for graph in manifest.graphs} == {"pixels"}
    assert manifest.graphs[0].signature.inputs[0].shape == ("batch", 32, 32, 3)
    assert [report["passed"] for report in made["parity"]] == [True] * 4  # float32, and INT8 for three runtimes
    run("parity", "out/tiny").expect(0)
    run("parity", "out/tiny", "--checkpoint", "tiny.safetensors", "--data", "images").expect(0)
    table = run("calibrate", "out/tiny/model.onnx", "--data", "images", "--json").expect(0).json
    assert table["image_count"] == 9


def test_a_backbone_ships_its_four_feature_maps(here: Path) -> None:
    options = ("--task", "features", "--int8", "--engine", "none", "--no-latency", "--name", "maps")
    made = run("export", "--checkpoint", "tiny.safetensors", *options, "-o", "out", "--json")
    assert made.exit_code in (0, 1), made.stderr
    manifest = open_bundle(here / "out/maps").manifest
    assert manifest.graphs[0].signature.output_names == ("features_4", "features_8", "features_16", "features_32")
    # On golden and other images; float32 on extreme ones, too.
    assert [len(report["outputs"]) for report in made.json["parity"]] == [12, 8, 8, 8]
    assert made.json["parity"][0]["passed"] is True
    assert made.json["accuracy"] is None


def test_pixels_in_an_npz_calibrate_like_the_same_images_in_a_folder(here: Path) -> None:
    files = sorted((here / "images").rglob("*.png"))
    np.savez(here / "pixels.npz", images=np.stack([np.asarray(Image.open(file)) for file in files]))
    spec_crops = run("inspect", "tiny", "--json").json["content"]["preprocessing"]["crop_pct"]
    of_array = run("calibrate", GRAPH, "--data", "pixels.npz", "--json").expect(0).json
    assert of_array["image_count"] == len(files) == 9
    of_folder = run("calibrate", GRAPH, "--data", "images", "--force", "--json").expect(0).json
    if spec_crops == 1.0:
        assert of_array["tensors"] == of_folder["tensors"]
    else:  # a folder's images are resized and cropped first
        assert of_array["tensors"] != of_folder["tensors"]


def test_merged_tables_of_shards_equal_one_pass(here: Path) -> None:
    """One image a run: kernels may round otherwise where the same image lies in a larger batch."""
    for index, label in enumerate(("ant", "bee", "cat")):
        run("calibrate", GRAPH, "--batch", 1, "--data", f"images/{label}", "-o", f"{index}.table", "-q").expect(0)
    merged = run("calibrate", "merge", "2.table", "0.table", "1.table", "-o", "merged.table", "--json").expect(0).json
    whole = run("calibrate", GRAPH, "--batch", 1, "--data", "images", "-o", "whole.table", "--json").expect(0).json
    assert merged["image_count"] == whole["image_count"] == 9
    first, second = CalibrationTable.load(here / "merged.table"), CalibrationTable.load(here / "whole.table")
    assert dict(first.tensors) == dict(second.tensors)


def test_a_plan_can_be_made_read_and_carried_out_later(here: Path) -> None:
    exclude = ("--nodes-to-exclude", "head.*")
    dry = ("quantize", GRAPH, "--table", TABLE, *exclude, "--dry-run", "--save-plan", "my.json", "-o", "out.onnx")
    run(*dry).expect(0)
    assert not (here / "out.onnx").exists()
    run("quantize", GRAPH, "--plan", "my.json", "-o", "later.onnx").expect(0)
    run("quantize", GRAPH, "--table", TABLE, *exclude, "-o", "now.onnx").expect(0)
    assert (here / "later.onnx").read_bytes() == (here / "now.onnx").read_bytes()
    checked = run("parity", "now.onnx", "--reference", GRAPH, "--data", "images", "--precision", "int8", "--json")
    assert checked.exit_code in (0, 1), checked.stderr
    assert checked.json["reports"][0]["samples"] == 9


def test_reports_of_parity_are_written_for_people_and_for_ci(here: Path) -> None:
    run("parity", "tiny", "--html", "parity.html", "--junit", "parity.xml").expect(0)
    assert "model.int8.onnx" in (here / "parity.html").read_text()
    assert (here / "parity.xml").read_text().startswith("<?xml")


def test_help_without_a_command_is_help() -> None:
    assert "Usage:" in run().stdout + run().stderr


def test_an_unexpected_exception_is_called_a_bug_and_shown_when_asked(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by the test")

    monkeypatch.setattr("linglos_deploy.inspection.describe", fail)
    failed = run("inspect", "tiny")
    assert failed.exit_code == 4
    assert "bug in linglos-deploy" in failed.stderr
    assert "ZeroDivisionError: by the test" in failed.stderr
    monkeypatch.setenv("LINGLOS_DEBUG", "1")
    assert run("inspect", "tiny").exit_code == 1  # the exception itself, with its traceback


def test_main_runs_the_application(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["linglos-deploy", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("linglos-deploy ")
