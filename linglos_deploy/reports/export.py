"""What an export did: the values behind the last screen of ``linglos-deploy export`` and its report files."""

from __future__ import annotations

from dataclasses import dataclass

from linglos_deploy.reports.parity import ParityReport
from linglos_deploy.reports.profile import Finding, ProfileReport, Ratio


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-1 accuracy of one model on labelled images.

    Attributes:
        model: ``PyTorch`` or the graph's file name.
        precision: Its precision.
        correct: Images whose largest logit is at their label.
        count: Images looked at.
    """

    model: str
    precision: str
    correct: int
    count: int

    @property
    def top1(self) -> float:
        """Share of correct images in percent."""
        return 100.0 * self.correct / self.count


@dataclass(frozen=True, slots=True)
class AccuracyVerdict:
    """Whether the deployed graphs keep the accuracy of the PyTorch model.

    Attributes:
        rows: The PyTorch model first, then every graph.
        max_drop: Largest accepted loss of top-1, in percentage points; ``None`` if nothing was requested.
        worst_drop: Largest loss found, in percentage points.
        passed: Whether the loss is accepted, and anything can be concluded from it.
        finding: Why nothing can: the PyTorch model itself cannot be told from guessing.
    """

    rows: tuple[Accuracy, ...]
    max_drop: float | None
    worst_drop: float
    passed: bool
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class TargetVerdict:
    """Whether INT8 is worth it for one runtime.

    Attributes:
        target: The placement.
        graph: The graph that is made for it.
        ratio: Its time over that of the float32 graph on the same runtime; ``None`` if it was not measured here.
        size: Its size over that of the float32 graph.
        lost_points: Top-1 of PyTorch less its own, in percentage points; ``None`` without labelled images.
        sentence: All that in words.
    """

    target: str
    graph: str
    ratio: Ratio | None
    size: float
    lost_points: float | None
    sentence: str

    @property
    def slower(self) -> bool:
        """Whether it was found to be slower than float32."""
        return self.ratio is not None and self.ratio.finding is Finding.SLOWER


@dataclass(frozen=True, slots=True)
class EngineOutcome:
    """What came of one requested engine.

    Attributes:
        backend: The compiler.
        file: The engine's path in the bundle, ``None`` if there is none.
        source: The graph that it was compiled from.
        seconds: Time of the build.
        bytes: Size of the engine.
        detail: What was built and for what, or why nothing was.
        containers: Folders beside it in which other runtimes find it.
    """

    backend: str
    file: str | None
    source: str
    seconds: float
    bytes: int
    detail: str
    containers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export.

    Attributes:
        name: Short name of the model.
        bundle: Where the bundle lies.
        parameters: Number of weights of the PyTorch model.
        precision: What was asked for.
        graphs: Size in bytes of every graph, by file name.
        warnings: What the user should know before shipping.
        skipped: Files among the images that were not used, each with the reason.
        accuracy: Top-1 on labelled images, if there were any.
        parity: One report per graph, against PyTorch.
        engines: What was built and what could not be.
        profile: Latency, if it was measured.
        advice: What to ship on this machine, as far as the figures support it; empty without latency.
        next_commands: What answers what they leave open.
        passed: Whether every requested check passed.
        targets: Whether INT8 is worth it, for each runtime.
    """

    name: str
    bundle: str
    parameters: int
    precision: str
    graphs: dict[str, int]
    warnings: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    accuracy: AccuracyVerdict | None
    parity: tuple[ParityReport, ...]
    engines: tuple[EngineOutcome, ...]
    profile: ProfileReport | None
    passed: bool
    advice: str = ""
    next_commands: tuple[str, ...] = ()
    targets: tuple[TargetVerdict, ...] = ()
