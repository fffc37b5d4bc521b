"""Choices that the command line offers and several stages share; cheap to import."""

from __future__ import annotations

from linglos_deploy.compat import StrEnum
from linglos_deploy.errors import UsageError


class Precision(StrEnum):
    """Element types of a deployed graph's heavy layers; everything delicate stays in float32 or float16."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT8_FP16 = "int8+fp16"

    @property
    def is_int8(self) -> bool:
        """Whether convolutions and linear layers are quantized."""
        return self in (Precision.INT8, Precision.INT8_FP16)

    @property
    def floating(self) -> Precision:
        """The floating-point type of what is not quantized."""
        return {Precision.INT8: Precision.FP32, Precision.INT8_FP16: Precision.FP16}.get(self, self)


class Weights(StrEnum):
    """What is known of a model's weights. The best class of weights that are not trained is a matter of chance."""

    TRAINED = "trained"
    RANDOM = "random"
    """Seeded random numbers: good for graphs and latency, useless for accuracy."""

    UNKNOWN = "unknown"
    """Whoever made the model did not say."""


class HardwareCompatibility(StrEnum):
    """On which other GPUs an engine that was built on one GPU may run, where the builder offers a choice."""

    NONE = "none"
    """The GPU model it was built on."""
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"
    """Any GPU of the same compute capability."""
    AMPERE_PLUS = "ampere-plus"
    """Any GPU of compute capability 8.0 or later, at some cost in speed."""


def resolve_precision(precision: Precision | None, *, half: bool, int8: bool) -> Precision:
    """Combine ``--precision`` with its shortcuts ``--half`` and ``--int8``.

    Raises:
        UsageError: They contradict each other.
    """
    shortcut = {
        (False, False): None,
        (True, False): Precision.FP16,
        (False, True): Precision.INT8,
        (True, True): Precision.INT8_FP16,
    }[half, int8]
    if precision is not None and shortcut is not None and precision is not shortcut:
        raise UsageError(
            "The precision is given twice.",
            found=f"--precision {precision} and {'--half ' * half}{'--int8' * int8}".strip(),
            expected="one of them",
            next_step=f"--precision {shortcut}",
        )
    return precision or shortcut or Precision.FP32
