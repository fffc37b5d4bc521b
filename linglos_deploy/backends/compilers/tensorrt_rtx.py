"""TensorRT-RTX, which builds on any x86-64 machine."""

from __future__ import annotations

from linglos_deploy.backends.trt.factory import factory
from linglos_deploy.backends.trt.flavour import TENSORRT_RTX

tensorrt_rtx = factory(TENSORRT_RTX)
