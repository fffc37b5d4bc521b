"""What a task is: the few functions in which one kind of model differs from another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from linglos_deploy.errors import UsageError
from linglos_deploy.images.preprocessing import Fit, Frame, PreprocessSpec
from linglos_deploy.progress import Progress
from linglos_deploy.signature import Batch, Decoding, ModelSignature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

Shapes = tuple[tuple[int, ...], ...]
"""Shape of each output, in order."""

__all__ = ["Decoding", "Examples", "Group", "Metric", "ModelFacts", "Result", "Setting", "Settings", "Shapes", "Task"]

Settings = Mapping[str, str]
"""What was chosen of a task's settings, by name."""


View = Callable[["NDArray[np.generic]", "NDArray[np.generic]"], Mapping[str, tuple["Any", "Any"]]]
"""From a reference's and a candidate's output to pairs of arrays by part; images lie along the first axis of each."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One choice that a task leaves to whoever exports a model.

    Attributes:
        name: Its name.
        values: What can be chosen; the first one is the default.
        meaning: What it decides, in a few words.
    """

    name: str
    values: tuple[str, ...]
    meaning: str


class Result(Protocol):
    """What a model says about one picture."""

    def lines(self, labels: Sequence[str]) -> list[str]:
        """Return it as text, most important first."""
        ...

    def facts(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return it as JSON values."""
        ...

    def draw(self, picture: Image.Image, labels: Sequence[str]) -> Image.Image:
        """Return a new picture that shows it."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """A few examples, ready for a model.

    Attributes:
        batch: The model's input.
        ids: Name of each example.
        frames: Where each picture lies in the input.
        truths: What is known of each, as the task's metric wants it.
    """

    batch: Batch
    ids: tuple[str, ...]
    frames: tuple[Frame, ...]
    truths: tuple[Any, ...]


class Examples(Protocol):
    """Pictures of which the truth is known."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each example."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was taken for granted or left out."""
        ...

    def groups(self, size: int, signature: ModelSignature) -> Iterator[Group]:
        """Yield all examples, ``size`` at a time, in the form that a model takes.

        Raises:
            DataError: An example cannot be read.
        """
        ...


class Metric(Protocol):
    """Judges results against the truth, from one record an example, so that any choice of examples can be judged."""

    @property
    def name(self) -> str:
        """Its name, such as ``"top-1"``; a share, 1 at best."""
        ...

    @property
    def draws(self) -> int:
        """How many resampled sets of examples its interval comes from."""
        ...

    def record(self, result: Any, truth: Any) -> Any:
        """Return what counts of one example; truth or falsity where an example is right or wrong as a whole."""
        ...

    def value(self, records: Sequence[Any], places: NDArray[np.int64]) -> float:
        """Return the metric over the records at ``places``, where one may stand more than once."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a task needs to know of a model beyond its outputs.

    Attributes:
        spec: How images become its input.
        labels: Its class names, empty if unknown.
        outputs: Shape of each output; a size that is open is ``None``.
        decoding: What they mean.
    """

    spec: PreprocessSpec
    labels: tuple[str, ...]
    outputs: Mapping[str, tuple[int | None, ...]]
    decoding: Decoding


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of model.

    Attributes:
        name: Its name, also that of its module.
        summary: One line for the help.
        name_outputs: Names outputs by their shapes and the input's height and width; for somebody else's module.
        roles: Says which output plays which role; raises a UsageError where the outputs are not this task's.
        count_classes: Tells from the outputs' shapes how many classes there are; ``None`` where they do not tell.
        decode: Turns outputs into one result a picture; pictures lie along the first axis.
        settings: What can be chosen when a model is exported.
        outputs: Names what LinGlo with this task's head returns, for the settings.
        suffix: What a LinGlo for this task has at the end of its name.
        has_classes: Whether class names make sense.
        num_classes: Of random weights for which nobody names the classes; ``None`` for the variant's own.
        head: Makes what stands on a backbone's four maps: from their channels, the number of classes and the settings.
            Called with the maps and the input's height and width. ``None`` where LinGlo itself answers.
        class_tensor: Weight whose first axis counts the classes, in a checkpoint.
        float_layers: Names, as regular expressions, of the layers of ``head`` whose numbers are the answer: they stay
            in floating point whatever the precision of the rest.
        indices: Roles whose numbers are class indices: parity compares them for being equal, not for being near.
        views: How two answers for a role are made comparable, where their rows have no fixed order; parity compares
            the parts.
        fit: How pictures become the input where nobody says.
        image_size: Side of the square input of a LinGlo where nobody says, in pixels; ``None`` for the variant's own.
        examples: Opens pictures of which the truth is known; ``None`` where there is none to know.
        metric: Judges results on them.
    """

    name: str
    summary: str
    name_outputs: Callable[[Shapes, tuple[int, int], Settings], tuple[str, ...]]
    roles: Callable[[Mapping[str, tuple[int | None, ...]], Settings], Mapping[str, str]]
    count_classes: Callable[[Mapping[str, tuple[int | None, ...]], Decoding], int | None]
    decode: Callable[[Batch, Decoding, Sequence[Frame]], list[Result]]
    outputs: Callable[[Settings], tuple[str, ...]]
    settings: tuple[Setting, ...] = ()
    suffix: str = ""
    has_classes: bool = True
    num_classes: int | None = None
    head: Callable[[Sequence[int], int, Settings], nn.Module] | None = None
    class_tensor: str | None = None
    float_layers: tuple[str, ...] = ()
    indices: tuple[str, ...] = ()
    views: Mapping[str, View] = field(default_factory=dict)
    fit: Fit = Fit.COVER
    image_size: int | None = None
    examples: Callable[[Path, ModelFacts, Progress], Examples] | None = None
    metric: Callable[[ModelFacts], Metric] | None = None

    def decoding(self, outputs: Mapping[str, tuple[int | None, ...]], settings: Settings) -> Decoding:
        """Return what outputs of these shapes mean.

        Raises:
            UsageError: They are not those of this task.
        """
        return Decoding(self.name, dict(self.roles(outputs, settings)), dict(settings))

    def complete(self, chosen: Settings) -> dict[str, str]:
        """Return every setting: what was chosen, and the defaults.

        Raises:
            UsageError: There is no such setting, or no such value.
        """
        known = {setting.name: setting for setting in self.settings}
        for name, value in chosen.items():
            if name not in known or value not in known[name].values:
                raise UsageError(
                    f"The task '{self.name}' has no setting '{name}={value}'.",
                    found=f"{name}={value}",
                    expected=self.describe_settings() or "no settings",
                    next_step="see 'linglos-deploy export --help' and docs/tasks.md",
                )
        return {name: chosen.get(name, setting.values[0]) for name, setting in known.items()}

    def describe_settings(self) -> str:
        """Return every setting with its values, such as ``output=scores|classes``."""
        return ", ".join(f"{setting.name}={'|'.join(setting.values)}" for setting in self.settings)
