"""OpenVINO on CPUs: UINT8 with a zero point, pairs in front of layers and nothing behind.

    x -> Q -> DQ -> Conv(., DQ(W), b) -> Gelu -> ...

Bias, activation function and the next pair's Quantize fuse into the convolution, so a pair behind it would only be more
work. What an activation function makes is rarely symmetric; 256 steps between its limits cost what 255 around zero do.
"""

from __future__ import annotations

from linglos_deploy.quantization.placement import Integers, Placement

openvino = Placement(name="openvino", runtimes=("openvino",), integers=Integers.UINT8, zero_points=True)
