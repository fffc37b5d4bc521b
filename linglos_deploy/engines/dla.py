"""``--target dla``: which layers of a graph a DLA core would take, by NVIDIA's documented rules. Nothing is run.

Rules: "DLA Supported Layers and Restrictions" of TensorRT's documentation, and the table "Supported ONNX Operators on
Orin DLA" of NVIDIA/Deep-Learning-Accelerator-SW. What they leave open is answered with neither yes nor no.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from linglos_deploy.graph.topology import Shape

DLA = "dla"
"""What ``--target`` takes."""

LARGEST_SIDE = 8192
LARGEST_BATCH = 4096


@dataclass(frozen=True, slots=True)
class DlaLayer:
    """A layer.

    Attributes:
        node: Its name.
        op_type: Its operator.
        taken: Whether a DLA core takes it; ``None`` where the documents do not settle it.
        reason: Why not, or what is open; empty where it does.
    """

    node: str
    op_type: str
    taken: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DlaReport:
    """What the documented rules say of a graph.

    Attributes:
        graph: Its path.
        layers: All of them in graph order, without constants and arithmetic on shapes.
        notes: What holds for all of them.
    """

    graph: str
    layers: tuple[DlaLayer, ...]
    notes: tuple[str, ...]

    def count(self, taken: bool | None) -> int:
        """Return how many layers have an answer."""
        return sum(layer.taken is taken for layer in self.layers)

    @property
    def summary(self) -> str:
        """All of it in one sentence."""
        unsettled = self.count(None)
        rest = f", {unsettled} may" if unsettled else ""
        counts = f"{self.count(True)} of {len(self.layers)} layers would run on a DLA core{rest}"
        return f"{counts}, by NVIDIA's documented rules; nothing was built or run"


def dla_preflight(path: Path) -> DlaReport:
    """Hold every layer of a graph against the documented rules.

    Raises:
        ArtifactError: The file is no usable ONNX model.
    """
    from linglos_deploy.artifacts import load_onnx

    model = load_onnx(path)
    facts = _Facts.of(model)
    layers = tuple(
        DlaLayer(node.name or f"node_of_{node.output[0]}", node.op_type, *_judge(node, facts))
        for node in model.graph.node
        if facts.is_layer(node)
    )
    return DlaReport(str(path), layers, _notes(model, facts))


def refuse_to_build(path: Path | None = None) -> UsageError:
    """Return the error of who asks for an engine on a DLA core.

    Args:
        path: The graph; its preflight is part of the answer.
    """
    return UsageError(
        "This program builds no engines for DLA cores; it says what a core would take.",
        found=dla_preflight(path).summary if path else f"--target {DLA}",
        expected="another target, or none",
        next_step=f"linglos-deploy inspect {path or 'MODEL.onnx'} --target {DLA}",
    )


_Answer = tuple[bool | None, str]
_TAKEN: _Answer = (True, "")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the rules ask about a graph."""

    shapes: Mapping[str, Shape]
    types: Mapping[str, int]
    fixed: Mapping[str, onnx.TensorProto]
    makers: Mapping[str, onnx.NodeProto]
    foldable: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Facts:
        from linglos_deploy.graph.topology import constants, producers, value_shapes, value_types

        fixed = constants(model.graph)
        foldable = set(fixed)
        for node in model.graph.node:
            if node.op_type != "Constant" and all(name in foldable for name in node.input if name) and node.input:
                foldable.update(node.output)
        return cls(value_shapes(model), value_types(model), fixed, producers(model.graph), frozenset(foldable))

    def is_layer(self, node: onnx.NodeProto) -> bool:
        from onnx import TensorProto

        integers = {TensorProto.INT64, TensorProto.BOOL}
        return (
            node.op_type not in {"Constant", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"}
            and not all(name in self.foldable for name in node.output)
            and not all(self.types.get(name) in integers for name in node.output if name)
        )

    def array(self, name: str) -> np.ndarray | None:
        """Return the values of a constant, of the float behind a Q/DQ pair too; ``None`` where there is none."""
        from onnx import numpy_helper

        tensor = self.fixed.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def dims(self, name: str) -> Shape | None:
        return self.shapes.get(name)


def _notes(model: onnx.ModelProto, facts: _Facts) -> tuple[str, ...]:
    from onnx import TensorProto

    notes = []
    open_axes = {str(dim) for value in model.graph.input for dim in facts.dims(value.name) or () if _is_open(dim)}
    if open_axes:
        notes.append(f"a DLA core has one shape: every profile needs one size for {', '.join(sorted(open_axes))}")
    if TensorProto.FLOAT in facts.types.values():
        notes.append("a DLA core computes in FP16 and INT8: what is float32 in this graph would be rounded")
    notes.append("DLA is part of TensorRT up to 10.7, and from 11.4.1 on for AGX Orin; Thor has none")
    return tuple(notes)


def _is_open(dim: object) -> bool:
    return not isinstance(dim, int)


def _judge(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    """Return whether a core takes a layer, and why not."""
    from onnx import TensorProto

    if node.domain not in {"", "ai.onnx"}:
        return False, f"no DLA layer for {node.domain}'s {node.op_type}"
    if node.op_type in _REWRITTEN:
        return False, "only rewritten as other operators, as NVIDIA's op_reconstruction does"
    rule = _RULES.get(node.op_type)
    if rule is None:
        return False, f"there is no DLA layer for {node.op_type}"
    floats = [name for name in (*node.input, *node.output) if name and facts.types.get(name) == TensorProto.BFLOAT16]
    if floats:
        return False, "bfloat16, and a DLA core has FP16 and INT8 only"
    for name in (*(name for name in node.input if name and name not in facts.foldable), *node.output):
        if reason := _too_large(name, facts.dims(name)):
            return False, reason
    taken, reason = rule(node, facts)
    if taken and any(facts.makers[name].op_type == "DequantizeLinear" for name in node.input if name in facts.makers):
        return None, "it stands behind Q/DQ pairs, of which DLA took none up to TensorRT 10.7"
    return taken, reason


def _too_large(name: str, shape: Shape | None) -> str:
    if shape is None:
        return f"nothing is known about the shape of '{name}'"
    if any(_is_open(dim) for dim in shape[1:]):
        return f"'{name}' has an open size besides the batch"
    if any(isinstance(dim, int) and dim > LARGEST_SIDE for dim in shape[1:]):
        return f"'{name}' has a side above {LARGEST_SIDE}"
    if shape and isinstance(shape[0], int) and shape[0] > LARGEST_BATCH:
        return f"a batch above {LARGEST_BATCH}"
    return ""


def _planes(node: onnx.NodeProto, facts: _Facts) -> str:
    """Say why a layer has no two spatial dimensions; empty if it has."""
    data = [name for name in node.input if name and name not in facts.foldable]
    ranks = {len(facts.dims(name) or ()) for name in data}
    return "" if ranks == {4} else f"two spatial dimensions only, and its inputs have {_ranks(ranks)}"


def _ranks(ranks: set[int]) -> str:
    return f"{' and '.join(map(str, sorted(ranks)))} axes"


def _numbers(node: onnx.NodeProto, name: str, default: Sequence[int]) -> list[int]:
    from linglos_deploy.graph.topology import attribute

    found = attribute(node, name)
    return list(default) if found is None else list(found.ints)


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    from linglos_deploy.graph.topology import attribute

    found = attribute(node, name)
    return default if found is None else int(found.i)


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    from linglos_deploy.graph.topology import attribute

    found = attribute(node, name)
    return default if found is None else found.s.decode()


def _outside(what: str, values: Sequence[int], low: int, high: int) -> str:
    return "" if all(low <= it <= high for it in values) else f"{what} {_by(values)}, outside {low} to {high}"


def _by(values: Sequence[int]) -> str:
    return " x ".join(map(str, values))


def _first(*problems: str) -> _Answer:
    found = next((it for it in problems if it), "")
    return not found, found


def _convolution(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    if reason := _planes(node, facts):
        return False, reason
    weight, data = facts.dims(node.input[1]), facts.dims(node.input[0])
    if node.input[1] not in facts.foldable or weight is None or data is None:
        return False, "its weights are computed"
    kernel = [int(dim) for dim in weight[2:] if dim is not None]
    pads, dilations = _numbers(node, "pads", [0] * 4), _numbers(node, "dilations", [1, 1])
    banks = _banks(int(data[1] or 0), int(data[3] or 0), kernel, dilations[0])
    return _first(
        _outside("a kernel of", kernel, 1, 32),
        _outside("a stride of", _numbers(node, "strides", [1, 1]), 1, 8),
        _outside("padding of", pads, 0, 31),
        "padding as wide as the kernel" if any(it >= size for it, size in zip(pads, kernel * 2, strict=True)) else "",
        _outside("a dilation of", dilations, 1, 32),
        _outside("groups:", [_number(node, "group", 1)], 1, LARGEST_SIDE),
        f"its weights and data need {banks} banks of the convolution buffer, which has 16" if banks > 16 else "",
    )


def _banks(channels: int, width: int, kernel: Sequence[int], dilation: int) -> int:
    """Return the banks of the convolution buffer that a convolution needs in FP16, as the restrictions compute them."""
    weights = math.ceil(math.ceil(channels * kernel[0] * kernel[1] * 2 / 128) * 128 / 32768)
    slices = math.ceil(math.ceil(channels * 2 / 32) * width / 4)
    return weights + math.ceil(slices * ((kernel[0] - 1) * dilation + 1) / 256)


def _transposed(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    if reason := _planes(node, facts):
        return False, reason
    weight = facts.dims(node.input[1])
    if node.input[1] not in facts.foldable or weight is None:
        return False, "its weights are computed"
    kernel = [int(dim) for dim in weight[2:] if dim is not None]
    strides = _numbers(node, "strides", [1, 1])
    long = sorted(kernel)[0] == 1 and sorted(kernel)[1] in {64, 96, 128}
    slow = kernel[0] == kernel[1] and kernel == strides and 23 <= kernel[0] <= 32
    return _first(
        "" if long else _outside("a kernel of", kernel, 1, 32),
        "TensorRT leaves kernels as large as their stride from 23 on to the GPU" if slow else "",
        _outside("padding of", _numbers(node, "pads", [0] * 4), 0, 0),
        _outside("groups:", [_number(node, "group", 1)], 1, 1),
        _outside("a dilation of", _numbers(node, "dilations", [1, 1]), 1, 1),
    )


def _product(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    weight = facts.dims(node.input[1])
    if node.input[1] not in facts.foldable:
        return False, "the product of two activations; a core needs constant weights"
    return _first("" if weight is None else _outside("channels:", [int(it or 0) for it in weight], 1, LARGEST_SIDE))


def _pool(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    if reason := _planes(node, facts):
        return False, reason
    pads = _numbers(node, "pads", [0] * 4)
    taken, reason = _first(
        _outside("a window of", _numbers(node, "kernel_shape", []), 1, 8),
        _outside("padding of", pads, 0, 7),
        _outside("a stride of", _numbers(node, "strides", [1, 1]), 1, 16),
    )
    if taken and node.op_type == "AveragePool" and any(pads) and not _number(node, "count_include_pad", 0):
        return None, "a mean that leaves its padding out"
    return taken, reason


def _planar(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    return _first(_planes(node, facts))


def _clip(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    if reason := _planes(node, facts):
        return False, reason
    low, high = (facts.array(name) if name else None for name in (*node.input[1:3], "", "")[:2])
    if low is None or high is None or float(low) != 0 or not 1 <= float(high) <= 127:
        return False, "clipped from 0 to a constant of 1 to 127 only"
    return _TAKEN


def _slope(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    return _first(_planes(node, facts), "" if node.input[1] in facts.foldable else "its slope is computed")


def _concat(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    axis = _number(node, "axis", 1)
    return _first(
        _planes(node, facts),
        "" if axis in {1, -3} else f"joined along axis {axis}; a core joins channels",
        "" if len(node.input) > 1 else "only one input",
    )


def _resize(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    if reason := _planes(node, facts):
        return False, reason
    before, after = facts.dims(node.input[0]) or (), facts.dims(node.output[0]) or ()
    if before[:2] != after[:2]:
        return False, "it resizes the batch or the channels"
    mode = _text(node, "mode", "nearest")
    most = {"nearest": 32, "linear": 4}.get(mode)
    if most is None:
        return False, f"{mode}; a core resizes to the nearest or linearly"
    sides = [(new, old) for new, old in zip(after[2:], before[2:], strict=True)]
    scales = [new / old for new, old in sides if isinstance(new, int) and isinstance(old, int) and old]
    if any(scale != int(scale) or not 1 <= scale <= most for scale in scales):
        return False, f"{mode} by {' x '.join(f'{it:g}' for it in scales)}; a core takes whole factors of 1 to {most}"
    return _TAKEN


def _softmax(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    if reason := _planes(node, facts):
        return False, reason
    shape = facts.dims(node.output[0]) or ()
    axis = _number(node, "axis", -1) % 4
    others = [dim for index, dim in enumerate(shape) if index not in {0, axis}]
    if axis == 0:
        return False, "over the batch"
    return (True, "") if set(others) == {1} else (None, "on Orin; older releases want every other size to be 1")


def _moved(node: onnx.NodeProto, facts: _Facts) -> _Answer:
    shapes = [facts.dims(node.input[0]) or (), facts.dims(node.output[0]) or ()]
    ranks = {len(shape) for shape in shapes}
    if ranks != {4}:
        return False, f"four axes only, and it goes from {len(shapes[0])} to {len(shapes[1])}"
    return None, "for four axes, within limits that differ between releases"


def _listed(_node: onnx.NodeProto, _facts: _Facts) -> _Answer:
    return None, "listed for newer releases, within limits that this check does not know"


_RULES: Mapping[str, Callable[[onnx.NodeProto, _Facts], _Answer]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _product,
    "MatMul": _product,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "Clip": _clip,
    "PRelu": _slope,
    "Concat": _concat,
    "Resize": _resize,
    "Upsample": _resize,
    "Softmax": _softmax,
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "LeakyRelu", "BatchNormalization", "Abs", "LRN"), _planar),
    **dict.fromkeys(("Add", "Sub", "Mul", "Max", "Sum"), _planar),
    **dict.fromkeys(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice"), _moved),
    **dict.fromkeys(("Min", "Div", "Pow", "Sin", "Cos", "Atan", "Equal", "Greater", "Less", "ReduceMax"), _listed),
}
"""Operator -> rule; what is not here has no DLA layer."""

_REWRITTEN = frozenset(
    {"And", "DepthToSpace", "Gather", "GRU", "Neg", "Not", "Or", "ScatterElements", "SpaceToDepth", "Where", "Xor"}
)
