"""What an export can be asked for. Imports neither torch nor onnx, so that the command line can read it."""

from __future__ import annotations

from dataclasses import dataclass

from linglos_deploy.choices import Precision
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.decompositions.registry import AUTO, check_decomposition

OPSETS = range(20, 24)
"""Opsets that can be asked for; docs/decisions/opset.md says why 20 is the least and the default."""

INT8_PARTS = ("equalize", "balance")
"""What an export for INT8 does besides: ``equalize`` moves scales of channels from their maker to their readers by what
weights promise, ``balance`` by what real pictures show."""


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """How a model becomes an ONNX graph.

    Attributes:
        opset: Version of the standard operator set.
        dynamic: Whether height and width may change from run to run.
        batch: Images per run; ``None`` leaves it open.
        embed_preprocessing: Whether the graph takes uint8 N x H x W x 3 pixels and normalizes them itself.
        decomposition: How key-only attention is written down: a form of ``decompositions/forms``, ``reference`` for the
            one as trained, ``auto`` or ``measured`` for a choice per layer.
        precision: What the graph is meant for. The export itself is float32; but for INT8 ``auto`` keeps every product
            that a quantizer can take, and for 16 bits no fold relies on sums that only float32 keeps.
        measure_on: Backend on whose clock ``measured`` decides.
        without: Parts that an export for INT8 leaves out, of :data:`INT8_PARTS`.
    """

    opset: int = 20
    dynamic: bool = False
    batch: int | None = None
    embed_preprocessing: bool = False
    decomposition: str = AUTO
    precision: Precision = Precision.FP32
    measure_on: str = "onnxruntime"
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_decomposition(self.decomposition)
        object.__setattr__(self, "precision", Precision(self.precision))
        object.__setattr__(self, "without", tuple(dict.fromkeys(self.without)))
        if unknown := [part for part in self.without if part not in INT8_PARTS]:
            raise UsageError(
                f"An export has no part '{unknown[0]}' that could be left out.",
                expected=" or ".join(INT8_PARTS),
                next_step=f"--without {INT8_PARTS[0]}",
            )
        if self.opset not in OPSETS:
            raise UsageError(
                f"Opset {self.opset} cannot be exported.",
                expected=f"{OPSETS.start} to {OPSETS.stop - 1}",
                next_step=f"--opset {OPSETS.start}",
            )
        if self.batch is not None and self.batch < 1:
            raise UsageError("A fixed batch holds at least one image.", found=str(self.batch), next_step="--batch 1")
