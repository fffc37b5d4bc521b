"""Ctrl-C in any stage of any command: exit code 130, earlier output as it was, no partial file, no traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.console import Terminal
from linglos_deploy.progress import Advance
from tests.commandline import enter, nothing_changes, run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")

GRAPH = "build/tiny/model.onnx"
EXPORT = ("export", "--checkpoint", "tiny.safetensors", "--data", "images", "--eval", "images", "--int8")
BUNDLE = (*EXPORT, "--engine", "none", "--name", "tiny", "--force")
COMMANDS: dict[str, tuple[str, ...]] = {
    "export": (*BUNDLE, "--method", "absmax", "--target-runtime", "tensorrt"),
    "export for every runtime": BUNDLE,
    "calibrate": ("calibrate", GRAPH, "--data", "images", "-o", "build/tiny.table", "--force"),
    "quantize": ("quantize", GRAPH, "--table", "build/tiny/calibration.table", "-o", "build/int8.onnx"),
    "build": ("build", GRAPH, "--engine", "tensorrt-rtx"),
    "parity": ("parity", "build/tiny", "--data", "images", "--junit", "build/parity.xml"),
    "parity of a graph": (
        "parity",
        "build/tiny/model.int8.onnx",
        *("--reference", GRAPH, "--data", "images", "--precision", "int8", "--junit", "build/parity.xml"),
    ),
    "profile": (
        "profile",
        GRAPH,
        "--processes",
        "1",
        "--rounds",
        "1",
        "--seconds",
        "0",
        "--html",
        "build/latency.html",
    ),
}


@pytest.fixture
def here(shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with an earlier bundle, an earlier table, a checkpoint and images."""
    enter(tmp_path, monkeypatch)
    shutil.copytree(shipped.bundle, tmp_path / "build" / "tiny")
    shutil.copyfile(shipped.bundle / "calibration.table", tmp_path / "build" / "tiny.table")
    shutil.copyfile(shipped.checkpoint, tmp_path / "tiny.safetensors")
    shutil.copytree(shipped.images, tmp_path / "images")
    return tmp_path


class StageCounter:
    """Interrupts at the ``at``-th start or end of a stage, or never; keeps what it saw."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.seen: list[str] = []

    @contextmanager
    def stage(self, terminal: Terminal, name: str, total: int | None = None) -> Iterator[Advance]:
        self.step(f"start of {name}")
        yield lambda steps=1: None
        self.step(f"end of {name}")

    def step(self, place: str) -> None:
        self.seen.append(place)
        if len(self.seen) - 1 == self.at:
            raise KeyboardInterrupt


def stage_with(counter: StageCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "stage", lambda self, name, total=None: counter.stage(self, name, total))


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize(
    "command",
    [
        "export",
        pytest.param("export for every runtime", marks=pytest.mark.slow),  # the same stages, more of them
        "calibrate",
        "quantize",
        "parity of a graph",
        pytest.param("parity", marks=pytest.mark.slow),  # of a bundle: those stages for each of its graphs
    ],
)
def test_an_interrupt_at_any_stage_leaves_everything_as_it_was(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arguments = [*COMMANDS[command], *(["--no-latency"] if COMMANDS[command][0] == "export" else [])]
    places = StageCounter()
    stage_with(places, monkeypatch)
    practice = tmp_path_factory.mktemp("practice")
    shutil.copytree(here, practice, dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        patch.chdir(practice)
        run(*arguments).expect(0)
    assert len(places.seen) >= 2
    for at in range(len(places.seen)):
        stage_with(StageCounter(at), monkeypatch)
        with nothing_changes(here):
            stopped = run(*arguments).expect(130, "Interrupted.", "untouched")
            assert stopped.stdout == ""
            for checkpoint in here.rglob("*.checkpoint"):  # what --resume goes on from
                assert "--resume" in stopped.stderr
                assert CalibrationTable.load(checkpoint).image_count > 0
                checkpoint.unlink()


STAGE_ANNOUNCER = """
import signal, sys, time
from contextlib import contextmanager
from linglos_deploy import cli
from linglos_deploy.console import Terminal

@contextmanager
def stage(self, name, total=None):
    if wanted in (name, "any"):
        print("REACHED", file=sys.stderr, flush=True)
        time.sleep(float(hold))
    yield lambda steps=1: None

Terminal.stage = stage
wanted, hold, *sys.argv[1:] = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
cli.main()
"""


def interrupt(folder: Path, arguments: tuple[str, ...], *, stage: str, hold: float) -> tuple[int, str, str]:
    """Start a command in a process group of its own; send SIGINT to all of it, as a terminal does, in ``stage``.

    Args:
        folder: Where it works.
        arguments: The command and its options.
        stage: Name of the stage, or ``any``.
        hold: Seconds that the stage waits for the signal before it begins; 0 interrupts its work.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE_ANNOUNCER, stage, str(hold), *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "scratch"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line == "REACHED\n":
            break
    else:
        pytest.fail(f"The stage '{stage}' was never reached:\n{said}")
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, said + stderr


SIGNALLED = {
    "export": ("Exporting to ONNX", 0.0),
    "calibrate": ("Calibrating", 0.0),
    "quantize": ("Quantizing", 30.0),
    "parity": ("Recording", 0.0),
    "profile": ("measure latency", 0.0),
}


@pytest.mark.parametrize("command", SIGNALLED)
def test_a_signal_from_the_terminal_ends_the_process_cleanly(here: Path, command: str) -> None:
    stage, hold = SIGNALLED[command]
    arguments = COMMANDS[command]
    if command == "calibrate":  # enough work that the signal always finds it busy
        arguments = ("calibrate", GRAPH, "--images", "100000", "-o", "build/tiny.table", "--force")
    if command == "profile":
        arguments = (
            "profile",
            GRAPH,
            "--processes",
            "1",
            "--rounds",
            "1",
            "--seconds",
            "600",
            "--html",
            "build/latency.html",
        )
    with nothing_changes(here):
        code, stdout, stderr = interrupt(here, arguments, stage=stage, hold=hold)
    assert (code, stdout) == (130, ""), stderr
    assert "Interrupted." in stderr
    assert "Traceback" not in stderr


def test_a_signal_ends_the_build_of_an_engine_cleanly(here: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'linglos-deploy[tensorrt-rtx]' to build engines here")
    with nothing_changes(here):
        code, stdout, stderr = interrupt(here, COMMANDS["build"], stage="any", hold=0.0)
    assert (code, stdout) == (130, ""), stderr
    assert "Traceback" not in stderr
