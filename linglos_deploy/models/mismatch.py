"""How the weights of a checkpoint differ from those a model expects, said so that it can be put right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.errors import CheckpointError

if TYPE_CHECKING:
    import torch

CLASSIFIER_TENSORS = ("norm.weight", "norm.bias", "head.weight", "head.bias")
"""What a LinGlo backbone has not, and a classifier has."""

COUNTER = ".num_batches_tracked"
"""Batch normalization's step counter: training needs it, inference does not, and some checkpoints leave it out."""


SHOWN = 3
"""How many names of each kind a message shows."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How the tensors found differ from those expected; empty if they fit.

    Attributes:
        missing: Names that are expected and not there.
        unexpected: Names that are there and not expected.
        reshaped: Name, shape found and shape expected, where a name has another shape.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def describe(self) -> str:
        """Return one line with counts and the first few names of each kind."""
        shapes = [f"{name} {_shape(found)} for {_shape(wanted)}" for name, found, wanted in self.reshaped]
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        return "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds if names)


def compare(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> Mismatch:
    """Compare names and shapes."""
    return Mismatch(
        missing=tuple(name for name in expected if name not in found and not name.endswith(COUNTER)),
        unexpected=tuple(name for name in found if name not in expected),
        reshaped=tuple(
            (name, tuple(found[name].shape), tuple(tensor.shape))
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ),
    )


def explain_mismatch(
    mismatch: Mismatch, tensors: Mapping[str, torch.Tensor], *, path: Path, variant: str | None
) -> CheckpointError:
    """Return the error for a checkpoint that does not fit a LinGlo; it names the nearest variant."""
    target = f"variant '{variant}'" if variant else "a LinGlo"
    return _error(mismatch, path=path, target=target, next_step=_advice(mismatch, tensors, variant))


def explain_factory_mismatch(mismatch: Mismatch, *, path: Path, spec: str) -> CheckpointError:
    """Return the error for a checkpoint that does not fit the module that a factory made."""
    advice = "use a checkpoint that was saved from this model"
    return _error(mismatch, path=path, target=f"the model of '{spec}'", next_step=advice)


def _error(mismatch: Mismatch, *, path: Path, target: str, next_step: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint '{path}' does not fit {target}.",
        found=mismatch.describe(),
        expected="every weight of the model, by name and shape, and no others",
        next_step=next_step,
    )


def _advice(mismatch: Mismatch, tensors: Mapping[str, torch.Tensor], variant: str | None) -> str:
    from linglos_deploy.models.sizes import infer_depths, infer_dims, nearest_variant

    if mismatch == Mismatch(missing=CLASSIFIER_TENSORS, unexpected=(), reshaped=()):
        return "this is a backbone without a classifier: --task features"
    if mismatch.missing and all(name.startswith("head.") for name in mismatch.missing):
        return "the checkpoint has no head for this task: say with --task what it was trained for"
    nearest, share = nearest_variant(tensors)
    if not share:
        return "no variant of LinGlo has such weights; bring the model itself with --model package.module:factory"
    advice = f"the nearest variant is '{nearest}', which shares {share:.0%} of the weights' names and shapes"
    if variant is None:
        return f"{advice}; bring a changed architecture with --model package.module:factory"
    sizes = f"dims {infer_dims(tensors)} and depths {infer_depths(tensors)}"
    return f"{advice}; leave --variant out to take {sizes} from the checkpoint"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _first(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
