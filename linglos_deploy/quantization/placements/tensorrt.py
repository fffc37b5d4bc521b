"""TensorRT: symmetric INT8, pairs in front of layers and nothing behind, so that bias and activation function fuse.

    x -> Q -> DQ -> Conv(., DQ(W), b) -> Gelu -> ...

Zero points are 0 and biases stay in floating point: TensorRT takes neither otherwise. It is the form that every runtime
reads, and the only one whose parts in floating point may be 16 bits wide.
"""

from __future__ import annotations

from linglos_deploy.quantization.placement import Placement

tensorrt = Placement(name="tensorrt", runtimes=("tensorrt", "tensorrt-rtx"), narrow=True)
