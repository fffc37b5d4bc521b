from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from linglos_deploy.images.preprocessing import normalize, to_pixels, to_rgb
from linglos_deploy.models.loading import ModelSource, load_model

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CHECKPOINT = DIGITS / "linglo_digits.safetensors"


def run_script(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(DIGITS / name), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    run_script("make_images.py", "--output", folder)
    return folder


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.png"))


def test_the_images_are_split_by_digit_and_no_image_is_in_both_parts(images: Path) -> None:
    train, heldout = pictures(images / "train"), pictures(images / "heldout")
    assert (len(train), len(heldout)) == (1347, 450)
    assert {path.name for path in train}.isdisjoint(path.name for path in heldout)
    counts = [len(list((images / "heldout" / str(digit)).iterdir())) for digit in range(10)]
    assert min(counts) >= 43
    assert max(counts) <= 47


def test_the_images_are_64_by_64_rgb_and_the_same_each_time(images: Path, tmp_path: Path) -> None:
    run_script("make_images.py", "--output", tmp_path)
    first = pictures(images / "heldout")[0]
    with Image.open(first) as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")
        again = Image.open(tmp_path / first.relative_to(images))
        assert np.array_equal(np.asarray(image), np.asarray(again))


def test_the_committed_checkpoint_knows_the_held_out_digits(images: Path) -> None:
    model = load_model(ModelSource(checkpoint=CHECKPOINT))
    paths = pictures(images / "heldout")
    pixels = np.stack([to_pixels(to_rgb(Image.open(path)), model.preprocess) for path in paths])
    with torch.inference_mode():
        logits = model.module(torch.from_numpy(normalize(pixels, model.preprocess)))
    said = [model.labels[index] for index in logits.argmax(dim=1)]
    right = sum(label == path.parent.name for label, path in zip(said, paths, strict=True))
    assert right / len(paths) >= 0.98


def test_the_committed_checkpoint_is_small_and_describes_itself() -> None:
    assert CHECKPOINT.stat().st_size < 2_000_000
    model = load_model(ModelSource(checkpoint=CHECKPOINT))
    assert model.name == "linglo_digits"
    assert model.labels == tuple("0123456789")
    assert (model.preprocess.input_size, model.preprocess.crop_pct) == ((64, 64), 1.0)


def train_briefly(output: Path) -> str:
    return run_script("train.py", "--epochs", "1", "--limit", "64", "--seed", "1", "--output", output)


def test_the_training_script_writes_a_checkpoint_that_loads_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    said = train_briefly(first)
    assert "epoch   1/1" in said
    assert "held-out top-1" in said
    model = load_model(ModelSource(checkpoint=first))
    assert model.preprocess == load_model(ModelSource(checkpoint=CHECKPOINT)).preprocess
    assert all(value.isfinite().all() for value in model.module.state_dict().values())
    train_briefly(second)
    assert first.read_bytes() == second.read_bytes()
