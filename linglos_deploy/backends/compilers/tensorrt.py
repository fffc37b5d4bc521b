"""TensorRT 10.3 to 11.x, which builds for the GPU at hand."""

from __future__ import annotations

from linglos_deploy.backends.trt.factory import factory
from linglos_deploy.backends.trt.flavour import TENSORRT

tensorrt = factory(TENSORRT)
