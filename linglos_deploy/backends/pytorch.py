"""PyTorch: runs the model that is exported, so that every later stage has something to be compared with."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import Artifact, TorchModel
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.errors import ArtifactError, MissingDependencyError, RunError
from linglos_deploy.signature import Batch, Dim, ModelSignature, TensorSpec

if TYPE_CHECKING:
    import torch

_HOW_TO_GET = "pip install torch"


class PyTorch:
    """Runs PyTorch models, eagerly and in float32."""

    def __init__(self) -> None:
        self.name = "torch"

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        """Open a PyTorch model; see :class:`~linglos_deploy.backends.base.Runtime`."""
        if not isinstance(artifact, TorchModel):
            raise ArtifactError(
                "PyTorch cannot run this artifact.",
                found=type(artifact).__name__,
                expected="a loaded PyTorch model",
                next_step="run ONNX graphs with --backend onnxruntime",
            )
        import torch

        if device.kind == "cuda" and device.index >= torch.cuda.device_count():
            raise MissingDependencyError(
                f"PyTorch has no '{device}' here.",
                found=f"{torch.cuda.device_count()} CUDA devices",
                expected=f"at least {device.index + 1}",
                next_step="--device cpu",
            )
        # Moving a module changes it in place, and the caller's must stay on the CPU.
        module = artifact.module if device.kind == "cpu" else copy.deepcopy(artifact.module).to(str(device))
        yield _ModuleRunner(module, artifact, str(device))

    def probe(self) -> Probe:
        """Look at this machine, without importing torch, which takes seconds."""
        if importlib.util.find_spec("torch") is None:
            return Probe(
                name=self.name,
                installed=False,
                version=None,
                runs=False,
                compiles=False,
                detail="the package torch is not installed",
                how_to_get=_HOW_TO_GET,
            )
        return Probe(
            name=self.name,
            installed=True,
            version=importlib.metadata.version("torch"),
            runs=True,
            compiles=False,
            detail="runs PyTorch models, the reference of every export",
        )


class _ModuleRunner:
    """An open module."""

    def __init__(self, module: torch.nn.Module, model: TorchModel, device: str) -> None:
        self._module = module
        self._output_names = model.output_names
        self._device = device
        import numpy as np

        # A module does not tell what it returns; only a run does.
        height, width = model.preprocess.input_size
        outputs = self._forward(np.zeros((1, 3, height, width), np.float32))
        self._signature = ModelSignature(
            inputs=(TensorSpec("image", "float32", ("batch", 3, "height", "width")),),
            outputs=tuple(
                TensorSpec(name, array.dtype.name, _output_shape(name, array.shape)) for name, array in outputs.items()
            ),
        )

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs; sizes of feature maps are named, as they follow the image's."""
        return self._signature

    def run(self, batch: Batch) -> Batch:
        """Run one batch; see :class:`~linglos_deploy.backends.base.Runner`."""
        self._signature.check_inputs(batch)
        return self._forward(batch["image"])

    def _forward(self, image: Any) -> dict[str, Any]:
        import torch

        try:
            with torch.inference_mode():
                # A copy: torch warns of read-only arrays, such as those of a memory map.
                found = self._module(torch.tensor(image, device=self._device))
                tensors = found if isinstance(found, tuple | list) else (found,)
                arrays = [tensor.cpu().numpy() for tensor in tensors]
        except Exception as error:  # whatever a module of somebody else may raise
            raise RunError("The PyTorch model failed.", found=f"{type(error).__name__}: {error}"[-400:]) from error
        if len(arrays) != len(self._output_names):
            raise RunError(
                "The PyTorch model returns another number of tensors than it has output names.",
                found=str(len(arrays)),
                expected=", ".join(self._output_names),
            )
        return dict(zip(self._output_names, arrays, strict=True))


def _output_shape(name: str, shape: tuple[int, ...]) -> tuple[Dim, ...]:
    spatial: tuple[Dim, ...] = (f"{name}_height", f"{name}_width") if len(shape) == 4 else shape[2:]
    return ("batch", *shape[1:2], *spatial)
