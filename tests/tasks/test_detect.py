"""Rows of numbers become boxes in the picture, and are judged as COCO judges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images.preprocessing import Fit, PreprocessSpec, frame_of
from linglos_deploy.signature import Decoding, ModelSignature, TensorSpec
from linglos_deploy.tasks.kinds.detect import detect
from linglos_deploy.tasks.kinds.detect.data import TrueBox, open_coco
from linglos_deploy.tasks.kinds.detect.metric import AveragePrecision
from linglos_deploy.tasks.kinds.detect.nms import iou, suppress
from linglos_deploy.tasks.kinds.detect.result import Box, Detected
from linglos_deploy.tasks.kinds.detect.view import pair_detections

SPEC = PreprocessSpec(input_size=(32, 48), fit=Fit.LETTERBOX)
FREE = Decoding("detect", {"detections": "out"}, {"head": "nms-free"})
RETINA = Decoding("detect", {"candidates": "out"}, {"head": "retinanet"})


def decode(rows: list[list[float]], decoding: Decoding = FREE, size: tuple[int, int] = (64, 64)) -> Detected:
    (result,) = detect.decode({"out": np.array([rows], np.float32)}, decoding, [frame_of(*size, SPEC)])
    assert isinstance(result, Detected)
    return result


def test_boxes_are_in_the_pictures_pixels_best_first_without_the_faint_and_the_broken() -> None:
    found = decode(
        [[10, 1, 12, 3, 0.4, 1], [8, 0, 40, 32, 0.9, 0], [0, 0, 9, 9, 0.04, 0], [0, 0, np.nan, 9, 0.99, 0]]
    )  # the picture is halved, and begins in column 8
    assert found.boxes == (Box(0, 0, 64, 64, pytest.approx(0.9), 0), Box(4, 2, 8, 6, pytest.approx(0.4), 1))


def test_boxes_in_the_bars_are_none_of_the_picture() -> None:
    assert decode([[0, 0, 7, 32, 0.9, 0], [1, 1, 9, 9, 0.8, 0]]).boxes == (Box(0, 2, 2, 18, pytest.approx(0.8), 0),)


def test_the_one_to_one_head_is_not_suppressed_and_candidates_are() -> None:
    rows = [[8, 0, 40, 32, 0.9, 0], [8, 0, 40, 31, 0.8, 0], [8, 0, 40, 32, 0.7, 1], [8, 0, 40, 8, 0.6, 0]]
    assert len(decode(rows).boxes) == 4
    kept = decode(rows, RETINA).boxes
    assert [(round(box.score, 1), box.label) for box in kept] == [(0.9, 0), (0.7, 1), (0.6, 0)]


def test_people_are_shown_what_is_sure_and_json_has_all() -> None:
    found = decode([[8, 0, 40, 32, 0.9, 1], [8, 0, 20, 16, 0.1, 0]])
    assert found.lines(("ant", "bee")) == ["bee 0.90: 0.0, 0.0 to 64.0, 64.0", "and 1 below a score of 0.3"]
    assert len(found.facts(())["boxes"]) == 2
    assert decode([[0, 0, 1, 1, 0.01, 0]]).lines(()) == ["nothing"]
    drawn = np.asarray(found.draw(Image.new("RGB", (64, 64)), ("ant", "bee")))
    assert drawn.shape == (64, 64, 3)
    assert drawn.any()
    assert not drawn[20:40, 20:40].any()


@pytest.mark.parametrize("outputs", [{"logits": (1, 9)}, {"a": (1, 5, 6), "b": (1, 5, 6)}, {"detections": (1, 5, 7)}])
def test_outputs_of_another_kind_are_refused(outputs: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="does not answer with detections"):
        detect.roles(outputs, {"head": "nms-free"})


boxes = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 8)] * 2, st.integers(0, 5), st.integers(0, 1))


@given(st.lists(boxes, min_size=1, max_size=14), st.sampled_from([0.0, 0.3, 0.5]))
def test_suppression_keeps_what_the_definition_keeps(rows: list[tuple[int, ...]], overlap: float) -> None:
    edges = np.array([[left, top, left + wide, top + tall] for left, top, wide, tall, _, _ in rows], np.float64)
    scores, labels = np.array([row[4] for row in rows], np.float64), np.array([row[5] for row in rows])

    def share(one: int, other: int) -> float:
        pixels = [
            {(x, y) for x in range(int(it[0]), int(it[2])) for y in range(int(it[1]), int(it[3]))}
            for it in (edges[one], edges[other])
        ]
        union = pixels[0] | pixels[1]
        return len(pixels[0] & pixels[1]) / len(union) if union else 0.0

    kept: list[int] = []
    for place in sorted(range(len(rows)), key=lambda it: (-scores[it], it)):
        if all(labels[place] != labels[other] or share(other, place) <= overlap for other in kept):
            kept.append(place)
    assert suppress(edges, scores, labels, overlap=overlap, most=99).tolist() == kept
    assert suppress(edges, scores, labels, overlap=overlap, most=2).tolist() == kept[:2]


def test_boxes_without_an_area_overlap_nothing() -> None:
    point = np.array([1.0, 1.0, 1.0, 1.0])
    assert iou(point, point[None]).tolist() == [0.0]


def test_a_view_puts_the_same_objects_side_by_side_whatever_their_order() -> None:
    reference = np.array([[[0, 0, 10, 10, 0.9, 0], [20, 0, 30, 10, 0.8, 1], [0, 20, 10, 30, 0.7, 1]]])
    moved = reference[:, ::-1] + np.array([0.5, 0, 0.5, 0, -0.1, 0])
    parts = pair_detections(reference, moved)
    assert parts["found"][1].tolist() == [[1, 1, 1]]
    assert np.allclose(parts["scores"][1][..., 0], [[0.8, 0.7, 0.6]])
    assert np.allclose(parts["boxes"][1] - parts["boxes"][0], [0.5, 0, 0.5, 0])
    other = reference.copy()
    other[0, 1, 5], other[0, 2, :4] = 0, [50, 50, 60, 60]
    parts = pair_detections(reference, other)
    assert parts["found"][1].tolist() == [[1, 0, 0]]
    assert (parts["boxes"][0][0, 1:] == 0).all()


def test_boxes_that_were_clipped_to_nothing_find_one_another() -> None:
    flat = np.array([[[0, 3, 0, 9, 0.9, 0], [48, 5, 48, 5, 0.8, 0]]], np.float64)
    assert pair_detections(flat, flat[:, ::-1])["found"][1].tolist() == [[1, 1]]


def test_one_candidate_is_no_partner_of_two() -> None:
    twice = np.array([[[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.8, 0]]], np.float64)
    once = twice.copy()
    once[0, 1, 5] = 1
    assert pair_detections(twice, once)["found"][1].tolist() == [[1, 0]]


CONTENT: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.png", "height": 20, "width": 30}, {"id": 9, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 5], "area": 40, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0, 0, 4, 4], "iscrowd": 1},
    ],
    "categories": [{"id": 5, "name": "bee"}, {"id": 3, "name": "ant"}, {"id": 6, "name": "wasp"}],
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for name, size in (("a.png", (30, 20)), ("b.png", (11, 13))):
        Image.new("RGB", size).save(folder / "images" / name)
    (folder / "instances.json").write_text(json.dumps({**CONTENT, **changes}))
    return folder


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 4, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 5], **changes}


def test_cocos_json_is_read_by_name_and_pictures_without_objects_stay(tmp_path: Path) -> None:
    examples = open_coco(write(tmp_path), SPEC, ("ant", "bee"))
    assert examples.ids == ("a.png", "b.png")
    assert examples.warnings == ("1 of 2 pictures hold no object; whatever is found there is wrong.",)
    signature = ModelSignature((TensorSpec("image", "float32", ("batch", 3, 32, 48)),), ())
    (group,) = examples.groups(2, signature)
    assert group.truths == (
        (TrueBox((1, 2, 10, 5), 0, 40, False), TrueBox((0, 0, 4, 4), 1, 16, True)),
        (),
    )
    assert open_coco(tmp_path / "instances.json", SPEC, ()).truth(0, (20, 30))[1].label == 1  # by the order of ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [*CONTENT["images"], {"id": 1, "file_name": "gone.png"}]}, "pictures that are not there"),
        ({"annotations": [annotation(image_id=8)]}, "annotations of pictures that it does not name"),
        ({"annotations": [annotation(category_id=8)]}, "annotations of categories that it does not name"),
        ({"annotations": [annotation(category_id=6)]}, "category that the model does not know"),
        ({"annotations": []}, "no objects"),
        ({"annotations": [annotation(bbox=[1, 2, 0, 5])]}, "no objects"),
        ({"annotations": [annotation(bbox=[1, 2, 3])]}, "not COCO's JSON"),
        ({"categories": {}}, "not COCO's JSON"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_coco(write(tmp_path, **changes), SPEC, ("ant", "bee"))


def test_boxes_without_an_area_and_beyond_the_picture_are_named(tmp_path: Path) -> None:
    odd = [*CONTENT["annotations"], annotation(bbox=[5, 5, 0, 3]), annotation(id=5, bbox=[25, 5, 10, 3])]
    examples = open_coco(write(tmp_path, annotations=odd), SPEC, ("ant", "bee"))
    assert "1 boxes without an area are left out: annotations 4." in examples.warnings
    assert "1 boxes reach out of their pictures, and are judged so: 5." in examples.warnings
    assert len(examples.truth(0, (20, 30))) == 3


def test_a_folder_must_hold_one_json(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="not clear which file"):
        open_coco(tmp_path, SPEC, ())
    nested = tmp_path / "nested"
    nested.mkdir()
    write(nested)
    (nested / "annotations").mkdir()
    (nested / "instances.json").rename(nested / "annotations/instances.json")
    assert len(open_coco(nested, SPEC, ()).ids) == 2


def test_ap_is_1_for_the_truth_and_falls_with_shifted_missing_and_wrong_boxes() -> None:
    pytest.importorskip("faster_coco_eval", reason="pip install 'linglos-deploy[coco]'")
    metric = AveragePrecision()
    truth = (TrueBox((10, 10, 40, 40), 0, 1600, False), TrueBox((100, 100, 50, 50), 1, 2500, False))
    right = Detected((Box(10, 10, 50, 50, 0.9, 0), Box(100, 100, 150, 150, 0.8, 1)))
    shifted = Detected((Box(14, 10, 54, 50, 0.9, 0), Box(100, 100, 150, 150, 0.8, 1)))  # overlap 0.818
    half = Detected(right.boxes[:1])
    places = np.arange(1)
    assert metric.value([metric.record(right, truth)], places) == pytest.approx(1.0)
    assert metric.value([metric.record(shifted, truth)], places) == pytest.approx((0.7 + 1.0) / 2)
    assert metric.value([metric.record(half, truth)], places) == pytest.approx(0.5)
    assert metric.value([metric.record(Detected(()), truth)], places) == 0.0
    assert metric.value([metric.record(right, ())], places) == 0.0


def test_ap_of_resampled_pictures_counts_a_picture_as_often_as_it_was_drawn() -> None:
    pytest.importorskip("faster_coco_eval", reason="pip install 'linglos-deploy[coco]'")
    metric, truth = AveragePrecision(), (TrueBox((10, 10, 40, 40), 0, 1600, False),)
    right, wrong = Detected((Box(10, 10, 50, 50, 0.9, 0),)), Detected(())
    records = [metric.record(it, truth) for it in (right, wrong)]
    assert metric.value(records, np.array([0, 0, 0, 1])) == pytest.approx(0.75, abs=0.02)
    assert metric.value(records, np.array([0, 1, 1, 1])) == pytest.approx(0.25, abs=0.02)
