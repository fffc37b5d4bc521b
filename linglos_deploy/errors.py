"""Every error this package raises on purpose: what was found, what was expected, what to do next.

The command line turns ``exit_code`` into the process's exit code and prints ``str(error)`` to stderr. A failed
verdict (parity, accuracy, latency) is a result, never one of these.
"""

from __future__ import annotations

from typing import ClassVar


class LinglosError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: One sentence: what went wrong, naming the file, tensor or option.
        found: What was there.
        expected: What should have been there.
        next_step: The next command or change to try.
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        message: str,
        *,
        found: str | None = None,
        expected: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.found = found
        self.expected = expected
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.message]
        for label, text in (
            ("found", self.found),
            ("expected", self.expected),
            ("next", self.next_step),
        ):
            if text is not None:
                parts.append(f"  {label + ':':<10}{text}")
        return "\n".join(parts)


class UsageError(LinglosError):
    """Wrong usage or configuration: the request itself cannot be carried out."""

    exit_code = 2


class MissingDependencyError(LinglosError):
    """A backend, a device or an optional package is missing on this machine."""

    exit_code = 3


class CheckpointError(LinglosError):
    """A checkpoint is missing, damaged, unsafe to read, or belongs to another model."""


class DataError(LinglosError):
    """Images or arrays cannot be used as model input."""


class ExportError(LinglosError):
    """The torch model could not be turned into a valid ONNX graph."""


class CalibrationError(LinglosError):
    """Calibration could not be carried out, or a table does not belong to the graph."""


class QuantizationError(LinglosError):
    """A quantization plan could not be made or applied."""


class BuildError(LinglosError):
    """An engine could not be compiled."""


class ArtifactError(LinglosError):
    """An ONNX file, engine, table or bundle is missing, damaged or not what its manifest says."""


class RunError(LinglosError):
    """An opened model failed while running."""


class OutputError(LinglosError):
    """The result could not be written: disk full, or no permission."""


class PlaceTakenError(OutputError):
    """Something lies where the result should go, and nobody said that it may be replaced: wrong usage."""

    exit_code = 2
