"""What the user asks of INT8: one frozen value, complete in itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from linglos_deploy.calibration.registry import check_method
from linglos_deploy.choices import Precision
from linglos_deploy.errors import UsageError


@dataclass(frozen=True, slots=True)
class QuantScheme:
    """How convolutions and linear layers become INT8.

    Weights are symmetric with one scale per output channel, activations symmetric with one scale per tensor: the
    one form that TensorRT, OpenVINO and ONNX Runtime all run. Biases stay in floating point, where every one of them
    adds them to the 32-bit sum anyway.

    Attributes:
        method: How the clipping bound of an activation follows from its statistics: one of
            :func:`~linglos_deploy.calibration.registry.threshold_methods`.
        percentile: Share of the values, in percent, that the method ``percentile`` does not clip.
        weight_bits: 8, or 7 for x86 CPUs without VNNI: products of 7-bit weights do not saturate 16-bit pair sums.
        exclude: Regular expressions; a node whose whole name matches one of them stays in floating point.
        narrow: Whether linear layers with fewer than 16 inputs or outputs become INT8, too, which makes none faster.
        floating: Element type that the graph's floating-point parts have in the end. Scales are numbers of this type,
            so that a graph that is made 16 bits wide later has the same grid to the bit.
    """

    method: str = "weighted"
    percentile: float = 99.99
    weight_bits: int = 8
    exclude: tuple[str, ...] = ()
    narrow: bool = False
    floating: Precision = Precision.FP32

    def __post_init__(self) -> None:
        check_method(self.method)
        object.__setattr__(self, "exclude", tuple(self.exclude))
        object.__setattr__(self, "floating", Precision(self.floating).floating)
        if self.weight_bits not in (7, 8):
            raise UsageError("Weights have 8 bits, or 7.", found=str(self.weight_bits), expected="8 or 7")
        if not 0 < self.percentile <= 100:
            raise UsageError("The percentile must be in (0, 100].", found=str(self.percentile), expected="99.99")
        for pattern in self.exclude:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(
                    f"'{pattern}' is not a regular expression.",
                    found=str(error),
                    expected=r"a pattern for whole node names, such as 'stages\.2\..*'",
                ) from error

    def pattern_against(self, node: str) -> str | None:
        """Return why the patterns keep ``node`` in floating point, or ``None`` if they do not."""
        for pattern in self.exclude:
            if re.fullmatch(pattern, node):
                return f"excluded by '{pattern}'"
        return None
