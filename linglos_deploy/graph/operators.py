"""What is known of each operator of ONNX, once: one row each, read by whoever asks.

Calibration asks which inputs are data, quantization which one is the weight and where its output channels lie, sixteen
bits which inputs may not be narrowed and which results lose too much. A new quantized operator is a row here.

Rows describe the operator in every opset that has it, after the operator documentation of ONNX
(https://onnx.ai/onnx/operators/).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Protocol

from linglos_deploy.compat import StrEnum

STANDARD_DOMAINS = ("", "ai.onnx")


@unique
class OutputAxis(Enum):
    """Where a weight keeps its output channels."""

    FIRST = "the first axis"
    SECOND = "the second axis, of which each group of the operator has its own copy"
    KEPT = "the axis that the matrix product does not sum over"


@unique
class Quantized(StrEnum):
    """How an operator takes part in INT8."""

    LAYER = "integers times a constant weight with one scale per output channel"
    PRODUCT = "the product of two activations, each with one scale"
    SUM = "a sum of activations, each with one scale"
    POOL = "a mean or maximum within one tensor, whose scale it keeps"
    JOIN = "a concatenation, whose parts need one scale between them"
    LAYOUT = "moves integers as it moves floats"
    NONE = "stays in floating point"


@unique
class Risk(StrEnum):
    """Why 16 bits may be too few."""

    RANGE = "its result outgrows 16 bits: float16 ends at 65504"
    TINY = "it divides by, or takes the root or logarithm of, what may be too small for 16 bits"
    TERMS = "it sums many terms"
    NORMALIZED = "it sums squares and divides by their root"
    PROBABILITIES = "its results are as small as 1/N, where float16 has few digits left"
    STEPS = "its result decides or addresses: a rounding changes it altogether"
    UNKNOWN = "nothing is known of it"


@unique
class Work(Enum):
    """How the multiplications of an operator are counted; see :func:`linglos_deploy.graph.costs.cost`."""

    NONE = "moves or looks at values"
    ELEMENTWISE = "a few operations per value, no multiplications to speak of"
    CONVOLUTION = "output values x the weight's size per output channel"
    TRANSPOSED = "input values x the weight's size per input channel"
    MATMUL = "output values x the length of the sum"
    EINSUM = "the product of all sizes in the equation"
    ATTENTION = "two products over all pairs of positions"
    RECURRENT = "steps x the sizes of both weights"
    UNKNOWN = "not counted"


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table. Inputs are numbered from 0.

    Attributes:
        op_type: Its name.
        data: Inputs that carry what flows through the network; the others are weights, shapes, limits.
        variadic: Whether every input behind the last of ``data`` is data too.
        weights: Inputs that can hold the weight, the usual one first. An input may be data as well: a ``MatMul`` has
            a weight where one of its two inputs is constant.
        output_axis: Where the weight keeps its output channels; ``None`` without weights.
        bias: The input that is added to the result, if there is one.
        quantized: How it takes part in INT8.
        float32_inputs: Inputs that stay float32 whatever the precision, because the operator takes nothing else.
        sets_type: Whether the type of the result follows from an attribute or is fixed, not from the inputs.
        risk: Why 16 bits may be too few, ``None`` where they do.
        work: How its multiplications are counted.
        selects: Whether its result may lack some values of its data.
        subgraphs: Whether it carries graphs of its own, which run once, never or many times.
        known: Whether ONNX defines it; for others every answer is the careful one.
    """

    op_type: str
    data: tuple[int, ...] = (0,)
    variadic: bool = False
    weights: tuple[int, ...] = ()
    output_axis: OutputAxis | None = None
    bias: int | None = None
    quantized: Quantized = Quantized.NONE
    float32_inputs: tuple[int, ...] = ()
    sets_type: bool = False
    risk: Risk | None = None
    work: Work = Work.ELEMENTWISE
    selects: bool = False
    subgraphs: bool = False
    known: bool = True

    def __post_init__(self) -> None:
        assert (self.output_axis is None) == (not self.weights), self.op_type
        assert not (self.layout and len(self.data) != 1), self.op_type
        assert self.quantized is not Quantized.LAYER or self.weights, self.op_type

    @property
    def layout(self) -> bool:
        """Whether every value of the result is a value of its one data input: it moves, and computes nothing."""
        return self.quantized is Quantized.LAYOUT

    @property
    def layer(self) -> bool:
        """Whether it multiplies integers with a constant weight, in INT8."""
        return self.quantized is Quantized.LAYER

    def data_inputs(self, count: int) -> tuple[int, ...]:
        """Return which of ``count`` inputs are data."""
        rest = range(self.data[-1] + 1, count) if self.variadic else ()
        return tuple(index for index in (*self.data, *rest) if index < count)

    def weight_axis(self, weight: int, rank: int, *, transposed: bool = False) -> int | None:
        """Return the axis of the weight's output channels, or ``None`` if it has none.

        Args:
            weight: Which input holds the weight.
            rank: Its number of axes.
            transposed: Whether the node transposes it first (``transA``, ``transB`` of Gemm).

        >>> operator("MatMul").weight_axis(1, 2), operator("Gemm").weight_axis(1, 2, transposed=True)
        (1, 0)
        """
        if self.output_axis is OutputAxis.FIRST:
            return 0
        if self.output_axis is OutputAxis.SECOND:
            return 1
        if self.output_axis is None or rank < 2:  # the product with a vector sums over its only axis
            return None
        columns = (weight == 1) != transposed
        return rank - 1 if columns else rank - 2


class OperatorNode(Protocol):
    """A node of ``onnx`` or of ``onnx_ir``."""

    @property
    def op_type(self) -> str:
        """Name of its operator."""

    @property
    def domain(self) -> str:
        """Who defines the operator; empty for ONNX itself."""


def operator(node: OperatorNode | str) -> Operator:
    """Return the row of a node, or of an operator of ONNX by name.

    An operator that the table does not know has an answer too, the careful one: all its inputs are data, it stays in
    floating point, at risk in 16 bits, its work is not counted, and :attr:`Operator.known` is false.
    """
    if isinstance(node, str):
        name, standard = node, True
    else:
        name, standard = str(node.op_type), node.domain in STANDARD_DOMAINS
    found = _TABLE.get(name) if standard else None
    return found or Operator(name, variadic=True, risk=Risk.UNKNOWN, work=Work.UNKNOWN, known=False)


def operators() -> Iterable[Operator]:
    """Return every row."""
    return _TABLE.values()


def _layout(op_type: str, *, selects: bool = False) -> Operator:
    return Operator(op_type, quantized=Quantized.LAYOUT, work=Work.NONE, selects=selects)


def _shape(op_type: str, *data: int) -> Operator:
    """Make the row of what looks at a tensor, or makes one out of sizes and attributes."""
    return Operator(op_type, data, sets_type=True, work=Work.NONE)


_ROWS = (
    # Layers: a weight, constant as a rule, times what flows through.
    Operator(
        "Conv",
        weights=(1,),
        output_axis=OutputAxis.FIRST,
        bias=2,
        quantized=Quantized.LAYER,
        work=Work.CONVOLUTION,
    ),
    Operator(
        "ConvTranspose",
        weights=(1,),
        output_axis=OutputAxis.SECOND,
        bias=2,
        quantized=Quantized.LAYER,
        work=Work.TRANSPOSED,
    ),
    Operator(
        "Gemm",
        data=(0, 1),
        weights=(1, 0),
        output_axis=OutputAxis.KEPT,
        bias=2,
        quantized=Quantized.LAYER,
        work=Work.MATMUL,
    ),
    Operator(
        "MatMul",
        data=(0, 1),
        weights=(1, 0),
        output_axis=OutputAxis.KEPT,
        quantized=Quantized.LAYER,
        work=Work.MATMUL,
    ),
    Operator("CausalConvWithState", data=(0, 3), weights=(1,), output_axis=OutputAxis.FIRST, bias=2, work=Work.UNKNOWN),
    Operator("DeformConv", data=(0, 2, 4), weights=(1,), output_axis=OutputAxis.FIRST, bias=3, work=Work.CONVOLUTION),
    Operator("Einsum", variadic=True, risk=Risk.TERMS, work=Work.EINSUM),
    Operator("LSTM", data=(0, 5, 6), weights=(1, 2), output_axis=OutputAxis.SECOND, bias=3, work=Work.RECURRENT),
    Operator("GRU", data=(0, 5), weights=(1, 2), output_axis=OutputAxis.SECOND, bias=3, work=Work.RECURRENT),
    Operator("RNN", data=(0, 5), weights=(1, 2), output_axis=OutputAxis.SECOND, bias=3, work=Work.RECURRENT),
    # Attention in one operator: its softmax is inside.
    Operator("Attention", data=(0, 1, 2, 4, 5), risk=Risk.PROBABILITIES, work=Work.ATTENTION),
    Operator("LinearAttention", data=(0, 1, 2, 3, 4, 5), risk=Risk.TERMS, work=Work.UNKNOWN),
    Operator("RotaryEmbedding"),
    # Sums and products.
    Operator("Add", data=(0, 1), quantized=Quantized.SUM),
    Operator("Sub", data=(0, 1)),
    Operator("Sum", variadic=True, quantized=Quantized.SUM),
    Operator("Mean", variadic=True),
    Operator("Mul", data=(0, 1)),
    Operator("Div", data=(0, 1), risk=Risk.TINY),
    Operator("Mod", data=(0, 1), risk=Risk.STEPS),
    Operator("Pow", data=(0, 1), risk=Risk.RANGE),
    Operator("Max", variadic=True),
    Operator("Min", variadic=True),
    Operator("SwiGLU", data=(0, 1)),
    Operator("Where", data=(1, 2), work=Work.NONE),
    # Functions of one value.
    Operator("Abs"),
    Operator("Acos"),
    Operator("Acosh", risk=Risk.TINY),
    Operator("Asin"),
    Operator("Asinh"),
    Operator("Atan"),
    Operator("Atanh", risk=Risk.TINY),
    Operator("Ceil", risk=Risk.STEPS),
    Operator("Celu"),
    Operator("Clip"),
    Operator("Cos"),
    Operator("Cosh", risk=Risk.RANGE),
    Operator("Elu"),
    Operator("Erf"),
    Operator("Exp", risk=Risk.RANGE),
    Operator("Floor", risk=Risk.STEPS),
    Operator("Gelu"),
    Operator("HardSigmoid"),
    Operator("HardSwish"),
    Operator("LeakyRelu"),
    Operator("Log", risk=Risk.TINY),
    Operator("Mish"),
    Operator("Neg"),
    Operator("PRelu"),
    Operator("Reciprocal", risk=Risk.TINY),
    Operator("Relu"),
    Operator("Round", risk=Risk.STEPS),
    Operator("Selu"),
    Operator("Shrink"),
    Operator("Sigmoid"),
    Operator("Sign"),
    Operator("Sin"),
    Operator("Sinh", risk=Risk.RANGE),
    Operator("Softplus"),
    Operator("Softsign"),
    Operator("Sqrt", risk=Risk.TINY),
    Operator("Swish"),
    Operator("Tan", risk=Risk.TINY),
    Operator("Tanh"),
    Operator("ThresholdedRelu"),
    # Norms. Those with a `stash_type` keep their sums in float32 by themselves.
    Operator("LayerNormalization"),
    Operator("RMSNormalization"),
    Operator("BatchNormalization"),
    Operator("GroupNormalization", risk=Risk.NORMALIZED),  # stash_type since opset 21 only
    Operator("InstanceNormalization", risk=Risk.NORMALIZED),
    Operator("LRN", risk=Risk.NORMALIZED),
    Operator("LpNormalization", risk=Risk.NORMALIZED),
    Operator("MeanVarianceNormalization", risk=Risk.NORMALIZED),
    # Over an axis.
    Operator("Softmax", risk=Risk.PROBABILITIES),
    Operator("LogSoftmax", risk=Risk.PROBABILITIES),
    Operator("Hardmax", risk=Risk.STEPS),
    Operator("ReduceL1", risk=Risk.TERMS),
    Operator("ReduceL2", risk=Risk.NORMALIZED),
    Operator("ReduceLogSum", risk=Risk.TERMS),
    Operator("ReduceLogSumExp", risk=Risk.TERMS),
    Operator("ReduceMax"),
    Operator("ReduceMean", risk=Risk.TERMS),
    Operator("ReduceMin"),
    Operator("ReduceProd", risk=Risk.RANGE),
    Operator("ReduceSum", risk=Risk.TERMS),
    Operator("ReduceSumSquare", risk=Risk.TERMS),
    Operator("CumProd", risk=Risk.RANGE),
    Operator("CumSum", risk=Risk.TERMS),
    Operator("ArgMax", sets_type=True, risk=Risk.STEPS),
    Operator("ArgMin", sets_type=True, risk=Risk.STEPS),
    Operator("TopK", risk=Risk.STEPS),
    Operator("Unique", risk=Risk.STEPS),
    Operator("Det", risk=Risk.TERMS, work=Work.UNKNOWN),
    Operator("DFT", risk=Risk.TERMS, work=Work.UNKNOWN),
    Operator("STFT", risk=Risk.TERMS, work=Work.UNKNOWN),
    Operator("NegativeLogLikelihoodLoss", risk=Risk.TERMS),
    Operator("SoftmaxCrossEntropyLoss", risk=Risk.TERMS),
    # Pools.
    Operator("AveragePool", quantized=Quantized.POOL),
    Operator("MaxPool", quantized=Quantized.POOL),
    Operator("GlobalAveragePool", quantized=Quantized.POOL, risk=Risk.TERMS),
    Operator("GlobalMaxPool", quantized=Quantized.POOL),
    Operator("LpPool", risk=Risk.NORMALIZED),
    Operator("GlobalLpPool", risk=Risk.NORMALIZED),
    Operator("MaxRoiPool", risk=Risk.STEPS),
    Operator("MaxUnpool", work=Work.NONE),
    # Sampling between positions; positions are float32 numbers.
    Operator("Resize", float32_inputs=(1, 2)),  # roi may be 16 bits wide, scales may not; both are positions
    Operator("Upsample", float32_inputs=(1,)),
    Operator("GridSample", data=(0, 1), risk=Risk.STEPS),
    Operator("AffineGrid", risk=Risk.STEPS),
    Operator("RoiAlign", data=(0, 1), risk=Risk.STEPS),
    Operator("NonMaxSuppression", data=(0, 1), float32_inputs=(0, 1, 3, 4), sets_type=True, risk=Risk.STEPS),
    # Moving values.
    _layout("Compress", selects=True),
    _layout("DepthToSpace"),
    _layout("Dropout"),  # nothing but a copy, once trained
    _layout("Expand"),
    _layout("Flatten"),
    _layout("Gather", selects=True),
    _layout("GatherElements", selects=True),
    _layout("GatherND", selects=True),
    _layout("Identity"),
    _layout("Reshape"),
    _layout("ReverseSequence"),
    _layout("Slice", selects=True),
    _layout("SpaceToDepth"),
    _layout("Split", selects=True),
    _layout("Squeeze"),
    _layout("Tile"),
    _layout("Transpose"),
    _layout("Unsqueeze"),
    Operator("Concat", variadic=True, quantized=Quantized.JOIN, work=Work.NONE),
    Operator("CenterCropPad", work=Work.NONE),
    Operator("Col2Im"),
    Operator("Pad", work=Work.NONE),
    Operator("Scatter", data=(0, 2), work=Work.NONE),
    Operator("ScatterElements", data=(0, 2), work=Work.NONE),
    Operator("ScatterND", data=(0, 2), work=Work.NONE),
    Operator("TensorScatter", data=(0, 1), work=Work.NONE),
    Operator("Trilu", work=Work.NONE),
    # Types, shapes and tensors out of nothing.
    Operator("BitCast", sets_type=True, risk=Risk.STEPS, work=Work.NONE),
    Operator("Cast", sets_type=True, work=Work.NONE),
    Operator("CastLike", sets_type=True, work=Work.NONE),
    _shape("Constant"),
    _shape("ConstantOfShape", 0),
    _shape("EyeLike", 0),
    _shape("NonZero", 0),
    _shape("OneHot", 0),
    _shape("Range", 0, 1, 2),
    _shape("Shape", 0),
    _shape("Size", 0),
    _shape("Bernoulli", 0),
    _shape("Multinomial", 0),
    _shape("RandomNormal"),
    _shape("RandomNormalLike", 0),
    _shape("RandomUniform"),
    _shape("RandomUniformLike", 0),
    _shape("BlackmanWindow", 0),
    _shape("HammingWindow", 0),
    _shape("HannWindow", 0),
    _shape("MelWeightMatrix", 0, 1, 2, 3, 4),
    _shape("ImageDecoder", 0),
    # Comparisons and logic.
    Operator("Equal", data=(0, 1), sets_type=True, risk=Risk.STEPS),
    Operator("Greater", data=(0, 1), sets_type=True),
    Operator("GreaterOrEqual", data=(0, 1), sets_type=True),
    Operator("Less", data=(0, 1), sets_type=True),
    Operator("LessOrEqual", data=(0, 1), sets_type=True),
    Operator("IsInf", sets_type=True),
    Operator("IsNaN", sets_type=True),
    Operator("And", data=(0, 1), sets_type=True),
    Operator("Or", data=(0, 1), sets_type=True),
    Operator("Xor", data=(0, 1), sets_type=True),
    Operator("Not", sets_type=True),
    Operator("BitShift", data=(0, 1)),
    Operator("BitwiseAnd", data=(0, 1)),
    Operator("BitwiseNot"),
    Operator("BitwiseOr", data=(0, 1)),
    Operator("BitwiseXor", data=(0, 1)),
    # Integers already.
    Operator("QuantizeLinear", sets_type=True, work=Work.ELEMENTWISE),
    Operator("DequantizeLinear", sets_type=True, work=Work.ELEMENTWISE),
    Operator("DynamicQuantizeLinear", float32_inputs=(0,), sets_type=True),
    Operator("ConvInteger", weights=(1,), output_axis=OutputAxis.FIRST, sets_type=True, work=Work.CONVOLUTION),
    Operator(
        "MatMulInteger",
        data=(0, 1),
        weights=(1, 0),
        output_axis=OutputAxis.KEPT,
        sets_type=True,
        work=Work.MATMUL,
    ),
    Operator(
        "QLinearConv",
        weights=(3,),
        output_axis=OutputAxis.FIRST,
        bias=8,
        float32_inputs=(1, 4, 6),
        sets_type=True,
        work=Work.CONVOLUTION,
    ),
    Operator("QLinearMatMul", data=(0, 3), float32_inputs=(1, 4, 6), sets_type=True, work=Work.MATMUL),
    # Graphs inside graphs.
    Operator("If", data=(), subgraphs=True, work=Work.UNKNOWN),
    Operator("Loop", data=(2,), variadic=True, subgraphs=True, work=Work.UNKNOWN),
    Operator("Scan", variadic=True, subgraphs=True, work=Work.UNKNOWN),
    Operator("SequenceMap", data=(0, 1), variadic=True, subgraphs=True, work=Work.UNKNOWN),
    # Sequences, optionals and text.
    Operator("ConcatFromSequence", work=Work.NONE),
    Operator("Optional", work=Work.NONE),
    Operator("OptionalGetElement", work=Work.NONE),
    _shape("OptionalHasElement", 0),
    Operator("SequenceAt", work=Work.NONE),
    Operator("SequenceConstruct", variadic=True, work=Work.NONE),
    _shape("SequenceEmpty"),
    Operator("SequenceErase", work=Work.NONE),
    Operator("SequenceInsert", data=(0, 1), work=Work.NONE),
    _shape("SequenceLength", 0),
    Operator("SplitToSequence", work=Work.NONE),
    _shape("RegexFullMatch", 0),
    _shape("StringConcat", 0, 1),
    _shape("StringNormalizer", 0),
    _shape("StringSplit", 0),
    _shape("TfIdfVectorizer", 0),
)
_TABLE = {row.op_type: row for row in _ROWS}
