"""Scores become a map in the picture's own size, and maps are judged class by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images.preprocessing import Fit, PreprocessSpec, frame_of
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.signature import Decoding, ModelSignature, TensorSpec
from linglos_deploy.tasks.kinds.segment import segment
from linglos_deploy.tasks.kinds.segment.data import open_masks, read_mask
from linglos_deploy.tasks.kinds.segment.metric import MeanIou
from linglos_deploy.tasks.kinds.segment.result import NO_CLASS, Segmented
from tests.models.conftest import TINY

SPEC = PreprocessSpec(input_size=(8, 12), fit=Fit.LETTERBOX)
SCORES = Decoding("segment", {"scores": "scores"}, {"output": "scores"})
SIGNATURE = ModelSignature((TensorSpec("image", "float32", ("batch", 3, 8, 12)),), ())


def decode(scores: np.ndarray, *sizes: tuple[int, int]) -> list[Any]:
    return list(segment.decode({"scores": scores}, SCORES, [frame_of(*size, SPEC) for size in sizes]))


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_a_head_answers_at_the_images_size_with_scores_or_with_their_best_class(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scores = LinGlo(TINY, task="segment", settings={"width": "32"}).eval()
    classes = LinGlo(TINY, task="segment", settings={"width": "32", "output": "classes"}).eval()
    classes.load_state_dict(scores.state_dict())
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        found, best = scores(images), classes(images)
    assert found.shape == (2, TINY.num_classes, *size)
    assert best.shape == (2, *size)
    assert best.dtype == torch.uint8
    assert torch.equal(found.argmax(1).to(torch.uint8), best)


def test_scores_are_resized_before_the_best_class_is_taken() -> None:
    """Between two coarse positions a third class wins that is best at neither; in the other order it never could."""
    head = LinGlo(TINY, task="segment", settings={"width": "32", "output": "classes"}).head
    for name in ("lateral", "smooth", "scale"):
        setattr(head, name, torch.nn.ModuleList([torch.nn.Identity()]))
    head.predict = torch.nn.Identity()
    coarse = torch.tensor([[[4.0, 0.0]], [[0.0, 4.0]], [[3.0, 3.0]]])[None]
    assert 2 not in coarse.argmax(1)
    assert head([coarse], (4, 8))[0, 0].tolist() == [0, 0, 0, 2, 2, 1, 1, 1]


def test_a_map_has_the_pictures_size_and_comes_from_the_part_between_the_bars() -> None:
    scores = np.zeros((2, 3, 8, 12), np.float32)
    scores[:, 2] = 5.0  # the bars, too
    scores[:, 1, :, 2:10], scores[:, 2, :, 2:10] = 1.0, 0.0  # a square picture fills columns 2 to 9
    square, wide = decode(scores, (20, 20), (40, 60))
    assert square.classes.shape == (20, 20)
    assert (square.classes == 1).all()
    assert wide.classes.shape == (40, 60)
    assert wide.shares == pytest.approx({1: 40 / 60, 2: 20 / 60})


def test_of_equal_scores_the_lower_class_wins_and_nan_is_no_class() -> None:
    scores = np.ones((1, 3, 8, 12), np.float32)
    scores[0, 1, 0, 0] = np.nan
    (result,) = decode(scores, (8, 12))
    assert result.classes[0, 0] == NO_CLASS
    assert (result.classes.reshape(-1)[1:] == 0).all()
    assert result.lines(("sky",))[-1].startswith("no class: 1.04 %")


def test_classes_of_the_graph_are_taken_as_they_are_also_as_golden_floats() -> None:
    decoding = Decoding("segment", {"classes": "out"}, {"output": "classes"})
    for dtype in (np.uint8, np.float32):
        maps = np.arange(96, dtype=dtype).reshape(1, 8, 12)
        (result,) = segment.decode({"out": maps}, decoding, [frame_of(8, 12, SPEC)])
        assert np.array_equal(result.classes, np.arange(96).reshape(8, 12))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("outputs", "setting"), [({"logits": (1, 9)}, "scores"), ({"a": (1, 2, 3), "b": (1, 2)}, "classes")]
)
def test_outputs_of_another_kind_are_refused(outputs: dict[str, tuple[int, ...]], setting: str) -> None:
    with pytest.raises(UsageError, match="every pixel"):
        segment.roles(outputs, {"output": setting})


def test_more_classes_than_a_byte_tells_apart_are_refused() -> None:
    with pytest.raises(UsageError, match="8 bits"):
        segment.head((8, 16, 24, 32), 256, segment.complete({}))  # type: ignore[misc]


def brute_force(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    shares = []
    for index in range(255):
        both = sum(((found == index) & (truth == index)).sum() for found, truth in pairs)
        known = [(found[truth != 255], truth[truth != 255]) for found, truth in pairs]
        either = sum(((found == index) | (truth == index)).sum() for found, truth in known)
        if either:
            shares.append(both / either)
    return float(np.mean(shares))


def test_miou_is_the_mean_over_classes_of_intersection_over_union_of_the_chosen_examples() -> None:
    random = np.random.default_rng(0)
    maps, masks = random.choice([0, 1, 2, 7, 255], (5, 9, 11)), random.choice([0, 1, 2, 255], (5, 9, 11))
    pairs = list(zip(maps.astype(np.uint8), masks.astype(np.uint8), strict=True))
    records = [MeanIou().record(Segmented(found), truth) for found, truth in pairs]
    for places in (np.arange(5), np.array([3]), np.array([1, 1, 4])):
        assert MeanIou().value(records, places) == pytest.approx(brute_force([pairs[it] for it in places]))


def test_a_perfect_map_has_miou_1_and_one_without_known_pixels_0() -> None:
    truth = np.array([[0, 1], [255, 3]], np.uint8)
    unknown = np.full((2, 2), 255, np.uint8)
    records = [MeanIou().record(Segmented(truth.copy()), mask) for mask in (truth, unknown)]
    assert MeanIou().value(records, np.array([0])) == 1.0
    assert MeanIou().value(records, np.array([1])) == 0.0


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    for folder in ("images/a", "masks/a"):
        (tmp_path / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, size in (("a/x", (10, 14)), ("y", (9, 7))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"images/{name}.jpg")
        Image.fromarray(random.integers(0, 3, size, dtype=np.uint8)).save(tmp_path / f"masks/{name}.png")
    return tmp_path


def test_pictures_and_masks_of_one_name_belong_together(scenes: Path) -> None:
    examples = open_masks(scenes, SPEC, 3)
    assert examples.ids == ("a/x", "y")
    (group,) = examples.groups(4, SIGNATURE)
    assert group.batch["image"].shape == (2, 3, 8, 12)
    assert [frame.picture for frame in group.frames] == [(10, 14), (9, 7)]
    assert [truth.shape for truth in group.truths] == [(10, 14), (9, 7)]
    assert [len(it.ids) for it in examples.groups(1, SIGNATURE)] == [1, 1]


def test_a_number_of_classes_that_is_not_known_is_said(scenes: Path) -> None:
    assert open_masks(scenes, SPEC, 3).warnings == ()
    assert "not known" in open_masks(scenes, SPEC, None).warnings[0]


@pytest.mark.parametrize(
    ("gone", "message"),
    [("masks/y.png", "pictures without a mask"), ("images/y.jpg", "masks without a picture")],
)
def test_what_is_missing_is_named_and_nothing_is_left_out_in_silence(scenes: Path, gone: str, message: str) -> None:
    (scenes / gone).unlink()
    with pytest.raises(DataError, match=message) as error:
        open_masks(scenes, SPEC, 3)
    assert error.value.found == "1: y"


def test_folders_that_are_not_there_or_empty_are_named(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'images'"):
        open_masks(scenes / "images", SPEC, 3)
    (tmp_path / "none/images").mkdir(parents=True)
    with pytest.raises(DataError, match="no pictures"):
        open_masks(tmp_path / "none", SPEC, 3)


def test_two_pictures_of_one_name_are_refused(scenes: Path) -> None:
    Image.new("RGB", (4, 4)).save(scenes / "images/y.png")
    with pytest.raises(DataError, match="one name"):
        open_masks(scenes, SPEC, 3)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((9, 7), 3, np.uint8), "class that the model does not have"),
        (np.zeros((9, 8), np.uint8), "does not fit"),
        (np.zeros((9, 7, 3), np.uint8), "does not fit"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=message):
        read_mask(tmp_path / "mask.png", (9, 7), 3)


def test_a_palettes_indices_are_the_classes_and_255_is_allowed(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 2, 255]], np.uint8))
    mask.putpalette([9] * 768)
    mask.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (1, 3), 3).tolist() == [[0, 2, 255]]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_mask(tmp_path / "bad.png", (1, 3), 3)


def test_a_drawn_picture_keeps_its_size_and_shows_the_colours() -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[:, 30:] = 1
    drawn = np.asarray(Segmented(classes).draw(Image.new("RGB", (60, 40)), ("a", "b")))
    assert drawn.shape == (40, 60, 3)
    assert not np.array_equal(drawn[0, 0], drawn[0, 59])
