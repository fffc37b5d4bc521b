"""PyTorch: runs the model that is exported, so that every later stage has something to be compared with."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import BATCH_AXIS, Artifact, TorchModel
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.errors import ArtifactError, MissingDependencyError, RunError
from linglos_deploy.signature import Batch, Dim, ModelSignature, TensorSpec

if TYPE_CHECKING:
    import torch

_HOW_TO_GET = "pip install torch"


class PyTorch:
    """Runs PyTorch models, eagerly.

    Args:
        double: Compute in float64 instead of float32: a referee that tells how much of a difference is rounding.
    """

    def __init__(self, *, double: bool = False) -> None:
        self.name = "torch"
        self.double = double

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
        # Moving a module changes it in place, and the caller's must stay as it is.
        module = artifact.module
        if device.kind != "cpu":
            module = copy.deepcopy(module).to(str(device))
        if not self.double:
            yield _ModuleRunner(module, artifact, str(device))
            return
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # what the module makes on the way shall be float64, too
        try:
            yield _ModuleRunner(copy.deepcopy(module).double(), artifact, str(device), double=True)
        finally:
            torch.set_default_dtype(default)

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

    def __init__(self, module: torch.nn.Module, model: TorchModel, device: str, *, double: bool = False) -> None:
        self._module = module
        self._output_names = model.output_names
        self._device = device
        self._double = double
        # A module does not tell what it returns; only runs do: two batch sizes tell which axes follow the batch.
        seen = {batch: self._try(model, batch) for batch in (1, 2)}
        one, two = seen[1], seen[2]
        known = one if not isinstance(one, Exception) else two
        if isinstance(known, Exception):
            raise known
        other = two if not isinstance(two, Exception) else {}
        self._signature = ModelSignature(
            inputs=model.inputs,
            outputs=tuple(
                TensorSpec(
                    name,
                    array.dtype.name,
                    _output_shape(name, array, other.get(name), model),
                )
                for name, array in known.items()
            ),
        )

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs; sizes of feature maps are named, as they follow the image's."""
        return self._signature

    def run(self, batch: Batch) -> Batch:
        """Run one batch; see :class:`~linglos_deploy.backends.base.Runner`."""
        self._signature.check_inputs(batch)
        return self._forward({name: batch[name] for name in self._signature.input_names})

    def _try(self, model: TorchModel, batch: int) -> dict[str, Any] | RunError:
        """Run zeros; a module may take one batch size only."""
        import numpy as np

        shapes = model.input_shapes(batch=batch)
        try:
            return self._forward({spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in model.inputs})
        except RunError as error:
            return error

    def _forward(self, batch: Batch) -> dict[str, Any]:
        import torch

        from linglos_deploy.backends.calling import call, returned

        try:
            with torch.inference_mode():
                # Copies: torch warns of read-only arrays, such as those of a memory map.
                tensors = {name: torch.tensor(array, device=self._device) for name, array in batch.items()}
                if self._double:
                    tensors = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
                found = returned(call(self._module, tensors)).tensors
                arrays = [tensor.cpu().numpy() for _, tensor in found]
        except Exception as error:  # whatever a module of somebody else may raise
            raise RunError("The PyTorch model failed.", found=f"{type(error).__name__}: {error}"[-400:]) from error
        if len(arrays) != len(self._output_names):
            raise RunError(
                "The PyTorch model returns another number of tensors than it has output names.",
                found=str(len(arrays)),
                expected=", ".join(self._output_names),
            )
        return dict(zip(self._output_names, arrays, strict=True))


def _output_shape(name: str, array: Any, other_array: Any, model: TorchModel) -> tuple[Dim, ...]:
    """Return which axes follow the batch, and which may follow another size of the input.

    Args:
        name: Of the output.
        array: What came out of a run of one batch size.
        other_array: What came out of another; ``None`` if there was only one, so samples lie along the first axis.
        model: Says whether there are other sizes than the batch's.
    """
    one: tuple[int, ...] = array.shape
    two = other_array.shape if other_array is not None else (2, *one[1:]) if one[:1] == (1,) else one
    if len(one) != len(two):
        return tuple(f"{name}_{axis}" for axis in range(len(one)))
    spatial = len(one) == 4 and any(dim in spec.dims for spec in model.inputs for dim in ("height", "width"))
    shape: list[Dim] = []
    for axis, (size, other) in enumerate(zip(one, two, strict=True)):
        if size != other:
            shape.append(BATCH_AXIS if (size, other) == (1, 2) else f"{name}_{axis}")
        elif spatial and axis >= 2:
            shape.append(f"{name}_{('height', 'width')[axis - 2]}")
        else:
            shape.append(size)
    return tuple(shape)
