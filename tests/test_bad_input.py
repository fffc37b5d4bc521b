"""Input that cannot be used: the documented exit code, what was found, expected and to do next, and nothing written."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commandline import Outcome, enter, nothing_changes, run, snapshot, write_images
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")

QUICK = ("--engine", "none", "--no-latency")


@pytest.fixture
def here(shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with an earlier bundle, a checkpoint and images in it."""
    enter(tmp_path, monkeypatch)
    shutil.copytree(shipped.bundle, tmp_path / "build" / "tiny")
    shutil.copyfile(shipped.checkpoint, tmp_path / "tiny.safetensors")
    shutil.copytree(shipped.images, tmp_path / "images")
    return tmp_path


def export(*arguments: object) -> Outcome:
    """Export over the earlier bundle."""
    return run("export", *arguments, *QUICK, "--name", "tiny", "--force")


# --- checkpoints ------------------------------------------------------------------------------------------------------


def missing(path: Path, good: bytes) -> None:
    """Leave nothing there."""


def no_folder(path: Path) -> None:
    """Leave nothing there."""


def exit_code_of(damage: object) -> int:
    """Return the exit code for a path where nothing is, or nothing that can be used."""
    return 2 if damage in (missing, no_folder) else 4


def empty(path: Path, good: bytes) -> None:
    path.write_bytes(b"")


def truncated(path: Path, good: bytes) -> None:
    path.write_bytes(good[: len(good) // 2])


@pytest.mark.parametrize("damage", [missing, empty, truncated])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_damaged_checkpoint_stops_the_export(here: Path, damage: Callable[[Path, bytes], None], suffix: str) -> None:
    import torch

    if suffix == ".pt":
        torch.save({"head.bias": torch.zeros(3)}, here / "good.pt")
        good = (here / "good.pt").read_bytes()
    else:
        good = (here / "tiny.safetensors").read_bytes()
    damage(here / f"bad{suffix}", good)
    with nothing_changes(here):
        export("--checkpoint", f"bad{suffix}").explain(exit_code_of(damage), f"bad{suffix}")


def test_a_checkpoint_of_another_variant_names_what_is_missing_and_what_does_not_fit(here: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(here / "tiny.safetensors"), here / "best.pt")
    with nothing_changes(here):
        export("--checkpoint", "best.pt", "--variant", "t").explain(4, "missing", "stem")


class Canary:
    """Would create a file when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch canary",)


def test_the_code_in_a_pickle_never_runs(here: Path) -> None:
    (here / "evil.pt").write_bytes(pickle.dumps({"model": Canary()}))
    with nothing_changes(here):
        export("--checkpoint", "evil.pt", "--variant", "t").explain(4, "its code was not run")
    assert not (here / "canary").exists()


# --- images -----------------------------------------------------------------------------------------------------------


def empty_folder(path: Path) -> None:
    path.mkdir()


def folder_of_other_things(path: Path) -> None:
    path.mkdir()
    (path / "readme.txt").write_text("no image")
    (path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)


def text_file(path: Path) -> None:
    path.write_text("no images")


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("make", [no_folder, empty_folder, folder_of_other_things, text_file])
def test_a_folder_without_usable_images_stops_every_stage_that_reads_images(
    here: Path, make: Callable[[Path], None]
) -> None:
    make(here / "calib")
    graph = here / "build/tiny/model.onnx"
    with nothing_changes(here):
        export("--checkpoint", "tiny.safetensors", "--data", "calib", "--int8").explain(exit_code_of(make), "calib")
        run("calibrate", graph, "--data", "calib").explain(exit_code_of(make), "calib")
        run("parity", "build/tiny", "--data", "calib").explain(exit_code_of(make), "calib")


UNUSABLE = {"notes.txt", "cut.png", "cut.jpg", "fake.jpg"}


def write_mixed_images(folder: Path) -> None:
    """Write images of every mode, and files that only look like images."""
    write_images(folder, 2, side=40)
    rng = np.random.default_rng(3)
    grey = rng.integers(0, 256, (30, 50), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 256, (48, 48, 4), dtype=np.uint8)).save(folder / "rgba.png")
    Image.fromarray(rng.integers(0, 65536, (33, 35), dtype=np.uint16)).save(folder / "deep.png")
    frames = [Image.fromarray(grey).convert("P") for _ in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "notes.txt").write_text("no image")
    (folder / "fake.jpg").write_bytes(b"no image either")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:1500])
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])


@pytest.mark.usefixtures("quick_export")
def test_images_of_every_mode_are_used_and_the_rest_is_listed(here: Path) -> None:
    write_mixed_images(here / "calib")
    made = run("export", "--checkpoint", "tiny.safetensors", "--data", "calib", "--half", *QUICK, "--json", "-o", "new")
    made.expect(0, "4 files are left out", "notes.txt")
    report = made.json
    assert {name for name, _ in report["skipped"]} == UNUSABLE
    assert all(reason for _, reason in report["skipped"])
    outputs = [output for parity in report["parity"] for output in parity["outputs"] if output["images"] == "data"]
    assert {output["metrics"]["samples"] for output in outputs} == {7}
    table = run("calibrate", "new/tiny/model.onnx", "--data", "calib", "--json").expect(0, "4 files are left out").json
    assert table["image_count"] == 7


@pytest.mark.usefixtures("quick_export")
def test_accuracy_counts_the_right_labels_when_some_images_are_unusable(here: Path) -> None:
    """A skipped image must not shift the labels of those behind it."""
    options = ("export", "--checkpoint", "tiny.safetensors", "--eval", "images", *QUICK, "--json")
    whole = run(*options, "-o", "whole").expect(0).json["accuracy"]["rows"]
    (here / "images/ant/0000.png").write_bytes((here / "images/ant/000.png").read_bytes()[:1500])  # sorted early
    (here / "images/bee/cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    mixed = run(*options, "-o", "mixed").expect(0, "cut.jpg").json["accuracy"]["rows"]
    assert mixed == whole


def test_evaluation_needs_labels(here: Path) -> None:
    write_images(here / "flat", 2)
    with nothing_changes(here):
        export("--checkpoint", "tiny.safetensors", "--eval", "flat").explain(2, "have no labels")


def test_evaluation_with_an_unknown_class_names_it(here: Path) -> None:
    shutil.move(here / "images/cat", here / "images/cow")
    with nothing_changes(here):
        export("--checkpoint", "tiny.safetensors", "--eval", "images").explain(2, "cow", "ant, bee, cat")


NORMALIZED = np.zeros((3, 3, 32, 32), np.float32)


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize(
    ("array", "mentions"),
    [
        pytest.param(np.zeros((3, 32, 31, 3), np.uint8), "31", id="another size"),
        pytest.param(np.zeros((3, 32, 32), np.uint8), "32", id="another rank"),
        pytest.param(np.zeros((3, 3, 32, 32), np.int64), "int64", id="another dtype"),
        pytest.param(np.zeros((0, 3, 32, 32), np.float32), "0", id="no images"),
        pytest.param(np.where(np.arange(32) == 5, np.nan, NORMALIZED).astype(np.float32), "NaN", id="nan"),
        pytest.param(np.where(np.arange(32) == 5, np.inf, NORMALIZED).astype(np.float32), "inf", id="infinity"),
    ],
)
def test_an_array_that_is_no_model_input_stops_calibration(here: Path, array: np.ndarray, mentions: str) -> None:
    np.savez(here / "calib.npz", images=array)
    np.save(here / "calib.npy", array)
    with nothing_changes(here):
        for name in ("calib.npz", "calib.npy"):
            export("--checkpoint", "tiny.safetensors", "--data", name, "--int8").explain(4, name, mentions)
            run("calibrate", "build/tiny/model.onnx", "--data", name).explain(4, name, mentions)


# --- models and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "advice"), [("100", "--imgsz 128"), ("96x100", "--imgsz 96x128"), ("0", "--imgsz 224")]
)
def test_an_image_size_that_does_not_fit_names_one_that_does(here: Path, size: str, advice: str) -> None:
    with nothing_changes(here):
        export("--variant", "t", "--imgsz", size).explain(2, advice)


@pytest.mark.parametrize(
    ("variant", "advice"),
    [("x", "did you mean '--variant s'"), ("S", "did you mean '--variant s'"), ("tiny", "did you mean '--variant t'")],
)
def test_an_unknown_variant_gets_a_suggestion(here: Path, variant: str, advice: str) -> None:
    with nothing_changes(here):
        export("--variant", variant).explain(2, advice)
        run("parity", "build/tiny", "--variant", variant).explain(2, advice)


def test_no_model_at_all_is_explained(here: Path) -> None:
    with nothing_changes(here):
        export().explain(2, "No model was named")


def not_onnx(path: Path, good: bytes) -> None:
    path.write_bytes(b"this is no model" * 50)


@pytest.mark.parametrize("damage", [missing, empty, truncated, not_onnx])
@pytest.mark.parametrize(
    "command",
    [
        ("calibrate", "bad.onnx"),
        ("quantize", "bad.onnx", "--table", "build/tiny/calibration.table"),
        ("build", "bad.onnx", "--engine", "auto"),
        ("parity", "bad.onnx", "--reference", "build/tiny/model.onnx", "--data", "images"),
        ("parity", "build/tiny/model.onnx", "--reference", "bad.onnx", "--data", "images"),
        ("profile", "bad.onnx"),
        ("inspect", "bad.onnx"),
    ],
    ids=" ".join,
)
def test_a_damaged_graph_stops_every_command(
    here: Path, damage: Callable[[Path, bytes], None], command: tuple[str, ...]
) -> None:
    damage(here / "bad.onnx", (here / "build/tiny/model.onnx").read_bytes())
    with nothing_changes(here):
        run(*command).explain(exit_code_of(damage), "bad.onnx")


@pytest.mark.parametrize("damage", [missing, empty, truncated, not_onnx])
def test_a_damaged_table_or_plan_stops_quantize(here: Path, damage: Callable[[Path, bytes], None]) -> None:
    damage(here / "bad.table", (here / "build/tiny/calibration.table").read_bytes())
    damage(here / "bad.json", (here / "build/tiny/plan.json").read_bytes())
    graph = "build/tiny/model.onnx"
    with nothing_changes(here):
        run("quantize", graph, "--table", "bad.table", "-o", "out.onnx").explain(exit_code_of(damage), "bad.table")
        run("quantize", graph, "--plan", "bad.json", "-o", "out.onnx").explain(exit_code_of(damage), "bad.json")
        run("calibrate", "merge", "build/tiny/calibration.table", "bad.table").explain(
            exit_code_of(damage), "bad.table"
        )


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "manifest.json", "golden/golden.safetensors"])
def test_a_bundle_with_a_changed_byte_is_not_used(here: Path, name: str) -> None:
    file = here / "build/tiny" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with nothing_changes(here):
        for command in ("parity", "inspect", "profile", "doctor"):
            run(command, "build/tiny").explain(4, name)


# --- places to write to -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_export")
def test_an_output_folder_with_contents_is_left_alone_without_force(here: Path) -> None:
    with nothing_changes(here):
        refused = run("export", "--checkpoint", "tiny.safetensors", *QUICK, "--name", "tiny")
        refused.explain(2, "not empty", "--force")


@pytest.mark.usefixtures("quick_export")
def test_a_file_in_the_place_of_the_bundle_is_left_alone(here: Path) -> None:
    (here / "build/other").write_text("mine")
    with nothing_changes(here):
        export_as = ("export", "--checkpoint", "tiny.safetensors", *QUICK, "--force", "--name")
        run(*export_as, "other").explain(2, "in the way")
        run(*export_as, "new", "-o", "build/other").explain(4, "not writable")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount an empty file system in memory, or skip."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a file system in memory takes root and 'mount'; run the tests as root")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(
            f"this machine does not let us mount: {done.stderr.strip()}; run the tests in a privileged container"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def commands_that_write(place: str) -> dict[str, tuple[object, ...]]:
    """Return one call of every command that writes, with its output in ``place``."""
    graph, bundle = "build/tiny/model.onnx", "build/tiny"
    return {
        "export": ("export", "--checkpoint", "tiny.safetensors", "--int8", *QUICK, "-o", place),
        "calibrate": ("calibrate", graph, "-o", f"{place}/a.table"),
        "quantize": ("quantize", graph, "--table", f"{bundle}/calibration.table", "-o", f"{place}/int8.onnx"),
        "parity": ("parity", bundle, "--html", f"{place}/parity.html"),
        "junit": ("parity", bundle, "--junit", f"{place}/parity.xml"),
        "save-config": ("inspect", bundle, "--save-config", f"{place}/linglos.toml"),
    }


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("command", commands_that_write("").keys())
def test_a_full_disk_leaves_no_partial_file(here: Path, command: str) -> None:
    with mounted(here / "full", "size=16k") as full:
        (full / "filler").write_bytes(b"\0" * 16384)
        with nothing_changes(here):
            refused = run(*commands_that_write("full")[command])
            refused.expect(4, "error: ", "no room left", "full", "free some space")


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("command", commands_that_write("").keys())
def test_a_read_only_folder_is_said_to_be_read_only(here: Path, command: str) -> None:
    with mounted(here / "fixed", "ro"), nothing_changes(here):
        run(*commands_that_write("fixed")[command]).expect(4, "error: ", "fixed", "next:")


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("command", commands_that_write("").keys())
def test_a_disk_that_fills_up_while_writing_leaves_no_partial_file(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as on a full disk, on machines where nothing can be mounted."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (here / "new").mkdir()
    monkeypatch.setattr("linglos_deploy.files._sync", full)
    before = snapshot(here)
    run(*commands_that_write("new")[command]).expect(4, "error: ", "no room left", "free some space")
    assert snapshot(here) == before
