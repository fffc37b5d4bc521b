from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import OutputError, UsageError
from linglos_deploy.files import sha256_file
from linglos_deploy.models.checkpoint import PREFIXES, read_checkpoint, save_checkpoint, strip_prefixes
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.progress import Silent
from tests.models.conftest import TINY, TINY_LABELS, TINY_PREPROCESS

Weights = dict[str, torch.Tensor]
NAMES = ("stem.0.0.weight", "head.bias", "stages.0.1.norm1.weight")


class Listener(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def same(first: object, second: Weights) -> bool:
    assert isinstance(first, dict)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in second)


def test_a_saved_checkpoint_is_read_back_whole(tiny_checkpoint: Path, tiny_weights: Weights) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    assert same(checkpoint.tensors, tiny_weights)
    assert checkpoint.metadata == CheckpointMetadata.of(TINY, TINY_PREPROCESS, labels=TINY_LABELS)
    assert checkpoint.digest == sha256_file(tiny_checkpoint)
    assert checkpoint.entry == ""


def test_equal_checkpoints_have_equal_bytes_even_from_another_process(tmp_path: Path) -> None:
    script = """
import sys, torch; from pathlib import Path
from linglos_deploy.models.checkpoint import save_checkpoint
from linglos_deploy.models.metadata import CheckpointMetadata
said = CheckpointMetadata(variant="s", num_classes=2, crop_pct=0.9, mean=(0.5, 0.5, 0.5), labels=("ä", "\\U0001f41d"))
save_checkpoint(Path(sys.argv[1]), {"b": torch.ones(2), "a": torch.zeros(3)}, metadata=said)
"""
    paths = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in paths:
        subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read_checkpoint(paths[0]).metadata.labels == ("ä", "🐝")


def test_tensors_that_share_memory_or_are_views_can_be_saved(tmp_path: Path) -> None:
    square = torch.arange(6.0).view(2, 3)
    weights = {"a": square, "b": square.T, "c": square[0]}
    save_checkpoint(tmp_path / "a.safetensors", weights, metadata=CheckpointMetadata())
    assert same(read_checkpoint(tmp_path / "a.safetensors").tensors, weights)


def test_a_checkpoint_is_not_saved_under_another_ending(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"best\.safetensors"):
        save_checkpoint(tmp_path / "best.pt", {}, metadata=CheckpointMetadata())


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match="no room left"):
        save_checkpoint(path, {"a": torch.zeros(1)}, metadata=CheckpointMetadata())
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("best.safetensors", b"old")]


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt", ".PT"])
@pytest.mark.parametrize("zipped", [True, False])
def test_plain_state_dicts_are_read(tiny_weights: Weights, tmp_path: Path, ending: str, zipped: bool) -> None:
    path = tmp_path / f"weights{ending}"
    torch.save(tiny_weights, path, _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(path).tensors, tiny_weights)


WRAPPED: dict[str, tuple[str, Callable[[Weights], object]]] = {
    "timm": ("state_dict", lambda w: {"epoch": 3, "arch": "linglo", "state_dict": w, "optimizer": {"lr": 0.1}}),
    "timm average": ("state_dict_ema", lambda w: {"state_dict": other(w), "state_dict_ema": w}),
    "deit": ("model", lambda w: {"model": w, "epoch": 3}),
    "deit average": ("model_ema", lambda w: {"model": other(w), "model_ema": w}),
    "both levels": ("model.state_dict", lambda w: {"model": {"state_dict": w}}),
    "average": ("ema", lambda w: {"ema": w, "updates": torch.tensor(4)}),
    "beside a tensor": ("model", lambda w: {"loss": torch.tensor(0.1), "model": w}),
}


def other(weights: Weights) -> Weights:
    return {name: value + 1 for name, value in weights.items()}


@pytest.mark.parametrize("layout", WRAPPED)
def test_usual_wrappers_are_opened_and_averages_preferred(layout: str, tiny_weights: Weights, tmp_path: Path) -> None:
    entry, wrap = WRAPPED[layout]
    torch.save(wrap(tiny_weights), tmp_path / "best.pt")
    checkpoint = read_checkpoint(tmp_path / "best.pt")
    assert checkpoint.entry == entry
    assert same(checkpoint.tensors, tiny_weights)


def test_a_choice_between_two_sets_of_weights_is_said(tiny_weights: Weights, tmp_path: Path) -> None:
    torch.save({"model": other(tiny_weights), "model_ema": tiny_weights}, tmp_path / "best.pt")
    listener = Listener()
    read_checkpoint(tmp_path / "best.pt", progress=listener)
    assert listener.warnings == ["best.pt holds several sets of weights; 'model_ema' is used, not 'model'."]


def test_no_choice_is_said_where_there_is_none(tiny_weights: Weights, tmp_path: Path) -> None:
    torch.save({"model": tiny_weights, "loss": torch.tensor(1.0)}, tmp_path / "best.pt")
    listener = Listener()
    read_checkpoint(tmp_path / "best.pt", progress=listener)
    assert not listener.warnings


@pytest.mark.parametrize("key", ["metadata", "config"])
def test_a_pickled_checkpoint_may_describe_its_model(tiny_weights: Weights, tmp_path: Path, key: str) -> None:
    torch.save({"model": tiny_weights, key: {"dims": [8, 16, 24, 64], "lr": 0.1}}, tmp_path / "best.pt")
    assert read_checkpoint(tmp_path / "best.pt").metadata == CheckpointMetadata(dims=(8, 16, 24, 64))


@given(st.lists(st.sampled_from(PREFIXES), max_size=3).map("".join))
def test_any_stack_of_wrapping_prefixes_is_removed(prefix: str) -> None:
    assert list(strip_prefixes({prefix + name: 0 for name in NAMES})) == list(NAMES)


@given(st.dictionaries(st.text("model.x", max_size=12), st.integers(), max_size=4))
def test_removing_prefixes_twice_changes_nothing_more(tensors: dict[str, int]) -> None:
    once = strip_prefixes(tensors)
    assert strip_prefixes(once) == once


def test_names_that_the_model_has_keep_their_prefix() -> None:
    found = {"module.model.a": 0, "module.model.b": 1}
    assert strip_prefixes(found, expected=["model.a"]) == {"model.a": 0, "model.b": 1}


def test_a_prefix_that_only_some_names_have_stays() -> None:
    found = {"model.a": 0, "head.b": 1}
    assert strip_prefixes(found) == found


def test_wrappers_of_torch_itself_are_taken_off(tmp_path: Path) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(2, 3))
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    layer[0] = torch.compile(layer[0])
    assert strip_prefixes(averaged.state_dict()).keys() == {"0.weight", "0.bias"}
    assert strip_prefixes(torch.compile(layer).state_dict()).keys() == {"0.weight", "0.bias"}
