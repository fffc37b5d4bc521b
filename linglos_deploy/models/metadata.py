"""What a checkpoint says about its model, beside the weights.

In a safetensors file this is the header's ``__metadata__``: names to text. In a ``.pt`` file it is a dictionary under
``metadata`` or ``config``, whose values may be plain Python values. All keys are optional, other keys are ignored:

================= =========================== ===========================================================
key               example                     meaning
================= =========================== ===========================================================
``schema``        ``linglos.checkpoint/1``    written by :func:`linglos_deploy.models.checkpoint.save_checkpoint`
``variant``       ``s``                       default for ``dims`` and ``depths``
``dims``          ``[32, 64, 160, 256]``      channels of the four stages
``depths``        ``[1, 2, 5, 2]``            pairs of layers in the four stages
``num_classes``   ``1000``                    outputs of the classifier
``image_size``    ``[224, 224]`` or ``224``   height and width it was trained at, in pixels
``mean``          ``[0.485, 0.456, 0.406]``   per-channel mean of the pixels, in [0, 1]
``std``           ``[0.229, 0.224, 0.225]``   per-channel standard deviation
``crop_pct``      ``0.95``                    share of the resized image that the centre crop keeps
``interpolation`` ``bicubic``                 filter of the resize, ``bicubic`` or ``bilinear``
``labels``        ``["tench", "goldfish"]``   class names, one per class
``task``          ``segment``                 what it is for; a classifier if nothing is said
``settings``      ``{"output": "scores"}``    what is chosen of the task's settings
``fit``           ``letterbox``               how an image of any shape becomes one of the input's shape
================= =========================== ===========================================================

Text, except ``schema``, ``variant``, ``interpolation``, ``task`` and ``fit``, is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from linglos_deploy.errors import CheckpointError, UsageError
from linglos_deploy.images.preprocessing import Fit, Interpolation, PreprocessSpec
from linglos_deploy.models.variants import VARIANTS, LinGloConfig
from linglos_deploy.tasks.registry import task_names

SCHEMA = "linglos.checkpoint/1"
PLAIN_TEXT = ("variant", "interpolation", "task", "fit")
Stages = tuple[int, int, int, int]
Channels = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CheckpointMetadata:
    """The metadata of a checkpoint; ``None`` where it says nothing. See the module for the keys."""

    variant: str | None = None
    dims: Stages | None = None
    depths: Stages | None = None
    num_classes: int | None = None
    image_size: tuple[int, int] | None = None
    mean: Channels | None = None
    std: Channels | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    labels: tuple[str, ...] | None = None
    task: str | None = None
    settings: Mapping[str, str] | None = None
    fit: Fit | None = None

    @classmethod
    def of(
        cls,
        config: LinGloConfig,
        preprocess: PreprocessSpec,
        *,
        labels: Sequence[str] = (),
        task: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> CheckpointMetadata:
        """Return all that there is to say about a LinGlo with this configuration and preprocessing."""
        return cls(
            dims=config.dims,
            depths=config.depths,
            num_classes=config.num_classes,
            image_size=preprocess.input_size,
            mean=preprocess.mean,
            std=preprocess.std,
            crop_pct=preprocess.crop_pct,
            interpolation=preprocess.interpolation,
            labels=tuple(labels) or None,
            task=task,
            settings=settings,
            fit=None if task is None and preprocess.fit is Fit.COVER else preprocess.fit,
        )

    def preprocess(self, input_size: tuple[int, int]) -> PreprocessSpec:
        """Return the preprocessing at ``input_size``, defaults where the metadata says nothing.

        Raises:
            UsageError: The values make no preprocessing.
        """
        said = {name: getattr(self, name) for name in ("mean", "std", "crop_pct", "interpolation", "fit")}
        return PreprocessSpec(
            input_size=input_size, **{name: value for name, value in said.items() if value is not None}
        )


def parse_metadata(entries: Mapping[str, Any], *, source: str) -> CheckpointMetadata:
    """Read what a checkpoint says about its model.

    Args:
        entries: Keys and values as stored.
        source: What an error message calls the file.

    Raises:
        CheckpointError: A known key has a value of the wrong type or meaning.
    """
    known = {field.name for field in fields(CheckpointMetadata)}
    values = {key: _decode(key, value) for key, value in entries.items() if key in known and value is not None}
    if isinstance(values.get("image_size"), int):
        values["image_size"] = (values["image_size"], values["image_size"])
    try:
        metadata = msgspec.convert(values, CheckpointMetadata)
        metadata.preprocess(metadata.image_size or (1, 1))
    except (msgspec.ValidationError, UsageError) as error:
        raise CheckpointError(
            f"The metadata of '{source}' cannot be used.",
            found=str(error) if isinstance(error, msgspec.ValidationError) else f"{error.message} {error.found}",
            expected="the keys and values described in linglos_deploy/models/metadata.py",
            next_step="save the checkpoint again with linglos_deploy.models.checkpoint.save_checkpoint",
        ) from error
    if metadata.task is not None and metadata.task not in task_names():
        raise CheckpointError(
            f"The metadata of '{source}' names an unknown task.",
            found=metadata.task,
            expected=", ".join(task_names()),
            next_step="say with --task what the model is for",
        )
    if metadata.variant is not None and metadata.variant not in VARIANTS:
        raise CheckpointError(
            f"The metadata of '{source}' names an unknown variant.",
            found=metadata.variant,
            expected=", ".join(VARIANTS),
        )
    return metadata


def format_metadata(metadata: CheckpointMetadata) -> dict[str, str]:
    """Return ``metadata`` as the text entries of a safetensors header; :func:`parse_metadata` reads them back."""
    entries = {"schema": SCHEMA}
    for key, value in asdict(metadata).items():
        if value is not None:
            entries[key] = str(value) if key in PLAIN_TEXT else msgspec.json.encode(value).decode()
    return entries


def _decode(key: str, value: Any) -> Any:
    if not isinstance(value, str) or key in PLAIN_TEXT:
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value  # the type check names the key and says what it should be
