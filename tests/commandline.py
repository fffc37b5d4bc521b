"""Run the command line in this process, and hold its output to what the documentation promises."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from linglos_deploy import cli

TINY_SIDE = 32


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind in the terminal."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """All of stdout, which must be one JSON document."""
        return json.loads(self.stdout)

    def expect(self, exit_code: int, *mentions: str) -> Outcome:
        """Check the exit code, and that stderr mentions each of ``mentions``; returns itself."""
        assert self.exit_code == exit_code, f"exit code {self.exit_code}\n{self.stdout}\n{self.stderr}"
        for text in mentions:
            assert text in self.stderr, self.stderr
        assert "Traceback" not in self.stderr
        assert "bug in linglos-deploy" not in self.stderr
        return self

    def explain(self, exit_code: int, *mentions: str) -> Outcome:
        """Check that it failed with ``exit_code`` and said what was found, what was expected and what to do next."""
        self.expect(exit_code, "error: ", "\n  found:", "\n  expected:", "\n  next:", *mentions)
        assert self.stdout == ""
        return self


def run(*arguments: object) -> Outcome:
    """Run ``linglos-deploy`` with these arguments in this process."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="linglos-deploy")
    return Outcome(result.exit_code, result.stdout, result.stderr)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every file below ``folder`` with its bytes, and every directory with ``None``."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts and path.name != ".ses"  # ONNX Runtime keeps an identifier there
    }


@contextmanager
def nothing_changes(folder: Path) -> Iterator[None]:
    """Check that every file below ``folder`` stays as it is, and none is added."""
    before = snapshot(folder)
    yield
    after = snapshot(folder)
    assert after.keys() == before.keys(), sorted(after.keys() ^ before.keys())
    assert after == before, [name for name in before if before[name] != after[name]]


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in ``folder`` from now on, with the temporary files inside of it, and no user's configuration."""
    scratch = folder / "scratch"
    scratch.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("XDG_CACHE_HOME", f"{folder}.cache")  # locks and identifiers that libraries keep are no output
    monkeypatch.setenv("COLUMNS", "200")
    return folder


def write_images(folder: Path, count: int = 4, *, side: int = TINY_SIDE, seed: int = 0) -> Path:
    """Write seeded noise as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{index:03d}.png")
    return folder


def write_tiny_checkpoint(path: Path, *, seed: int = 1) -> Path:
    """Write seeded weights of a LinGlo of 32 x 32 images and three classes."""
    from linglos_deploy.images.preprocessing import PreprocessSpec
    from linglos_deploy.models.checkpoint import save_checkpoint
    from linglos_deploy.models.linglo import unloaded_linglo
    from linglos_deploy.models.metadata import CheckpointMetadata
    from linglos_deploy.models.synthetic import random_weights
    from linglos_deploy.models.variants import LinGloConfig

    config = LinGloConfig(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_classes=3, image_size=TINY_SIDE)
    save_checkpoint(
        path,
        random_weights(unloaded_linglo(config), seed=seed),
        metadata=CheckpointMetadata.of(
            config, PreprocessSpec(input_size=(TINY_SIDE, TINY_SIDE)), labels=("ant", "bee", "cat")
        ),
    )
    return path
