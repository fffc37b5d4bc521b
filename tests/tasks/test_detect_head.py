"""Scores and boxes at every position become a fixed number of detections, best first."""

from __future__ import annotations

import math

import pytest
import torch

from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.tasks.kinds.detect.head import anchors, decode_boxes, suppressed
from linglos_deploy.tasks.kinds.detect.nms import suppress
from linglos_deploy.tasks.kinds.detect.select import by_position, centres, select
from tests.models.conftest import TINY


@pytest.mark.parametrize(("positions", "classes", "most"), [(40, 3, 10), (7, 5, 10), (12, 1, 12)])
def test_the_best_pairs_of_position_and_class_come_out_with_their_boxes(
    positions: int, classes: int, most: int
) -> None:
    generator = torch.Generator().manual_seed(positions)
    logits = torch.randn(2, positions, classes, generator=generator)
    boxes = torch.randn(2, positions, 4, generator=generator)
    found = select(logits, boxes, most)
    count = min(positions, most)
    assert found.shape == (2, count, 6)
    for image in range(2):
        every = [(place, label) for place in range(positions) for label in range(classes)]
        pairs = sorted(((logits[image, place, label].item(), place, label) for place, label in every), reverse=True)
        pairs = pairs[:count]
        for row, (logit, place, label) in zip(found[image], pairs, strict=True):
            assert row[4].item() == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-6)
            assert row[5].item() == label
            assert torch.equal(row[:4], boxes[image, place])


def test_scores_that_round_to_one_keep_their_order() -> None:
    """The sigmoid of 20 and of 30 are the same float32; their logits are not."""
    found = select(torch.tensor([[[20.0], [30.0]]]), torch.arange(8.0).reshape(1, 2, 4), 2)
    assert found[0, :, 0].tolist() == [4.0, 0.0]


def test_positions_are_the_centres_of_their_cells_level_by_level() -> None:
    points, steps = centres([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 2)], (8, 16))
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8], [24, 8]]
    assert steps.flatten().tolist() == [8] * 6 + [16] * 2


def test_a_maps_values_are_told_apart_by_position_and_then_by_anchor() -> None:
    level = torch.arange(2 * 6 * 2 * 3.0).reshape(2, 6, 2, 3)  # three anchors of two values
    rows = by_position(level, 2)
    assert rows.shape == (2, 18, 2)
    assert rows[1, (1 * 3 + 2) * 3 + 1].tolist() == level[1, 2:4, 1, 2].tolist()


def test_anchors_have_equal_area_by_octave_and_the_ratios_of_retinanet() -> None:
    levels = [torch.zeros(1, 1, size, size) for size in (2, 1, 1, 1, 1)]
    found = anchors(levels)
    assert found.shape == ((4 + 1 + 1 + 1 + 1) * 9, 4)
    assert found[:9, :2].unique(dim=0).tolist() == [[4, 4]]
    assert (found[:9, 2] * found[:9, 3]).tolist() == pytest.approx([(32 * 2 ** (it // 3 / 3)) ** 2 for it in range(9)])
    assert (found[:9, 3] / found[:9, 2]).tolist() == pytest.approx([0.5, 1, 2] * 3)


def test_a_regression_moves_and_grows_an_anchor_and_is_clipped_to_the_input() -> None:
    anchor = torch.tensor([[20.0, 30.0, 10.0, 20.0]])
    (box,) = decode_boxes(torch.tensor([[[0.5, -0.1, math.log(2), 0.0]]]), anchor, (64, 48))[0].tolist()
    assert box == pytest.approx([15, 18, 35, 38])
    (huge,) = decode_boxes(torch.tensor([[[0.0, 0.0, 1e6, 1e6]]]), anchor, (64, 48))[0].tolist()
    assert huge == [0, 0, 48, 64]


def test_nms_in_the_graph_keeps_what_nms_on_the_host_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 40, 2, generator=generator) * 40
    rows = torch.cat(
        (
            corners,
            corners + 4 + torch.rand(2, 40, 2, generator=generator) * 20,
            torch.rand(2, 40, 1, generator=generator),
            torch.randint(0, 3, (2, 40, 1), generator=generator).float(),
        ),
        dim=2,
    )
    rows = rows.gather(1, rows[..., 4:5].argsort(dim=1, descending=True).expand(-1, -1, 6))
    found = suppressed(rows, (64, 64))
    for image in range(2):
        numbers = rows[image].double().numpy()
        kept = suppress(numbers[:, :4], numbers[:, 4], numbers[:, 5].astype(int), overlap=0.5, most=100)
        assert len(kept) < 40
        assert torch.equal(found[image, : len(kept)], rows[image, kept.tolist()])
        assert (found[image, len(kept) :, 4] == 0).all()


@pytest.mark.parametrize(
    ("head", "size", "count"),
    [
        ("nms-free", (64, 64), 84),
        ("nms-free", (160, 128), 300),
        ("retinanet", (64, 96), 1000),
        ("retinanet", (32, 32), 207),
        ("retinanet-nms", (32, 32), 100),
    ],
)
def test_a_head_answers_with_a_fixed_number_of_rows(head: str, size: tuple[int, int], count: int) -> None:
    torch.manual_seed(0)
    model = LinGlo(TINY, task="detect", settings={"head": head, "width": "32"}).eval()
    with torch.inference_mode():
        found = model(torch.randn(2, 3, *size))
    assert found.shape == (2, count, 6)
    assert (found[..., 2] >= found[..., 0]).all()
    assert (found[..., 3] >= found[..., 1]).all()
    assert (found[:, :-1, 4] >= found[:, 1:, 4]).all()
    assert set(found[..., 5].unique().tolist()) <= set(range(TINY.num_classes))
