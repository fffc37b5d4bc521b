"""A classifier's numbers become named classes, and are judged by the share of images that are right."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import PreprocessSpec, frame_of
from linglos_deploy.signature import Decoding
from linglos_deploy.tasks.kinds.classify import Classified, Top1, classify

DECODING = Decoding("classify", {"logits": "scores"})
FRAME = frame_of(8, 8, PreprocessSpec())


def decode(rows: list[list[float]]) -> list[Classified]:
    return classify.decode({"scores": np.array(rows, np.float32)}, DECODING, [FRAME] * len(rows))  # type: ignore[return-value]


def test_the_best_classes_come_first_with_their_softmax() -> None:
    (result,) = decode([[0.0, np.log(6.0), np.log(3.0)]])
    assert [it.index for it in result.best] == [1, 2, 0]
    assert [it.probability for it in result.best] == pytest.approx([0.6, 0.3, 0.1])
    assert result.lines(("ant", "bee"))[:2] == ["bee: 60.00 %", "class 2: 30.00 %"]
    assert result.facts(("ant", "bee", "cat"))["classes"][2]["label"] == "ant"


def test_of_equals_the_lower_index_is_first_and_at_most_five_are_named() -> None:
    (result,) = decode([[1.0] * 9])
    assert [it.index for it in result.best] == [0, 1, 2, 3, 4]


def test_infinities_rank_and_nan_names_no_class() -> None:
    infinite, broken = decode([[0.0, np.inf, 1.0], [0.0, np.nan, 1.0]])
    assert infinite.best[0].index == 1
    assert infinite.best[0].probability == 1.0
    assert broken.lines(()) == ["no class: the model's answer is NaN"]
    assert Top1().record(broken, 1) is False


def test_top_1_is_the_share_of_right_images_among_those_chosen() -> None:
    results = decode([[1, 0], [1, 0], [0, 1], [0, 1]])
    records = [Top1().record(result, truth) for result, truth in zip(results, (0, 1, 1, 1), strict=True)]
    assert records == [True, False, True, True]
    assert Top1().value(records, np.arange(4)) == 0.75
    assert Top1().value(records, np.array([1, 1, 0, 1])) == 0.25


def test_the_role_of_the_logits_is_found_by_name_and_maps_are_refused() -> None:
    assert classify.roles({"aux": (1, 9), "logits": (1, 5)}, {}) == {"logits": "logits"}
    assert classify.roles({"first": (1, 9), "second": (1, 5)}, {}) == {"logits": "first"}
    with pytest.raises(UsageError, match="no classifier"):
        classify.roles({"map": (1, 9, 4, 4)}, {})


def test_a_drawn_picture_keeps_its_size_and_shows_the_class() -> None:
    picture = Image.new("RGB", (60, 40), (255, 255, 255))
    (result,) = decode([[0.0, 5.0]])
    drawn = result.draw(picture, ("ant", "bee"))
    assert drawn.size == picture.size
    assert np.asarray(drawn)[:14].min() < 50
    assert (np.asarray(drawn)[20:] == 255).all()
