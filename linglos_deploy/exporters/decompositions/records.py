"""What was decided for each attention, as the graph remembers it and ``inspect`` shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from linglos_deploy.codec import from_json
from linglos_deploy.graph.metadata import read_metadata

METADATA_KEY = "attention"


@dataclass(frozen=True, slots=True)
class AttentionRecord:
    """One attention in an exported graph.

    Attributes:
        path: Path of its PyTorch module, which also starts the names of its nodes.
        form: How it is written down.
        channels: C.
        heads: h.
        positions: N at the nominal resolution.
        macs_before: Multiply-accumulates of the reference form for one image.
        macs_after: Multiply-accumulates of the form that was chosen.
        folded: What was folded into its weights, such as ``"norm1"``.
        reason: Why this form.
        milliseconds: Measured time of each candidate, where ``measured`` was asked for.
    """

    path: str
    form: str
    channels: int
    heads: int
    positions: int
    macs_before: int
    macs_after: int
    folded: tuple[str, ...]
    reason: str
    milliseconds: dict[str, float] = field(default_factory=dict)


def read_attention(path: Path) -> tuple[AttentionRecord, ...]:
    """Return what an exported graph says about its attentions; empty for a graph without any.

    Raises:
        ArtifactError: The file is no usable ONNX model, or what it says cannot be read.
    """
    text = read_metadata(path).get(METADATA_KEY, "[]")
    return tuple(from_json(tuple[AttentionRecord, ...], text, source=f"linglos.{METADATA_KEY} of {path}"))
