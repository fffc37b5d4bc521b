"""PyTorch: runs the model that is exported, so that every later stage has something to be compared with."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import BATCH_AXIS, Artifact, TorchModel
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.errors import ArtifactError, MissingDependencyError, RunError
from linglos_deploy.reports.profile import LayerProfile
from linglos_deploy.signature import Batch, Dim, ModelSignature, TensorSpec

if TYPE_CHECKING:
    import torch

HOW_TO_GET = "pip install 'linglos-deploy[export]'"


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

    def layer_times(self, artifact: Artifact, batch: Batch, *, runs: int) -> LayerProfile | None:
        """Return the time of each operator by PyTorch's profiler; see :class:`~.base.LayerTimer`."""
        if not isinstance(artifact, TorchModel):
            return None
        from linglos_deploy.backends.torch_layers import torch_layers

        with self.open(artifact) as runner:
            return torch_layers(artifact.module, lambda: runner.run(batch), runs=runs)

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
                how_to_get=HOW_TO_GET,
            )
        return Probe(
            name=self.name,
            installed=True,
            version=importlib.metadata.version("torch"),
            runs=True,
            compiles=False,
            detail="runs PyTorch models, the reference of every export",
        )


@dataclass(frozen=True, slots=True)
class Noise:
    """How far float32 is from float64 on the way through a module, for one output.

    Attributes:
        max_relative: Largest difference over the largest magnitude.
        sqnr_db: Ratio of the energies of float64's answer and of the difference, in decibels.
    """

    max_relative: float
    sqnr_db: float


def float32_noise(model: TorchModel, batches: Iterable[Batch]) -> dict[str, Noise] | None:
    """Run a module in float32 and in float64 on the same inputs; tell per output what float32 itself costs.

    A graph cannot be asked to agree with the module more closely than the module agrees with itself: sums of an
    ill-conditioned network, or two boxes with nearly the same score, come out otherwise in another order.

    Args:
        model: The model.
        batches: Inputs, read once.

    Returns:
        Infinite noise where an output differs in shape or in what is finite; ``None`` if the module does not run in
        float64, because it makes float32 tensors of its own, say.
    """
    import numpy as np

    worst: dict[str, list[float]] = {name: [0.0, 0.0, 0.0, 0.0] for name in model.output_names}
    try:
        with PyTorch().open(model) as single:
            answers = [(batch, dict(single.run(batch))) for batch in batches]
        with PyTorch(double=True).open(model) as double:
            for batch, answer in answers:
                for name, exact in double.run(batch).items():
                    difference, largest, noise, signal = _distance(np.asarray(exact), np.asarray(answer[name]))
                    sums = worst[name]
                    sums[:] = [max(sums[0], difference), max(sums[1], largest), sums[2] + noise, sums[3] + signal]
    except RunError:
        return None
    return {
        name: Noise(
            max_relative=difference / largest if largest else difference,
            sqnr_db=math.inf if not noise else 10 * math.log10(signal / noise) if signal else -math.inf,
        )
        for name, (difference, largest, noise, signal) in worst.items()
    }


def _distance(exact: Any, found: Any) -> tuple[float, float, float, float]:
    """Return the largest difference and magnitude, and the energies of difference and exact answer."""
    import numpy as np

    one, other = exact.astype(np.float64), found.astype(np.float64)
    if one.shape != other.shape:
        return math.inf, 1.0, math.inf, 1.0
    finite = np.isfinite(one)
    same = np.array_equal(finite, np.isfinite(other)) and np.array_equal(one[~finite], other[~finite], equal_nan=True)
    if not same:
        return math.inf, 1.0, math.inf, 1.0
    difference = one[finite] - other[finite]
    return (
        float(np.abs(difference).max(initial=0.0)),
        float(np.abs(one[finite]).max(initial=0.0)),
        float((difference**2).sum()),
        float((one[finite] ** 2).sum()),
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
        larger = self._try(model, 1, more=1) if model.preprocess is None and model.sizes else known
        moved = larger if not isinstance(larger, Exception) else known
        self._signature = ModelSignature(
            inputs=model.inputs,
            outputs=tuple(
                TensorSpec(
                    name,
                    array.dtype.name,
                    _output_shape(name, array, other.get(name), moved[name], model),
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

    def _try(self, model: TorchModel, batch: int, *, more: int = 0) -> dict[str, Any] | RunError:
        """Run zeros, with other named sizes than nominal if asked for; a module may take one size only."""
        import numpy as np

        sizes = {name: size + more for name, size in model.sizes.items()}
        shapes = replace(model, sizes=sizes).input_shapes(batch=batch) if more else model.input_shapes(batch=batch)
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


def _output_shape(name: str, array: Any, other_array: Any, moved: Any, model: TorchModel) -> tuple[Dim, ...]:
    """Return which axes follow the batch, and which may follow another size of the input.

    Args:
        name: Of the output.
        array: What came out of a run of one batch size.
        other_array: What came out of another; ``None`` if there was only one, so samples lie along the first axis.
        moved: What came out of a run with other sizes than the batch's; the first if there was none.
        model: Says whether it takes images.
    """
    one: tuple[int, ...] = array.shape
    two = other_array.shape if other_array is not None else (2, *one[1:]) if one[:1] == (1,) else one
    if not len(one) == len(two) == moved.ndim:
        return tuple(f"{name}_{axis}" for axis in range(len(one)))
    spatial = len(one) == 4 and any(dim in spec.dims for spec in model.inputs for dim in ("height", "width"))
    shape: list[Dim] = []
    for axis, (size, other) in enumerate(zip(one, two, strict=True)):
        if size != other:
            shape.append(BATCH_AXIS if (size, other) == (1, 2) else f"{name}_{axis}")
        elif spatial and axis >= 2:
            shape.append(f"{name}_{('height', 'width')[axis - 2]}")
        elif moved.shape[axis] != array.shape[axis]:
            shape.append(f"{name}_{axis}")
        else:
            shape.append(size)
    return tuple(shape)
