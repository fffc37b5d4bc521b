"""What is wrong with calibration images is found, counted and named; what is right is not mentioned."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from linglos_deploy.errors import DataError
from linglos_deploy.images.checks import Problem, check_data
from linglos_deploy.images.dataset import open_dataset
from linglos_deploy.images.preprocessing import PreprocessSpec, normalize
from tests.calibration.graphs import SIZE, SPEC, write_images


def _found(path, spec=SPEC, **options):
    return {finding.problem: finding for finding in check_data(open_dataset(path, spec), **options)}


def _pixels(count=40, mean=(124, 116, 104), deviation=58):
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(mean, deviation, (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def _save(path, array):
    np.save(path / "x.npy", array)
    return path / "x.npy"


def test_good_images_give_no_finding(tmp_path):
    write_images(tmp_path, 40, classes=("a", "b"))
    assert check_data(open_dataset(tmp_path, SPEC), strict=True) == ()


def test_duplicates_constant_images_and_skipped_files_are_counted(tmp_path):
    write_images(tmp_path, 40)
    for index in range(3):
        (tmp_path / f"copy{index}.png").write_bytes((tmp_path / "000.png").read_bytes())
    Image.new("RGB", (20, 20), (10, 200, 30)).save(tmp_path / "plain.png")
    (tmp_path / "notes.txt").write_text("x")
    found = _found(tmp_path)
    assert set(found) == {Problem.DUPLICATES, Problem.CONSTANT, Problem.SKIPPED}
    assert found[Problem.DUPLICATES].count == 3
    assert found[Problem.DUPLICATES].examples == ("copy0.png", "copy1.png", "copy2.png")
    assert found[Problem.CONSTANT].examples == ("plain.png",)
    assert "1 files are no usable images" in found[Problem.SKIPPED].message


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(_pixels(mean=(2, 2, 2), deviation=1), id="pixels already divided by 255"),
        pytest.param(_pixels().transpose(0, 3, 1, 2).astype(np.float32), id="pixels as normalized input"),
        pytest.param(normalize(_pixels(), SPEC) * 0.01, id="normalized twice"),
    ],
)
def test_suspicious_normalization_is_found(tmp_path, array):
    found = _found(_save(tmp_path, array))
    assert found[Problem.NORMALIZATION].count == 40
    assert "check mean and std" in found[Problem.NORMALIZATION].message


def test_swapped_channels_are_found_where_the_preprocessing_tells_them_apart(tmp_path):
    pixels = _pixels(mean=(136, 116, 96), deviation=40)
    spec = PreprocessSpec(input_size=(SIZE, SIZE), mean=(136 / 255, 116 / 255, 96 / 255), std=(0.16, 0.16, 0.16))
    assert _found(_save(tmp_path, pixels), spec) == {}
    swapped = _found(_save(tmp_path, np.ascontiguousarray(pixels[..., ::-1])), spec)
    assert set(swapped) == {Problem.CHANNEL_ORDER}
    assert "BGR" in swapped[Problem.CHANNEL_ORDER].message
    grey = PreprocessSpec(input_size=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    assert Problem.CHANNEL_ORDER not in _found(_save(tmp_path, pixels), grey)


def test_too_few_images_depend_on_the_percentile(tmp_path):
    path = _save(tmp_path, _pixels())
    assert Problem.TOO_FEW not in _found(path, method="percentile", percentile=99.9)
    found = _found(path, method="percentile", percentile=99.999)
    assert "40 images are few for percentile 99.999; take 1000 or more" in found[Problem.TOO_FEW].message
    assert Problem.TOO_FEW not in _found(path, method="percentile", percentile=100)
    assert "stable ranges" in _found(_save(tmp_path, _pixels(5)))[Problem.TOO_FEW].message


def test_class_imbalance_is_found(tmp_path):
    write_images(tmp_path / "cat", 40)
    write_images(tmp_path / "dog", 2, seed=1)
    found = _found(tmp_path)
    assert found[Problem.IMBALANCE].message.startswith("class 'cat' has 40 images and class 'dog' 2")


def test_classes_without_an_image_are_found(tmp_path):
    write_images(tmp_path / "cat", 40)
    write_images(tmp_path / "dog", 1, seed=1)
    data = (tmp_path / "dog" / "000.png").read_bytes()
    (tmp_path / "dog" / "000.png").write_bytes(data[: len(data) // 2])
    assert "1 of 2 classes have no image" in _found(tmp_path)[Problem.IMBALANCE].message


def test_labels_without_names_are_numbers(tmp_path):
    np.savez(tmp_path / "x.npz", images=_pixels(), labels=np.array([0] * 38 + [1] * 2))
    assert "class '0' has 38 images and class '1' 2" in _found(tmp_path / "x.npz")[Problem.IMBALANCE].message


def test_strict_makes_findings_errors(tmp_path):
    write_images(tmp_path, 3)
    with pytest.raises(DataError, match="few for stable ranges"):
        check_data(open_dataset(tmp_path, SPEC, verify=False), strict=True)
