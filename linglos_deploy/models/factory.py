"""Other people's modules: ``package.module:factory`` names a function without arguments that returns one.

The function returns a :class:`torch.nn.Module` with its weights in place, or a :class:`ModelDescription` if it also
wants to say how images are prepared, what the classes are called or what sizes it takes:

    def classifier():
        model = MyNet()
        model.load_state_dict(torch.load("best.pt", weights_only=True))
        return ModelDescription(model, preprocess=PreprocessSpec(input_size=(160, 160)), labels=("cat", "dog"))

The module takes float32 N x 3 x H x W unless ``inputs`` says what else, and returns tensors in any nesting of tuples,
lists, dicts and dataclasses that PyTorch knows as trees, such as the ``ModelOutput`` of transformers:

    def encoder():
        tokens = ModelInput("input_ids", ("batch", "tokens"), dtype="int64", sizes={"tokens": 32})
        return ModelDescription(BertModel.from_pretrained("here"), inputs=(tokens,), trained=True)

A class that can be called without arguments is a factory, too. Naming one runs its code; a checkpoint never does.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import BATCH_AXIS
from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import Dim

if TYPE_CHECKING:
    from torch import nn

SPEC = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
EXAMPLE = "--model mypackage.models:build"
INPUT_TYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a module.

    Attributes:
        name: Its name in the graph. If ``forward`` has parameters of all inputs' names, it is called by keyword.
        shape: One entry per axis: a fixed size, or a name. ``"batch"`` is the axis along which samples lie; the others
            follow the nominal ``sizes``, and become dynamic with ``--dynamic``.
        dtype: NumPy's name of the element type.
        sizes: Nominal size of each named axis but the batch.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "float32"
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if not self.name.isidentifier():
            raise UsageError(f"'{self.name}' is no name of an input.", expected="a Python identifier")
        if self.dtype not in INPUT_TYPES:
            raise UsageError(
                f"Input '{self.name}' has an unknown element type.", found=self.dtype, expected=", ".join(INPUT_TYPES)
            )
        wrong = [dim for dim in (*self.shape, *self.sizes.values()) if isinstance(dim, int) and dim < 1]
        if wrong:
            raise UsageError(f"Input '{self.name}' has a size below 1.", found=str(wrong[0]))


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A module and what its author wants to say about it.

    Attributes:
        module: The model, weights in place.
        name: Short name used for files; empty for the factory's own name.
        preprocess: How images become its input; ``None`` for the defaults. A model with ``inputs`` has none.
        labels: Class names, empty if unknown.
        output_names: One per tensor that it returns; empty for the keys of what it returns, ``logits``, or
            ``features_<stride>`` for feature maps.
        num_classes: Outputs of a classifier; ``None`` to see them by running it.
        size_divisor: Height and width must be multiples of this.
        inputs: What it takes; empty for one image.
        trained: Whether the weights are trained; ``None`` if that is not known. The best class of other weights is a
            matter of chance, so it is judged for trained ones only.
    """

    module: nn.Module
    name: str = ""
    preprocess: PreprocessSpec | None = None
    labels: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    num_classes: int | None = None
    size_divisor: int = 1
    inputs: tuple[ModelInput, ...] = ()
    trained: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "output_names", tuple(self.output_names))
        if self.size_divisor < 1:
            raise UsageError("size_divisor must be at least 1.", found=str(self.size_divisor))
        if self.inputs and self.preprocess is not None:
            raise UsageError(
                "A description has both preprocessing and inputs.",
                found=", ".join(each.name for each in self.inputs),
                expected="preprocess for a model that takes one image, inputs for any other",
            )
        _check_inputs(self.inputs)


def _check_inputs(inputs: tuple[ModelInput, ...]) -> None:
    """Check that names differ, and that every named axis has one size."""
    names = [each.name for each in inputs]
    if len(set(names)) != len(names):
        raise UsageError("Two inputs have one name.", found=", ".join(names), expected="different names")
    sizes: dict[str, int] = {}
    for each in inputs:
        for axis, size in each.sizes.items():
            if sizes.setdefault(axis, size) != size:
                raise UsageError(f"Axis '{axis}' has two sizes.", found=f"{sizes[axis]} and {size}")
    open_axes = {dim for each in inputs for dim in each.shape if isinstance(dim, str) and dim != BATCH_AXIS}
    missing = sorted(open_axes - set(sizes))
    if missing:
        raise UsageError(
            f"Axis '{missing[0]}' has no size.",
            found=", ".join(f"{each.name}[{', '.join(map(str, each.shape))}]" for each in inputs),
            expected="the nominal size of every named axis but 'batch'",
            next_step=f"ModelInput(..., sizes={{'{missing[0]}': 16}})",
        )


def describe_factory(spec: str) -> ModelDescription:
    """Import and call a factory.

    Args:
        spec: ``package.module:factory``, found on ``sys.path``.

    Raises:
        UsageError: There is no such module or function, it fails, or it returns no module.
    """
    factory = _import(spec)
    try:
        made = factory()
    except LinglosError:
        raise
    except Exception as error:
        raise UsageError(
            f"The model factory '{spec}' failed.",
            found=f"{type(error).__name__}: {error}",
            expected="a function without arguments that returns a torch.nn.Module",
            next_step=f"try it alone: {_shell_call(spec)}",
        ) from error
    return _describe(made, spec=spec)


def check_spec(spec: str) -> None:
    """Check the form of a factory's name, without importing anything.

    Raises:
        UsageError: It is not ``package.module:factory``.
    """
    if not SPEC.fullmatch(spec):
        raise UsageError(
            f"'{spec}' does not name a model factory.",
            expected="package.module:factory, with dots between packages and one colon",
            next_step=f"write it as in {EXAMPLE}",
        )


def _import(spec: str) -> Any:
    check_spec(spec)
    module_name, _, attribute = spec.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The model factory '{spec}' cannot be imported.",
            found=f"no module named '{error.name}'",
            expected=f"'{module_name}' on Python's module path",
            next_step=f"install it, or run with PYTHONPATH=<the folder that holds {module_name.split('.')[0]}>",
        ) from error
    except Exception as error:
        raise UsageError(
            f"Importing '{module_name}' failed.",
            found=f"{type(error).__name__}: {error}",
            next_step=f'try it alone: python -c "import {module_name}"',
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise UsageError(
                f"There is no '{attribute}' in module '{module_name}'.",
                found=_callables(found),
                expected=f"a function named '{name}'",
                next_step=f"name one of these as in {EXAMPLE}",
            )
        found = getattr(found, name)
    return found


def _shell_call(spec: str) -> str:
    module, _, attribute = spec.partition(":")
    return f'python -c "import {module}; {module}.{attribute}()"'


def _describe(made: object, *, spec: str) -> ModelDescription:
    from torch import nn

    from linglos_deploy.models.linglo import LinGlo
    from linglos_deploy.models.variants import STRIDES

    name = spec.rpartition(":")[2]
    if isinstance(made, LinGlo):
        size = made.config.image_size
        return ModelDescription(made, name, preprocess=PreprocessSpec((size, size)), size_divisor=STRIDES[-1])
    if isinstance(made, nn.Module):
        return ModelDescription(made, name)
    if isinstance(made, ModelDescription) and isinstance(made.module, nn.Module):
        return replace(made, name=made.name or name)
    held = made.module if isinstance(made, ModelDescription) else made
    raise UsageError(
        f"The model factory '{spec}' returned no model.",
        found=f"a {type(held).__name__}",
        expected="a torch.nn.Module, or a linglos_deploy.models.factory.ModelDescription that holds one",
        next_step="let the function return the model itself",
    )


def _callables(module: object) -> str:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    return ", ".join(names[:8]) or "nothing that can be called"
