"""What the measuring process and its workers say to each other: one JSON object a line, a reply to every request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.codec import from_json, to_builtins
from linglos_deploy.compat import StrEnum
from linglos_deploy.profiling.warmup import Warmed
from linglos_deploy.reports.profile import LayerProfile

T = TypeVar("T")


def encode(message: object) -> str:
    """Return a message as one line."""
    return json.dumps(to_builtins(message)) + "\n"


def decode(kind: type[T], line: str | bytes) -> T:
    """Read one line.

    Raises:
        ArtifactError: It is not a message of that kind.
    """
    return from_json(kind, line, source="a profiling message")


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Open one model and run it once.

    Attributes:
        backend: Name of the backend.
        options: Its options.
        threads: Threads of a run, 0 for the backend's choice.
        onnx: The model, one of these three.
        engine: The model.
        source: The model, a ``ModelSource`` as JSON values.
        batch: Images a run.
        image_size: Height and width where the model takes any.
        seed: Of the random input.
        layers: Whether to take the time per layer before closing, where the backend can tell.
        shapes: Whole shapes of inputs, by name.
        data: An ``.npz`` of arrays by input name, instead of random numbers.
        device: Where it runs, empty for the backend's default.
    """

    backend: str
    options: dict[str, Any]
    threads: int
    onnx: OnnxArtifact | None
    engine: EngineArtifact | None
    source: dict[str, Any] | None
    batch: int
    image_size: tuple[int, int] | None
    seed: int
    layers: bool = False
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    data: str | None = None
    device: str = ""


@dataclass(frozen=True, slots=True)
class WarmRequest:
    """Run until latency is steady, but no longer than this; the answer says how it went."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """Run until both limits are reached, or until there are ``most`` runs; the answer holds every run's time."""

    runs: int
    seconds: float
    most: int = 500


@dataclass(frozen=True, slots=True)
class Request:
    """One of the requests; none of them asks for what remains to be said."""

    open: OpenRequest | None = None
    warm: WarmRequest | None = None
    round: RoundRequest | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The model is open and answered once.

    Attributes:
        open_ms: Time to import the backend and open the model.
        first_run_ms: Time of the first run.
        image_size: Height and width that it runs with, if its input is an image.
        options: The options that the backend ended up with.
        notes: What the runner has to say about its answers.
    """

    open_ms: float
    first_run_ms: float
    image_size: tuple[int, int] | None
    options: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """What remains to be said: peak of the resident memory, versions of what ran, and time per layer."""

    peak_rss_bytes: int
    versions: dict[str, str]
    layers: LayerProfile | None = None


class Kind(StrEnum):
    """Whose fault a failure is."""

    FAILED = "failed"
    """The candidate's."""
    MISSING = "missing"
    """This machine's, which lacks something."""
    USAGE = "usage"
    """The request's: the model does not take what was asked for."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request could not be fulfilled.

    Attributes:
        message: What happened, in a sentence.
        kind: Whose fault it is.
        found: What was there.
        expected: What should have been there.
        next_step: What to try.
    """

    message: str
    kind: Kind = Kind.FAILED
    found: str | None = None
    expected: str | None = None
    next_step: str | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What one turn gave.

    Attributes:
        samples_ms: Milliseconds of each timed run.
        cpu_ms: CPU time that the process took for them.
    """

    samples_ms: list[float]
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: a failure, or what was asked for."""

    failure: Failure | None = None
    opened: Opened | None = None
    warmed: Warmed | None = None
    round: Round | None = None
    closed: Closed | None = None
