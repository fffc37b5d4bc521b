"""TensorRT, with residual sums in integers: what `tensorrt` has, and a pair on what is added to a layer's result.

    x -> Q -> DQ -> Conv(., DQ(W), b) -> Add(., DQ(Q(x))) -> Relu -> Q -> DQ -> ...

TensorRT fuses convolution, sum, activation function and the Quantize behind them into one kernel only where the other
operand of the sum comes from integers too ("Quantize the residual input in skip connections", TensorRT's "Q/DQ
Layer-Placement Recommendations"). The convolution's own result gets no pair: that would part it from the sum. Only sums
whose result nobody reads in floating point are rounded so, with grids that layers have anyway: elsewhere a rounding
would cost accuracy and save no kernel.
"""

from __future__ import annotations

from linglos_deploy.quantization.placement import Placement

tensorrt_residual = Placement(
    name="tensorrt-residual", runtimes=("tensorrt", "tensorrt-rtx"), narrow=True, residuals=True
)
