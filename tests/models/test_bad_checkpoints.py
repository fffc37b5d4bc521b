"""Files that are no checkpoints of a LinGlo: each is explained, none is run, nothing else is raised."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from linglos_deploy.errors import CheckpointError
from linglos_deploy.models.checkpoint import read_checkpoint

Weights = dict[str, torch.Tensor]


def explain(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert caught.value.exit_code == 4
    assert caught.value.found
    assert caught.value.expected
    assert caught.value.next_step
    assert str(path) in caught.value.message
    assert "weights_only=False" not in str(caught.value), "nobody should be talked into running the pickle"
    assert "`weights_only` set to `False`" not in str(caught.value)
    return str(caught.value)


class Canary:
    """Would create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("save", ["zip", "legacy", "pickle"])
def test_a_pickle_with_code_is_refused_and_its_code_never_runs(tmp_path: Path, save: str, wrapped: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil.pt"
    content = {"model": {"head.bias": torch.zeros(2)}, "args": Canary(canary)} if wrapped else Canary(canary)
    if save == "pickle":
        path.write_bytes(pickle.dumps(content if not wrapped else {"args": Canary(canary)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=save == "zip")
    assert "its code was not run" in explain(path)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "the canary would not have sung at all"


def test_the_class_that_a_pickle_needs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({"model": {"a": torch.zeros(1)}, "args": argparse.Namespace(lr=0.1)}, path)
    message = explain(path)
    assert "argparse.Namespace" in message
    assert "torch.save(model.state_dict()" in message


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    assert "torch.nn.modules.linear.Linear" in explain(tmp_path / "model.pt")


def test_a_torchscript_archive_is_recognized(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/version", b"3\n")
        archive.writestr("script/data.pkl", b"")
    assert "TorchScript" in explain(tmp_path / "script.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth"])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, name: str) -> None:
    assert "nothing" in explain(tmp_path / name)


def test_a_directory_is_said_to_be_one(tmp_path: Path) -> None:
    assert "a directory" in explain(tmp_path)


def test_a_file_that_may_not_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in explain(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "0 bytes" in explain(tmp_path / name)


@pytest.mark.parametrize("name", ["model.onnx", "weights", "model.h5"])
def test_other_kinds_of_files_are_refused_by_their_ending(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    assert ".safetensors, .pt, .pth" in explain(tmp_path / name)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize(
    "content", [b"hello\n" * 40, b"\0" * 400, b"\xff" * 400, b"{}", b"\x89PNG\r\n\x1a\n" + b"x" * 100]
)
def test_files_that_are_no_checkpoints_are_said_to_be_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    explain(tmp_path / name)


def save_zip(weights: Weights, path: Path) -> None:
    torch.save(weights, path)


def save_legacy(weights: Weights, path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def save_safetensors(weights: Weights, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights, path, metadata={"dims": "[8, 16, 24, 64]"})


FORMATS: dict[str, tuple[str, Callable[[Weights, Path], None]]] = {
    "zip": ("a.pt", save_zip),
    "legacy": ("a.pth", save_legacy),
    "safetensors": ("a.safetensors", save_safetensors),
}


def small_checkpoint(kind: str, folder: Path) -> Path:
    name, save = FORMATS[kind]
    save({"head.weight": torch.arange(64.0).view(8, 8), "head.bias": torch.ones(8)}, folder / name)
    return folder / name


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path = small_checkpoint(kind, tmp_path)
    whole = path.read_bytes()
    for length in random.Random(0).sample(range(1, len(whole)), 60):
        path.write_bytes(whole[:length])
        explain(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bits_are_refused_or_harmless_and_never_anything_else(tmp_path: Path, kind: str) -> None:
    path = small_checkpoint(kind, tmp_path)
    whole, source = path.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(source.randint(1, 3)):
            broken[source.randrange(min(len(whole), 900))] ^= 1 << source.randrange(8)
        path.write_bytes(bytes(broken))
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"model": {}}, {"model": {"a": 1}}, {3: torch.zeros(1)}])
def test_a_dictionary_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert "holds no weights" in explain(tmp_path / "a.pt")


def test_a_bare_tensor_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    assert "a Tensor" in explain(tmp_path / "a.pt")


def test_safetensors_without_tensors_are_refused(tmp_path: Path) -> None:
    save_safetensors({}, tmp_path / "a.safetensors")
    assert "an empty dictionary" in explain(tmp_path / "a.safetensors")
