"""ONNX Runtime on x86: UINT8 with a zero point, pairs on both sides of convolutions, INT32 biases.

    x -> Q -> DQ -> Conv(., DQ(W), DQ(b)) -> Q -> DQ -> Gelu -> Q -> DQ -> ...

It makes a QLinearConv only where a Quantize follows and both sides have one type; without, the convolution runs in
floating point, on weights that are dequantized at every run. Products of matrices need no pair behind them: they return
floating point from the 32-bit sum (MatMulIntegerToFloat, QGemm), and take their bias as INT32 (QGemm). There is no
integer ConvTranspose. Sums, means and concatenations become integers where that takes no rounding that a layer does not
need.
"""

from __future__ import annotations

from linglos_deploy.quantization.placement import Integers, Placement

onnxruntime_x86 = Placement(
    name="onnxruntime-x86",
    runtimes=("onnxruntime",),
    machines=("x86_64", "AMD64"),
    integers=Integers.UINT8,
    zero_points=True,
    layers=frozenset({"Conv", "Gemm", "MatMul"}),
    stores=frozenset({"Conv"}),
    between=frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool"}),
    biases=frozenset({"Conv", "Gemm"}),
    saturating_session_options={"session.x64quantprecision": "1"},
)
