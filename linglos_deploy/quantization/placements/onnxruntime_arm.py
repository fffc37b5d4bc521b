"""ONNX Runtime on Arm: as on x86, but in INT8, which its kernels for sdot and i8mm take.

The grids are those of x86, with every integer 128 lower: both graphs give the same answer.
"""

from __future__ import annotations

from dataclasses import replace

from linglos_deploy.quantization.placement import Integers
from linglos_deploy.quantization.placements.onnxruntime_x86 import onnxruntime_x86

onnxruntime_arm = replace(
    onnxruntime_x86,
    name="onnxruntime-arm",
    machines=("aarch64", "arm64"),
    integers=Integers.INT8,
    saturating_session_options={},
)
