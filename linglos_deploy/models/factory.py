"""Other people's modules: ``package.module:factory`` names a function without arguments that returns one.

The function returns a :class:`torch.nn.Module` with its weights in place, or a :class:`ModelDescription` if it also
wants to say how images are prepared, what the classes are called or what sizes it takes:

    def classifier():
        model = MyNet()
        model.load_state_dict(torch.load("best.pt", weights_only=True))
        return ModelDescription(model, preprocess=PreprocessSpec(input_size=(160, 160)), labels=("cat", "dog"))

The module takes float32 N x 3 x H x W and returns a tensor or a tuple of tensors. A class that can be called without
arguments is a factory, too. Naming one runs its code; a checkpoint never does.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.images.preprocessing import PreprocessSpec

if TYPE_CHECKING:
    from torch import nn

SPEC = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
EXAMPLE = "--model mypackage.models:build"


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A module and what its author wants to say about it.

    Attributes:
        module: The model, weights in place.
        name: Short name used for files; empty for the factory's own name.
        preprocess: How images become its input; ``None`` for the defaults.
        labels: Class names, empty if unknown.
        output_names: One per output; empty for ``logits``, or ``features_<stride>`` for feature maps.
        num_classes: Outputs of a classifier; ``None`` to see them by running it.
        size_divisor: Height and width must be multiples of this.
    """

    module: nn.Module
    name: str = ""
    preprocess: PreprocessSpec | None = None
    labels: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    num_classes: int | None = None
    size_divisor: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "output_names", tuple(self.output_names))
        if self.size_divisor < 1:
            raise UsageError("size_divisor must be at least 1.", found=str(self.size_divisor))


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
