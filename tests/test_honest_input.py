"""What an option asks is done or refused; what is assumed is said; a path that is wrong is named."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import linglos_deploy.commands
from linglos_deploy.quantization.patterns import near_names
from linglos_deploy.tasks.classes import guessing, tail
from tests.commandline import enter, nothing_changes, run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")

GRAPH, INT8, TABLE = "tiny/model.onnx", "tiny/model.int8.onnx", "tiny/calibration.table"
COMMANDS = Path(linglos_deploy.commands.__file__).parent
EXPORT = ("export", "--checkpoint", "tiny.safetensors", "--engine", "none", "--no-latency", "-o", "out")


@pytest.fixture
def here(shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a bundle, its checkpoint and labelled images."""
    enter(tmp_path, monkeypatch)
    shutil.copytree(shipped.bundle, tmp_path / "tiny")
    shutil.copyfile(shipped.checkpoint, tmp_path / "tiny.safetensors")
    shutil.copytree(shipped.images, tmp_path / "images")
    return tmp_path


def test_parity_obeys_limits_of_the_users_own(here: Path) -> None:
    assert "limit 250" in run("parity", "tiny", "--limit", "sqnr_db=250").expect(1).stdout
    run("parity", "tiny", "--limit", "sqnr=25").explain(2, "'sqnr'", "did you mean 'sqnr_db'?")
    run("parity", "tiny", "--limit", "sqnr_db=abc").explain(2, "'sqnr_db=abc' is not a limit", "--limit sqnr_db=25")
    (here / "parity.toml").write_text("[int8]\nsqnr_db = 250\n")
    assert "limit 250" in run("parity", "tiny", "--criteria", "parity.toml").expect(1).stdout
    run("parity", "tiny", "--criteria", "parity.toml", "--limit", "sqnr_db=off").expect(0)
    (here / "parity.toml").write_text("sqnr = 25\n")
    run("parity", "tiny", "--criteria", "parity.toml").explain(2, "'sqnr'", "fp16")


def test_every_command_reads_every_option_that_it_takes() -> None:
    elsewhere = {"config", "save_config", "quiet"}  # callbacks do these; some commands show no progress
    for command in COMMANDS.glob("[!_]*.py"):
        for function in ast.parse(command.read_text(encoding="utf-8")).body:
            if isinstance(function, ast.FunctionDef):
                read = {node.id for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)}
                given = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
                assert given - elsewhere <= read, f"{command.name}: {function.name} drops {given - elsewhere - read}"


# --- options that nothing would use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        ((*EXPORT, "--max-accuracy-drop", "1"), "--eval"),
        ((*EXPORT, "--task", "features", "--eval", "images", "--max-accuracy-drop", "1"), "--task features"),
        ((*EXPORT, "--nodes-to-exclude", "head"), "--int8"),
        ((*EXPORT, "--half", "--method", "entropy"), "--int8"),
        ((*EXPORT, "--weight-bits", "7"), "--int8"),
        ((*EXPORT, "--profile", "1,8,32"), "--engine none"),
        ((*EXPORT, "--target", "jetson-orin"), "--engine none"),
        ((*EXPORT, "--int8", "--percentile", "99"), "--method percentile"),
        (("quantize", GRAPH, "--table", TABLE, "--percentile", "99", "-o", "x.onnx"), "--method percentile"),
        (("quantize", GRAPH, "--plan", "tiny/plan.json", "--method", "entropy", "-o", "x.onnx"), "--plan"),
        (("quantize", GRAPH, "--plan", "tiny/plan.json", "--nodes-to-exclude", ".*", "-o", "x.onnx"), "--plan"),
        (("quantize", GRAPH, "--plan", "tiny/plan.json", "--dry-run", "-o", "x.onnx"), "--dry-run"),
        (("calibrate", "merge", TABLE, TABLE, "--data", "images", "-o", "x.table"), "--data"),
        (("calibrate", "merge", TABLE, TABLE, "--mean", "0.5", "--std", "0.5", "-o", "x.table"), "--mean"),
        (("calibrate", "merge", TABLE, TABLE, "--shape", "1x3x32x32", "-o", "x.table"), "--shape"),
        (("quantize", GRAPH, "--table", TABLE, "--data", "images", "-o", "x.onnx"), "--data"),
        (("quantize", GRAPH, "--table", TABLE, "--shape", "1x3x32x32", "-o", "x.onnx"), "--shape"),
        (("quantize", GRAPH, "--table", TABLE, "-o", GRAPH, "--force"), "the float32 graph"),
        (("quantize", GRAPH, "--table", TABLE, "--save-plan", TABLE, "-o", "x.onnx", "--force"), "the table"),
        (("quantize", GRAPH, "--table", TABLE, "--save-plan", "x.onnx", "-o", "x.onnx"), "--save-plan"),
        (("calibrate", "merge", TABLE, TABLE, "--resume", "--per-channel", "-o", "x.table"), "--per-channel"),
        (("calibrate", GRAPH, "--strict", "-o", "x.table"), "--data"),
        (("calibrate", GRAPH, "--data", "images", "--shape", "1x3x32x32", "-o", "x.table"), "--shape"),
        (("calibrate", GRAPH, "--shape", "1x3x32x32", "-o", "x.table"), "--imgsz"),
        (("quantize", GRAPH, "--plan", "tiny/plan.json", "--method", "mse", "-o", "x.onnx"), "--method"),
        (("quantize", GRAPH, "--plan", "tiny/plan.json", "--weight-bits", "8", "-o", "x.onnx"), "--weight-bits"),
        (("parity", "tiny", "--images", "3"), "--images 3 without --data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_option_that_nothing_would_use_is_refused(here: Path, arguments: tuple[str, ...], mentions: str) -> None:
    with nothing_changes(here):
        run(*arguments).explain(2, mentions)


def test_a_percentile_is_in_percent(here: Path) -> None:
    call = ("quantize", GRAPH, "--table", TABLE, "--method", "percentile", "-o", "x.onnx")
    run(*call, "--percentile", "0.999").explain(2, "in percent", "--percentile 99.9")
    run(*call, "--percentile", "100.5").explain(2, "in percent")
    run(*call, "--percentile", "99.9").expect(0)


@pytest.mark.usefixtures("quick_export")
def test_export_clips_at_the_percentile_it_was_given(here: Path) -> None:
    call = (*EXPORT, "--data", "images", "--int8", "--method", "percentile", "--weight-bits", "7")
    assert run(*call, "--percentile", "80").exit_code in (0, 1)  # so much is clipped that parity may say no
    plan = json.loads((here / "out/tiny/plan.json").read_text())
    assert plan["scheme"]["percentile"] == 80
    assert plan["scheme"]["weight_bits"] == 7


def test_a_pattern_that_names_no_layer_is_refused_with_names_that_come_near(here: Path) -> None:
    with nothing_changes(here):
        call = ("quantize", GRAPH, "--table", TABLE, "-o", "x.onnx", "--nodes-to-exclude")
        run(*call, "hed").explain(2, "'hed'", "did you mean 'head/Gemm'")
        run(*call, "zzz.*").explain(2, "'zzz.*'")
    run(*EXPORT, "--int8", "--data", "images", "--nodes-to-exclude", "hed").explain(2, "did you mean 'head/Gemm'")


def test_near_names_are_found_in_parts_of_long_names() -> None:
    names = ["/features/conv1/Conv", "/features/conv2/Conv", "/classifier/Gemm"]
    assert near_names("conv1", names) == ["/features/conv1/Conv"]
    assert near_names("classifer", names) == ["/classifier/Gemm"]
    assert near_names(r"features/.*", names) == names[:2]


def test_an_unknown_table_of_a_configuration_is_refused_with_a_name_that_comes_near(here: Path) -> None:
    (here / "run.toml").write_text('[calibrat]\ndata = "images"\n')
    run("calibrate", GRAPH, "--config", "run.toml").explain(2, "'calibrat'", "did you mean '[calibrate]'?")
    (here / "run.toml").write_text('data = "images"\n[calibrate]\nseed = 1\n')
    run("calibrate", GRAPH, "--config", "run.toml").explain(2, "'data'", "outside of every table")
    (here / "pyproject.toml").write_text("[tool.linglos-deploy.exprot]\nseed = 1\n")
    run("inspect", GRAPH).explain(2, "'exprot'", "did you mean '[export]'?")


# --- inputs of another kind -------------------------------------------------------------------------------------------


def test_calibrate_and_quantize_refuse_a_quantized_graph_and_name_the_float_one(here: Path) -> None:
    with nothing_changes(here):
        run("calibrate", INT8).explain(2, "quantized already", f"linglos-deploy calibrate {GRAPH}")
        run("quantize", INT8, "--table", TABLE).explain(2, "quantized already", f"linglos-deploy quantize {GRAPH}")


def test_a_bundle_stands_for_its_float_graph_where_ranges_are_taken(here: Path) -> None:
    of_bundle = run("calibrate", "tiny", "--data", "images", "-o", "a.table", "--json").expect(0).json
    of_graph = run("calibrate", GRAPH, "--data", "images", "-o", "b.table", "--json").expect(0).json
    assert of_bundle == of_graph
    run("quantize", "tiny", "--table", "a.table", "-o", "x.onnx").expect(0)


def test_a_bundle_stands_for_its_deployed_graph_where_an_engine_is_built(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    run("build", "tiny").explain(3, "No engine")
    run("build", TABLE).explain(2, "build takes a graph", "a table")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("export", "--checkpoint", "no.safetensors"), "--checkpoint"),
        (("export", "--checkpoint", "tiny.safetensors", "--data", "no"), "--data"),
        (("export", "--checkpoint", "tiny.safetensors", "--eval", "no"), "--eval"),
        (("export", "--checkpoint", "tiny.safetensors", "--labels", "no"), "--labels"),
        (("calibrate", "no.onnx"), "'no.onnx'"),
        (("calibrate", GRAPH, "--data", "no"), "--data"),
        (("calibrate", "merge", TABLE, "no.table"), "'no.table'"),
        (("quantize", "no.onnx", "--table", TABLE), "'no.onnx'"),
        (("quantize", GRAPH, "--table", "no"), "--table"),
        (("quantize", GRAPH, "--plan", "no"), "--plan"),
        (("build", "no.onnx"), "'no.onnx'"),
        (("parity", "no"), "'no'"),
        (("parity", GRAPH, "--reference", "no"), "--reference"),
        (("profile", GRAPH, "no.onnx"), "'no.onnx'"),
        (("inspect", "no"), "'no'"),
        (("doctor", "no"), "'no'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_missing_path_is_wrong_usage_in_every_command(here: Path, arguments: tuple[str, ...], option: str) -> None:
    with nothing_changes(here):
        run(*arguments).explain(2, "There is nothing at 'no", option)


def test_a_mistyped_path_gets_a_suggestion(here: Path) -> None:
    run("inspect", "tiny/model.int.onnx").explain(2, "did you mean 'tiny/model.int8.onnx'?")


# --- what is assumed, and what counts can tell ------------------------------------------------------------------------


@pytest.fixture
def bare(here: Path) -> str:
    """Write the weights without a word about images or labels, as torch.save does."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(here / "tiny.safetensors"), here / "bare.pt")
    return "bare.pt"


QUICK = ("--engine", "none", "--no-latency", "--imgsz", "32", "-o", "out", "--json")


@pytest.mark.usefixtures("quick_export")
def test_preprocessing_that_nobody_said_is_called_assumed_where_the_bundle_is_read(here: Path, bare: str) -> None:
    made = run("export", "--checkpoint", bare, *QUICK, "-q").expect(0, "Preprocessing is assumed: ImageNet's", "--mean")
    (said,) = [warning for warning in made.json["warnings"] if "assumed" in warning]
    assert "mean 0.485, 0.456, 0.406" in said
    assert "--imgsz" not in said  # it was given
    manifest = json.loads((Path(made.json["bundle"]) / "manifest.json").read_text())
    assert said in manifest["warnings"]
    assert "assumed" in (Path(made.json["bundle"]) / "reports/report.html").read_text()


@pytest.mark.usefixtures("quick_export")
def test_preprocessing_that_is_said_is_used_and_not_called_assumed(here: Path, bare: str) -> None:
    said = ("--mean", "0.5", "--std", "0.25,0.25,0.25", "--crop-pct", "1", "--interpolation", "bilinear")
    made = run("export", "--checkpoint", bare, *QUICK, *said)
    assert "assumed" not in made.expect(0).stderr
    spec = run("inspect", made.json["bundle"], "--json").json["content"]["preprocessing"]
    assert (spec["mean"], spec["std"]) == ([0.5] * 3, [0.25] * 3)
    assert (spec["crop_pct"], spec["interpolation"]) == (1.0, "bilinear")
    assert "assumed" not in run(*EXPORT).expect(0).stderr  # a checkpoint that says everything itself


def images_of(here: Path, *names: str) -> str:
    """Sort the images of as many classes into folders of these names."""
    for source, name in zip(sorted((here / "images").iterdir()), names, strict=False):
        shutil.copytree(source, here / "eval" / name)
    for name in names[3:]:
        shutil.copytree(here / "images/ant", here / "eval" / name)
    return "eval"


@pytest.mark.parametrize("names", [("x", "y"), ("v", "w", "x", "y")])
def test_without_names_there_must_be_as_many_folders_as_outputs(here: Path, bare: str, names: tuple[str, ...]) -> None:
    call = ("export", "--checkpoint", bare, *QUICK[:-1], "--eval", images_of(here, *names))
    run(*call).explain(2, f"{len(names)} folders", "3, one per output", "--labels")


@pytest.mark.usefixtures("quick_export")
def test_the_order_in_which_folders_are_taken_for_outputs_is_said(here: Path, bare: str) -> None:
    made = run("export", "--checkpoint", bare, *QUICK, "--eval", images_of(here, "x", "y", "z"))
    assert any("sorted folders: x, y, z" in warning for warning in made.json["warnings"])


@pytest.mark.usefixtures("quick_export")
def test_classes_without_images_are_named(here: Path) -> None:
    made = run(*EXPORT, "--eval", images_of(here, "ant", "bee"), "--json")
    assert any("1 of 3 classes have no labelled images: cat" in warning for warning in made.json["warnings"])


@pytest.mark.usefixtures("quick_export")
def test_a_reference_that_may_be_guessing_is_a_finding_and_proves_no_accuracy(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linglos_deploy.pipeline.count_correct", lambda *_, **__: 4)
    call = (*EXPORT, "--eval", "images", "--json", "--force")
    made = run(*call, "--max-accuracy-drop", "50").expect(1, "4 of 9 images", "guessing among 3 classes")
    assert made.json["accuracy"]["passed"] is False
    assert made.json["accuracy"]["finding"] in made.json["warnings"]
    run(*call).expect(0, "guessing among 3 classes")  # said, where no verdict was asked for
    monkeypatch.setattr("linglos_deploy.pipeline.count_correct", lambda *_, **__: 9)
    assert run(*call, "--max-accuracy-drop", "50").expect(0).json["accuracy"]["finding"] is None


@given(st.integers(1, 60), st.integers(2, 40), st.data())
def test_the_tail_of_guessing_is_the_binomial_distributions(count: int, classes: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(0, count))
    exact = sum(
        Fraction(math.comb(count, hits) * (classes - 1) ** (count - hits), classes**count)
        for hits in range(least, count + 1)
    )
    assert tail(least, count, 1 / classes) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


def test_more_images_tell_a_small_lead_from_guessing() -> None:
    assert guessing(12, 100, 10) is not None
    assert guessing(1200, 10_000, 10) is None


@pytest.mark.parametrize(
    ("path", "kind", "fact"),
    [
        ("tiny/golden/golden.safetensors", "file of tensors", "golden tensors"),
        ("tiny.safetensors", "file of tensors", "a checkpoint"),
        ("tiny/manifest.json", "manifest", "Bundle tiny"),
        ("tiny/plan.json", "plan", "layers become INT8"),
        ("tiny/reports/export.json", "report", "Export of tiny"),
        ("tiny/reports/parity.model.int8.json", "report", "model.int8.onnx"),
    ],
)
def test_every_file_of_a_bundle_says_what_it_is_in_the_terminal_in_json_and_in_html(
    here: Path, path: str, kind: str, fact: str
) -> None:
    assert fact in run("inspect", path, "--html", "it.html").expect(0).stdout
    assert fact in (here / "it.html").read_text()
    assert run("inspect", path, "--json").expect(0).json["kind"] == kind


@pytest.mark.parametrize("path", [GRAPH, INT8, "tiny"])
def test_a_page_can_be_made_of_anything_that_can_be_inspected(here: Path, path: str) -> None:
    run("inspect", path, "--html", "it.html").expect(0)
    assert "Inputs and outputs" in (here / "it.html").read_text()


def test_a_table_is_drawn_with_its_histograms(here: Path) -> None:
    run("inspect", TABLE, "--html", "it.html").expect(0)
    assert "<svg" in (here / "it.html").read_text()


def test_a_damaged_file_of_tensors_is_explained(here: Path) -> None:
    (here / "cut.safetensors").write_bytes((here / "tiny.safetensors").read_bytes()[:100])
    run("inspect", "cut.safetensors").explain(4, "cut.safetensors")
    (here / "odd.json").write_text("[1, 2]")
    run("inspect", "odd.json").explain(2, "odd.json")


def test_calibrate_and_quantize_show_what_matters_and_what_comes_next(here: Path) -> None:
    call = ("quantize", GRAPH, "--table", TABLE, "-o", "x.onnx", "--force", "-q")
    short, whole = run(*call).expect(0).stdout, run(*call, "--all").expect(0).stdout
    assert "--all shows them" in short
    assert "--all" not in whole
    assert "Next   linglos-deploy parity x.onnx" in short
    seen = run("calibrate", GRAPH, "--data", "images", "-o", "x.table", "-q").expect(0).stdout
    assert "Table  x.table" in seen
    assert "Next   linglos-deploy quantize" in seen


# --- places to write to -----------------------------------------------------------------------------------------------


def test_tables_and_graphs_are_replaced_with_force_only(here: Path) -> None:
    for name in ("seen.table", "x.onnx", "x.plan.json", "p.json"):
        (here / name).write_text("mine")
    quantize = ("quantize", GRAPH, "--table", TABLE)
    with nothing_changes(here):
        run("calibrate", GRAPH, "--data", "images", "-o", "seen.table").explain(2, "exists already", "--force")
        run("calibrate", "merge", TABLE, "-o", "seen.table").explain(2, "exists already", "--force")
        run(*quantize, "-o", "x.onnx").explain(2, "'x.onnx' exists", "--force")
        run(*quantize, "-o", "new.onnx", "--save-plan", "p.json").explain(2, "'p.json' exists", "--force")
        run(*quantize, "-o", "new.onnx", "--save-plan", "p.json", "--dry-run").explain(2, "'p.json' exists", "--force")
    run("calibrate", GRAPH, "--data", "images", "-o", "seen.table", "--force").expect(0)
    run("calibrate", "merge", TABLE, "-o", "seen.table", "--force").expect(0)
    run(*quantize, "-o", "x.onnx", "--force").expect(0)
    assert all((here / name).read_bytes() != b"mine" for name in ("seen.table", "x.onnx", "x.plan.json"))


def test_a_dry_run_leaves_the_plan_that_the_real_run_then_makes_again(here: Path) -> None:
    call = ("quantize", GRAPH, "--table", TABLE, "-o", "y.onnx")
    run(*call, "--dry-run").expect(0)
    with nothing_changes(here):
        run(*call, "--weight-bits", "7").explain(2, "'y.plan.json' exists", "--force")
    run(*call).expect(0)
    assert (here / "y.onnx").is_file()


def test_quantize_does_not_replace_what_a_manifest_vouches_for(here: Path) -> None:
    with nothing_changes(here / "tiny"):
        run("quantize", GRAPH, "--table", TABLE, "-o", INT8, "--force").explain(2, "'tiny' is a bundle", "--output")
        run("quantize", GRAPH, "--table", TABLE, "-o", "a.onnx", "--save-plan", "tiny/plan.json", "--force").expect(2)
    run("quantize", GRAPH, "--table", TABLE, "-o", "tiny/other.onnx").expect(0)


@pytest.mark.parametrize("name", ["a/b", "..", ""])
def test_a_bundles_name_is_one_word_of_a_path(here: Path, name: str) -> None:
    run(*EXPORT, "--name", name).expect(2, "name is one word")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("parity", "tiny", "--html", "images"), "--html"),
        (("parity", "tiny", "--junit", "/"), "--junit"),
        (("profile", GRAPH, "--html", "images"), "--html"),
        (("calibrate", GRAPH, "--html", "images"), "--html"),
        (("calibrate", GRAPH, "-o", "images"), "--output"),
        (("inspect", TABLE, "--html", "images"), "--html"),
        (("quantize", GRAPH, "--table", TABLE, "--save-plan", "images"), "--save-plan"),
        (("quantize", GRAPH, "--table", TABLE, "-o", "images"), "--output"),
        (("inspect", "tiny", "--save-config", "images"), "--save-config"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_folder_where_a_file_is_to_be_written_names_the_option(
    here: Path, arguments: tuple[str, ...], option: str
) -> None:
    with nothing_changes(here):
        run(*arguments).explain(2, f"{option} names a folder", f"{option} ")


def test_a_place_that_cannot_be_written_names_the_option_that_gave_it(here: Path) -> None:
    (here / "file").write_text("mine")
    for option in ("--html", "--junit"):
        failed = run("parity", "tiny", option, "file/report").expect(4, "cannot be written", f"place with {option}")
        assert "--output" not in failed.stderr
    failed = run("inspect", "tiny", "--save-config", "file/options.toml").expect(4, "place with --save-config")
    assert "--output" not in failed.stderr


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_profile_that_measured_nothing_is_no_success(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    unknown = helper.make_graph([helper.make_node("Nonsense", ["x"], ["y"], domain="nowhere")], "unknown", [x], [y])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("nowhere", 1)]
    onnx.save(helper.make_model(unknown, opset_imports=opsets), here / "unknown.onnx")
    quick = ("--processes", "1", "--rounds", "1", "--seconds", "0", "--json")
    done = run("profile", "unknown.onnx", *quick).expect(1)
    assert [row["outcome"] for row in done.json["rows"]] == ["failed"]
    assert done.json["passed"] is False
    lacking = run("profile", GRAPH, "--device", "cuda:9", *quick).expect(3)
    assert [row["outcome"] for row in lacking.json["rows"]] == ["not-run"]
    assert lacking.json["passed"] is False


def test_sizes_that_a_graph_does_not_take_and_devices_that_are_none_are_wrong_usage(here: Path) -> None:
    quick = ("--processes", "1", "--rounds", "1", "--seconds", "0", "--json")
    wrong = run("profile", INT8, "--imgsz", "48", *quick).expect(2).json["error"]
    assert "axis 2" in wrong["message"]
    device = run("profile", GRAPH, "--device", "gpu", *quick).expect(2).json["error"]
    assert (device["found"], device["next_step"]) == ("gpu", "--device cuda:0")


def test_a_missed_budget_says_which_row_and_by_how_much(here: Path) -> None:
    call = ("profile", GRAPH, INT8, "--processes", "1", "--rounds", "1", "--seconds", "0", "--max-p50-ms", "0.001")
    said = " ".join(run(*call, "--html", "latency.html").expect(1).stdout.split())
    for name in ("model.onnx", "model.int8.onnx"):
        assert re.search(
            rf"{re.escape(name)} · onnxruntime, batch 1, .*1 thread: .* ms, limit .* ms, .* ms too slow", said
        )
    assert "too slow" in (here / "latency.html").read_text()


def test_a_reader_that_has_gone_is_no_failure(here: Path) -> None:
    code = "from linglos_deploy import cli; cli.main()"
    for options in ("", "--json"):
        line = (
            f'"{sys.executable}" -c "{code}" inspect tiny/plan.json {options} | head -1; echo "${{PIPESTATUS[0]}}" >&2'
        )
        done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, text=True)
        assert done.stderr.strip() == "0", done.stderr
        assert done.stdout
