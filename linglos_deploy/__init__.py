"""Take a trained PyTorch model to the edge.

    checkpoint -> torch model -> float ONNX -> calibration table -> quantization plan
        -> typed ONNX -> engine -> bundle

The names below are the public API: ten verbs, and the values that they take and return. They are imported on first
use, so that ``import linglos_deploy`` costs nothing and needs no optional package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from linglos_deploy.api import build as build
    from linglos_deploy.api import calibrate as calibrate
    from linglos_deploy.api import calibrate_criteria as calibrate_criteria
    from linglos_deploy.api import check_parity as check_parity
    from linglos_deploy.api import compare as compare
    from linglos_deploy.api import evaluate as evaluate
    from linglos_deploy.api import export as export
    from linglos_deploy.api import open_bundle as open_bundle
    from linglos_deploy.api import profile as profile
    from linglos_deploy.api import quantize as quantize
    from linglos_deploy.artifacts import EngineArtifact as EngineArtifact
    from linglos_deploy.artifacts import OnnxArtifact as OnnxArtifact
    from linglos_deploy.artifacts import TorchModel as TorchModel
    from linglos_deploy.bundle import Bundle as Bundle
    from linglos_deploy.calibration.calibrate import CalibrationConfig as CalibrationConfig
    from linglos_deploy.calibration.table import CalibrationTable as CalibrationTable
    from linglos_deploy.choices import Precision as Precision
    from linglos_deploy.engines.options import EngineOptions as EngineOptions
    from linglos_deploy.engines.profiles import InputShape as InputShape
    from linglos_deploy.engines.spec import BuildSpec as BuildSpec
    from linglos_deploy.engines.spec import ShapeRange as ShapeRange
    from linglos_deploy.errors import LinglosError as LinglosError
    from linglos_deploy.exporters.config import ExportConfig as ExportConfig
    from linglos_deploy.images.options import PreprocessOptions as PreprocessOptions
    from linglos_deploy.images.preprocessing import PreprocessSpec as PreprocessSpec
    from linglos_deploy.models.factory import ModelDescription as ModelDescription
    from linglos_deploy.models.loading import ModelSource as ModelSource
    from linglos_deploy.profiling.plan import MeasurementPlan as MeasurementPlan
    from linglos_deploy.quantization.scheme import QuantScheme as QuantScheme
    from linglos_deploy.signature import Batch as Batch
    from linglos_deploy.signature import ModelSignature as ModelSignature
    from linglos_deploy.signature import TensorSpec as TensorSpec

_HOMES = {
    "linglos_deploy.api": (
        "build",
        "calibrate",
        "calibrate_criteria",
        "check_parity",
        "compare",
        "evaluate",
        "export",
        "open_bundle",
        "profile",
        "quantize",
    ),
    "linglos_deploy.artifacts": ("EngineArtifact", "OnnxArtifact", "TorchModel"),
    "linglos_deploy.bundle": ("Bundle",),
    "linglos_deploy.calibration.calibrate": ("CalibrationConfig",),
    "linglos_deploy.calibration.table": ("CalibrationTable",),
    "linglos_deploy.choices": ("Precision",),
    "linglos_deploy.engines.options": ("EngineOptions",),
    "linglos_deploy.engines.profiles": ("InputShape",),
    "linglos_deploy.engines.spec": ("BuildSpec", "ShapeRange"),
    "linglos_deploy.errors": ("LinglosError",),
    "linglos_deploy.exporters.config": ("ExportConfig",),
    "linglos_deploy.images.options": ("PreprocessOptions",),
    "linglos_deploy.images.preprocessing": ("PreprocessSpec",),
    "linglos_deploy.models.factory": ("ModelDescription",),
    "linglos_deploy.models.loading": ("ModelSource",),
    "linglos_deploy.profiling.plan": ("MeasurementPlan",),
    "linglos_deploy.quantization.scheme": ("QuantScheme",),
    "linglos_deploy.signature": ("Batch", "ModelSignature", "TensorSpec"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]

if not TYPE_CHECKING:  # a type checker reads the imports above; to it, a __getattr__ would make every name an Any

    def __getattr__(name: str) -> object:
        try:
            module = _HOME[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
