"""What an exported graph says about itself in its ``metadata_props``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.artifacts import load_onnx
from linglos_deploy.codec import from_json
from linglos_deploy.errors import ArtifactError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import Decoding

if TYPE_CHECKING:
    import onnx

PREFIX = "linglos."


def read_metadata(path: Path) -> Mapping[str, str]:
    """Return our entries without their prefix; empty for a graph that somebody else made.

    Raises:
        ArtifactError: The file is missing, truncated or not an ONNX model.
    """
    entries = load_onnx(path).metadata_props
    return {entry.key.removeprefix(PREFIX): entry.value for entry in entries if entry.key.startswith(PREFIX)}


def stated_decoding(model: onnx.ModelProto) -> Decoding | None:
    """Return what a graph's outputs mean, as it says; ``None`` if it does not.

    Raises:
        ArtifactError: What it says makes no sense.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == f"{PREFIX}decoding"), None)
    return None if text is None else from_json(Decoding, text, source="linglos.decoding of the graph")


def stated_preprocessing(path: Path) -> PreprocessSpec | None:
    """Return how images become the graph's input, as the graph says; ``None`` if it does not.

    Raises:
        ArtifactError: The file is no usable ONNX model, or what it says makes no sense.
    """
    text = read_metadata(path).get("preprocessing")
    return None if text is None else from_json(PreprocessSpec, text, source=f"linglos.preprocessing of {path}")


def read_preprocessing(path: Path) -> PreprocessSpec:
    """Return how images become the graph's input.

    Raises:
        ArtifactError: The file is no usable ONNX model, or does not say.
    """
    spec = stated_preprocessing(path)
    if spec is None:
        raise ArtifactError(
            f"'{path}' does not say how images become its input.",
            found="no 'linglos.preprocessing' in its metadata",
            expected="a graph made by 'linglos-deploy export'",
            next_step="export the model with linglos-deploy",
        )
    return spec
