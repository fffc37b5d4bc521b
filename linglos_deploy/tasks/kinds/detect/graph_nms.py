"""Non-maximum suppression as an operator of PyTorch, which the exporter writes as ONNX's NonMaxSuppression.

before: linglos::keep(boxes, scores)
after:  NonMaxSuppression(boxes, scores) -> Gather(batch and box) -> ScatterND(ones into zeros)

The list that NonMaxSuppression returns is as long as the data make it; the mask that it becomes has a fixed shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18 as op
from torch import Tensor

from linglos_deploy.tasks.kinds.detect.nms import suppress
from linglos_deploy.tasks.translations import TRANSLATIONS


@torch.library.custom_op("linglos::keep", mutates_args=())
def keep(boxes: Tensor, scores: Tensor, overlap: float, most: int) -> Tensor:
    """Return 1 for every box that stays, and 0 for the others.

    Args:
        boxes: N x K x 4, of all classes in one; those of different classes must lie apart.
        scores: N x K.
        overlap: Intersection over union from which on the fainter box goes.
        most: Boxes of an image that stay, at most.
    """
    mask = torch.zeros_like(scores)
    for image in range(len(boxes)):
        edges, shares = (it[image].detach().double().numpy() for it in (boxes, scores))
        labels = np.zeros(len(shares), np.int64)
        mask[image, torch.from_numpy(suppress(edges, shares, labels, overlap=overlap, most=most))] = 1
    return mask


@keep.register_fake
def _(boxes: Tensor, scores: Tensor, overlap: float, most: int) -> Tensor:
    return torch.empty_like(scores)


def _write(boxes: Any, scores: Any, overlap: float, most: int) -> Any:
    chosen: Any = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, _whole(1)), _whole(most), _real(overlap))
    pairs: Any = op.Gather(chosen, _whole(0, 2), axis=1)
    ones: Any = op.Expand(_real(1.0), op.Slice(op.Shape(chosen), _whole(0), _whole(1)))
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT, [1], [0.0])
    return op.ScatterND(op.ConstantOfShape(op.Shape(scores), value=zero), pairs, ones)


def _whole(*numbers: int) -> Any:
    return op.Constant(value_ints=list(numbers))


def _real(*numbers: float) -> Any:
    return op.Constant(value_floats=list(numbers))


TRANSLATIONS[torch.ops.linglos.keep.default] = _write
