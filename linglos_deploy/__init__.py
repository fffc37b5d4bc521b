"""Take a trained PyTorch LinGlo model to the edge.

    checkpoint -> torch model -> float ONNX -> calibration table -> quantization plan
        -> typed ONNX -> engine -> bundle

The names below are the public API. They are imported on first use, so that ``import linglos_deploy`` costs
nothing and needs no optional package.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Batch": "linglos_deploy.signature",
    "ModelSignature": "linglos_deploy.signature",
    "TensorSpec": "linglos_deploy.signature",
    "PreprocessSpec": "linglos_deploy.images.preprocessing",
    "LinglosError": "linglos_deploy.errors",
    "EngineArtifact": "linglos_deploy.artifacts",
    "OnnxArtifact": "linglos_deploy.artifacts",
    "TorchModel": "linglos_deploy.artifacts",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    try:
        module = _EXPORTS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
