"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tests.scheduling import heavy_first, scheduler
from tests.untraced import foreign_calls_untraced

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two cores, several workers
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="linglos-tests-")  # not the user's cache

# The same examples every time, unless a run searches: pytest --hypothesis-profile=search. No example is on the clock.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile(
    "search", settings.get_profile("default"), derandomize=False, deadline=None, max_examples=300
)  # said, because Hypothesis begins with other settings where it finds itself in continuous integration
settings.load_profile("steady")


@pytest.hookimpl(optionalhook=True)  # where xdist is
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    return scheduler(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several workers
        heavy_first(items)


@pytest.fixture(scope="session", autouse=True)
def foreign_code_is_not_measured() -> Iterator[None]:
    with foreign_calls_untraced():
        yield


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a whole export of a tiny model started from and made.

    Attributes:
        checkpoint: Seeded weights for 32 x 32 images and three classes.
        images: Labelled images, one folder a class.
        bundle: The bundle with a float32 and an INT8 graph.
    """

    checkpoint: Path
    images: Path
    bundle: Path


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Export a tiny model once; tests that use it belong to ``xdist_group("shipped")``, so that one worker makes it."""
    from tests.commandline import run, write_images, write_tiny_checkpoint

    folder = tmp_path_factory.mktemp("shipped")
    checkpoint = write_tiny_checkpoint(folder / "tiny.safetensors")
    for seed, label in enumerate(("ant", "bee", "cat")):
        write_images(folder / "images" / label, 3, seed=seed)
    options = ("--data", folder / "images", "--int8", "--engine", "none", "--no-latency", "-o", folder)
    run("export", "--checkpoint", checkpoint, *options, "--name", "tiny", "-q").expect(0)
    return Shipped(checkpoint, folder / "images", folder / "tiny")


@pytest.fixture
def quick_export(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``export`` take the float32 graph of the tiny model as it was exported before, which takes no time."""
    import shutil

    from linglos_deploy.artifacts import OnnxArtifact, TorchModel, open_onnx
    from linglos_deploy.exporters import export
    from linglos_deploy.exporters.config import ExportConfig
    from linglos_deploy.progress import Progress

    def copy(model: TorchModel, config: ExportConfig, *, out: Path, progress: Progress) -> OnnxArtifact:
        with progress.stage("Exporting to ONNX"):
            shutil.copyfile(shipped.bundle / "model.onnx", out)
        return open_onnx(out)

    monkeypatch.setattr(export, "export_onnx", copy)
