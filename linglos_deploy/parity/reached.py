"""What a graph reached when its bundle was made, so that a later check knows this model and not only its kind.

A static limit must let the worst honest network through, so it lets a broken good one through as well: a network that
reached 39 dB and has 21 today is broken, whatever the limit of 13 says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from linglos_deploy.choices import Precision
from linglos_deploy.files import sha256_bytes
from linglos_deploy.parity.metrics import EQUAL_DB
from linglos_deploy.parity.recording import Recording
from linglos_deploy.reports.parity import Finding, LayerReport, OutputParity, ParityReport

SLACK_DB = {Precision.FP32: 12.0, Precision.FP16: 3.0, Precision.BF16: 3.0, Precision.INT8: 1.5}
"""What another machine, or another number of threads, may cost on the same images: float32 sums are ordered
differently, which is all of float32's noise and moves few of the rounded values."""
_SPREADS = 3.0
"""Standard deviations over images by which the mean over other images may lie lower."""
ENOUGH_DB = 115.0
"""SQNR from which a float32 output is as good as equal, whatever was reached and however quiet its reference is."""


@dataclass(frozen=True, slots=True)
class ReachedOutput:
    """One output on one set of images.

    Attributes:
        output: Its name.
        mean_db: Mean over the images of each image's SQNR to the reference; 150 dB count as equal.
        std_db: Standard deviation of the same.
    """

    output: str
    mean_db: float
    std_db: float


@dataclass(frozen=True, slots=True)
class Reached:
    """What one graph reached on one set of images.

    Attributes:
        graph: File name of the graph.
        digest: SHA-256 of that file.
        images: Name of the set, such as ``"golden"``.
        inputs: Digest of all inputs in order, to tell whether a later set is the same one.
        samples: How many images there were.
        outputs: What was reached, per output.
        layers: SQNR of inner tensors to those of the float32 graph, on the first few of these images; empty for the
            float32 graph itself.
        noise_db: SQNR of PyTorch's float32 to its own float64, per output, where it was measured.
    """

    graph: str
    digest: str
    images: str
    inputs: str
    samples: int
    outputs: tuple[ReachedOutput, ...]
    layers: Mapping[str, float] = field(default_factory=dict)
    noise_db: Mapping[str, float] = field(default_factory=dict)


def digest_of(recording: Recording) -> str:
    """Return one digest of all inputs of a recording, in order."""
    return sha256_bytes("\n".join(digest for shard in recording.shards for digest in shard.inputs).encode())


def reached_by(
    report: ParityReport,
    *,
    graph: str,
    digest: str,
    inputs: Mapping[str, str],
    layers: LayerReport | None,
    noise_db: Mapping[str, Mapping[str, float]],
) -> tuple[Reached, ...]:
    """Return what a report found, in the form that is kept.

    Args:
        report: The verdict on one graph.
        graph: File name of the graph.
        digest: SHA-256 of that file.
        inputs: Digest of the inputs of each set of images.
        layers: The comparison of inner tensors; it is kept with the first set.
        noise_db: Noise of the reference's float32, per set of images and output.
    """
    found = []
    for number, (images, own) in enumerate(inputs.items()):
        outputs = [output for output in report.outputs if output.images == images]
        kept = {layer.tensor: round(layer.metrics.sqnr_db, 1) for layer in layers.layers} if layers else {}
        found.append(
            Reached(
                graph=graph,
                digest=digest,
                images=images,
                inputs=own,
                samples=max((output.metrics.samples for output in outputs), default=0),
                outputs=tuple(
                    ReachedOutput(
                        output.output,
                        round(output.metrics.sample_db_mean, 2),
                        round(output.metrics.sample_db_std, 2),
                    )
                    for output in outputs
                ),
                layers=kept if number == 0 else {},
                noise_db=noise_db.get(images, {}),
            )
        )
    return tuple(found)


def check_reached(
    outputs: Iterable[OutputParity], reached: Sequence[Reached], precision: Precision, *, inputs: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Hold outputs against what the same graph reached when its bundle was made.

    On the same images only the machine may differ; on others, the mean may lie lower by what images differ from one
    another.
    """
    slack = SLACK_DB[Precision.INT8 if precision.is_int8 else precision]
    findings = []
    for output in outputs:
        kept = next((entry for entry in reached if entry.images == output.images), None)
        before = next((entry for entry in kept.outputs if entry.output == output.output), None) if kept else None
        if kept is None or before is None:
            continue
        same = kept.inputs == inputs.get(output.images)
        spread = 0.0 if same else _SPREADS * before.std_db * math.sqrt(1 + 1 / max(kept.samples, 1))
        limit = min(before.mean_db - slack - spread, ENOUGH_DB if precision is Precision.FP32 else EQUAL_DB)
        whose = "the same images" if same else f"{kept.samples} other images, spread {before.std_db:.1f} dB"
        findings.append(
            Finding(
                f"{output.output} on {output.images} images reaches what it reached",
                output.metrics.sample_db_mean >= limit,
                f"{output.metrics.sample_db_mean:.1f} dB",
                f"at least {limit:.1f} dB: {before.mean_db:.1f} dB on {whose} when the bundle was made",
            )
        )
    return tuple(findings)


def check_identity(graph: str, digest: str, reached: Sequence[Reached]) -> tuple[Finding, ...]:
    """Check that a graph is, to the byte, the one that was checked when its bundle was made."""
    known = next((entry.digest for entry in reached if entry.graph == graph), None)
    if known is None:
        return ()
    return (
        Finding(
            "it is the file that was checked when the bundle was made",
            known == digest,
            f"SHA-256 {digest[:16]}…",
            f"SHA-256 {known[:16]}…",
        ),
    )
