"""What an architecture goes through: export and parity in float32, INT8, float16, open sizes, a TensorRT-RTX engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, TorchModel, load_onnx
from linglos_deploy.backends.images_first import ImagesFirst, images_first
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.choices import Precision
from linglos_deploy.engines.compiling import choose_compilers, compile_graph
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.exporters.precision import KINDS, convert_precision, tensors_at_risk
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.images.tensors import TensorDataset, open_tensors
from linglos_deploy.models.factory import ModelDescription
from linglos_deploy.models.loading import HeldModel, load_model
from linglos_deploy.progress import SILENT
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import QuantPlan, plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.signature import Batch, ModelSignature
from linglos_deploy.verbs.verdicts import InputSet, Subject, check_subjects, recorded
from tests.zoo.entry import Entry

SAMPLES = 5
"""Neither a power of two nor a multiple of the batch."""

BATCH = 2


class Stage(StrEnum):
    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"
    DYNAMIC = "dynamic"
    ENGINE = "engine"


@dataclass(frozen=True)
class Outcome:
    """How an architecture came through a stage.

    Attributes:
        stage: Which.
        passed: Whether the verdict was PASS.
        refused: Whether open sizes were refused by name: the module insists on one size, and the error says which.
        note: The least signal to noise ratio in decibels, or what went wrong.
        seconds: How long it took.
        warnings: What the export said.
    """

    stage: Stage
    passed: bool
    note: str
    seconds: float
    warnings: tuple[str, ...] = ()
    refused: bool = False


class Visit:
    """One architecture on its way through the stages; what a stage makes is there for the next.

    Args:
        entry: The architecture.
        folder: Where its files go.
    """

    def __init__(self, entry: Entry, folder: Path) -> None:
        self.entry = entry
        self.folder = folder
        description = ModelDescription(entry.module(), entry.name, inputs=entry.inputs, trained=False)
        if not entry.inputs:
            description = replace(description, preprocess=PreprocessSpec(entry.size))
        self.model: TorchModel = load_model(HeldModel(module=description))
        self._float32: OnnxArtifact | None = None

    @property
    def float32(self) -> OnnxArtifact:
        """The float32 graph."""
        if self._float32 is None:
            self._float32 = export_onnx(self.model, ExportConfig(), out=self.folder / "model.onnx")
        return self._float32

    def run(self, stage: Stage) -> Outcome:
        """Go through one stage; what goes wrong is in the outcome."""
        started = time.perf_counter()
        try:
            passed, note, warnings = getattr(self, f"_{stage}")()
        except Exception as error:
            passed, note, warnings = False, f"{type(error).__name__}: {error}", ()
        refused = stage is Stage.DYNAMIC and "so that cannot be dynamic" in note
        return Outcome(stage, passed, note, time.perf_counter() - started, warnings, refused)

    def _fp32(self) -> tuple[bool, str, tuple[str, ...]]:
        return (*self._parity(self.float32, Precision.FP32), self.float32.warnings)

    def _int8(self) -> tuple[bool, str, tuple[str, ...]]:
        table = calibrate(self.float32, self._data(self.float32), runtime=OnnxRuntime(threads=1, reuse_outputs=True))
        plan = plan_quantization(self.float32, table, QuantScheme())
        graph = apply_plan(self.float32, plan, out=self.folder / "model.int8.onnx")
        return (*self._parity(graph, Precision.INT8, plan), ())

    def _fp16(self) -> tuple[bool, str, tuple[str, ...]]:
        at_risk = tensors_at_risk(load_onnx(self.float32.path), KINDS[Precision.FP16])
        table = calibrate(
            self.float32,
            self._data(self.float32),
            runtime=OnnxRuntime(threads=1, reuse_outputs=True),
            config=CalibrationConfig(tensors=at_risk),
        )
        ranges = {name: seen.absolute_maximum for name, seen in table.tensors.items()}
        graph = convert_precision(self.float32, Precision.FP16, out=self.folder / "model.fp16.onnx", ranges=ranges)
        return (*self._parity(graph, Precision.FP16), ())

    def _dynamic(self) -> tuple[bool, str, tuple[str, ...]]:
        config = ExportConfig(dynamic=True)
        graph = export_onnx(self.model, config, out=self.folder / "model.dynamic.onnx")
        return (*self._parity(graph, Precision.FP32), graph.warnings)

    def _engine(self) -> tuple[bool, str, tuple[str, ...]]:
        options = EngineOptions(cache=False)
        compilers, _ = choose_compilers("tensorrt-rtx", options)
        engines, outcomes = compile_graph(
            self.float32, "tensorrt-rtx", options, compilers=compilers, folder=self.folder
        )
        size = engines[0].path.stat().st_size if engines else 0
        return bool(engines), f"{size / 2**20:.1f} MiB" if engines else str(outcomes), ()

    def _parity(self, graph: OnnxArtifact, precision: Precision, plan: QuantPlan | None = None) -> tuple[bool, str]:
        data = self._data(graph)
        parent = None if plan is None else self.float32
        subject = Subject(graph, precision, trained=False, parent=parent, plan=plan)

        def batches(signature: ModelSignature) -> Iterator[Batch]:
            return (images_first(batch, signature) for batch in data.batches(BATCH, signature=signature))

        with (
            ImagesFirst(PyTorch()).open(self.model) as runner,
            recorded(runner, batches(runner.signature), source="PyTorch", ids=data.ids, progress=SILENT) as reference,
        ):
            images = InputSet("data", reference, batches)
            (verdict,) = check_subjects([subject], [images], threads=1)
            report = verdict.report
        ratios = [output.metrics.sqnr_db for output in report.outputs if output.metrics.sqnr_db is not None]
        failed = [
            f"{output.output} {criterion.metric} {criterion.found:.3g} against {criterion.limit:.3g}"
            for output in report.outputs
            for criterion in output.criteria
            if not criterion.passed
        ]
        failed += [f"{finding.name}: {finding.found}" for finding in report.findings if finding.passed is False]
        failed += [f"{finding.name}: cannot tell" for finding in report.findings if finding.undecided]
        return report.passed, "; ".join(failed) or (f"{min(ratios):.0f} dB" if ratios else "equal")

    def _data(self, graph: OnnxArtifact) -> TensorDataset:
        path = self.folder / "samples.npz"
        if not path.exists():
            np.savez(path, **dict(self._samples()))
        return open_tensors(path, graph.signature, input_axes(graph.signature).axes)

    def _samples(self) -> Iterator[tuple[str, np.ndarray]]:
        generator = np.random.default_rng(0)
        for spec in self.model.inputs:
            shape = self.model.input_shapes(batch=SAMPLES)[spec.name]
            if spec.dtype.startswith("float"):
                yield spec.name, generator.standard_normal(shape).astype(spec.dtype)
            else:
                below = self.entry.integers[spec.name]
                values = generator.integers(0, below, shape) if below else np.ones(shape)
                yield spec.name, values.astype(spec.dtype)
