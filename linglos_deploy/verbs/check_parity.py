"""Parity of whole graphs: against PyTorch, against the golden tensors of a bundle, or against another graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import OnnxArtifact, load_onnx, open_onnx
from linglos_deploy.backends.base import Runner, Runtime
from linglos_deploy.backends.batching import AnyBatch
from linglos_deploy.backends.onnxruntime import Int8Mode, OnnxRuntime
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.bundle import Bundle, open_bundle
from linglos_deploy.choices import Precision, Weights
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.rounding import with_explicit_rounding
from linglos_deploy.golden_tensors import read_golden
from linglos_deploy.graph.metadata import read_metadata, read_preprocessing
from linglos_deploy.images.dataset import ImageDataset, open_dataset
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.parity.int8_modes import compare_int8_modes
from linglos_deploy.parity.layerwise import compare_layers
from linglos_deploy.parity.recording import Recording, record
from linglos_deploy.parity.verdict import Criteria, check_parity
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import LayerReport, ParityOutcome, ParityReport
from linglos_deploy.signature import Batch, ModelSignature

LAYER_IMAGES = 8
"""Images of a comparison layer by layer: every tensor of every layer is looked at."""

BATCH = 8
"""Images of one run: enough to keep two cores busy, little memory."""

Batches = Callable[[ModelSignature], Iterable[Batch]]
"""Gives the images of a check afresh, in the form that a model of that signature takes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A graph to check.

    Attributes:
        graph: The graph.
        precision: Whose criteria apply.
        trained: Whether its weights are trained, so that its best class means something.
    """

    graph: OnnxArtifact
    precision: Precision
    trained: bool = True

    @property
    def takes_pixels(self) -> bool:
        """Whether the graph takes uint8 pixels."""
        return self.graph.signature.inputs[0].dtype == "uint8"


@dataclass(frozen=True, slots=True)
class ParityRequest:
    """What is checked against what.

    Attributes:
        candidate: A bundle, or an ONNX graph.
        reference: The graph that ``candidate`` should agree with; not with a bundle, which has its own.
        source: Check against this PyTorch model instead of the golden tensors.
        data: Check on these images instead of the golden ones.
        precision: Check only the bundle's graph of this precision; for two graphs, whose criteria apply.
        images: Largest number of images.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        layers: Whether to look for the layer where a graph starts to deviate from the float32 graph.
    """

    candidate: Path
    reference: Path | None = None
    source: ModelSource | None = None
    data: Path | None = None
    precision: Precision | None = None
    images: int = 256
    threads: int = 0
    layers: bool = False


def check(request: ParityRequest, *, progress: Progress = SILENT) -> ParityOutcome:
    """Check a bundle, or one graph against another.

    Raises:
        UsageError: The request does not fit what it is about.
        ArtifactError: A bundle or graph is missing or damaged.
        DataError: The images cannot be used.
    """
    bundle = open_bundle(request.candidate) if request.candidate.is_dir() else None
    reports = _check_graph(request, progress) if bundle is None else _check_bundle(request, bundle, progress)
    layers = _compare_layers(request, bundle, progress) if request.layers else ()
    return ParityOutcome(reports, layers, passed=all(report.passed for report in reports))


def check_graphs(
    subjects: Sequence[Subject],
    reference: Recording,
    batches: Batches,
    *,
    threads: int = 0,
    progress: Progress = SILENT,
) -> tuple[ParityReport, ...]:
    """Check graphs on ONNX Runtime against what a reference answered; INT8 in the mode that bundles ask for.

    An INT8 graph that this CPU's default kernels would answer differently gets a warning with both cosines.
    """
    runtime = AnyBatch(OnnxRuntime(threads=threads))
    reports = []
    for subject in subjects:
        same_inputs = not subject.takes_pixels
        warnings: tuple[str, ...] = ()
        if subject.precision.is_int8:
            modes = compare_int8_modes(
                reference,
                subject.graph,
                list(batches(subject.graph.signature)),
                exact=runtime,
                fast=AnyBatch(OnnxRuntime(threads=threads, int8=Int8Mode.FAST)),
                same_inputs=same_inputs,
            )
            warnings = (modes.warning,) if modes.warning else ()
        with open_subject(subject, runtime) as runner:
            report = check_parity(
                reference,
                runner,
                Criteria.for_precision(subject.precision, trained=subject.trained),
                batches=batches(subject.graph.signature),
                name=subject.graph.path.name,
                same_inputs=same_inputs,
                warnings=warnings,
                progress=progress,
            )
        reports.append(report)
    return tuple(reports)


@contextmanager
def open_subject(subject: Subject, runtime: Runtime) -> Iterator[Runner]:
    """Open a graph so that what is checked is the graph, not the accident of a kernel.

    A CPU runs a float16 graph in float32 from border to border, and a bfloat16 graph not at all; so 16-bit graphs, and
    the 16-bit parts of INT8 graphs, run with the rounding that a GPU does written out
    (:mod:`linglos_deploy.exporters.rounding`).
    """
    if subject.precision.floating is Precision.FP32:
        with runtime.open(subject.graph) as runner:
            yield runner
        return
    import onnx

    with tempfile.TemporaryDirectory(prefix="linglos-rounding-") as scratch:
        path = Path(scratch) / subject.graph.path.name
        onnx.save(with_explicit_rounding(load_onnx(subject.graph.path)), path)
        with runtime.open(open_onnx(path)) as runner:
            yield runner


@contextmanager
def recorded(
    runner: Runner, batches: Iterable[Batch], *, source: str, ids: Sequence[str], progress: Progress
) -> Iterator[Recording]:
    """Record a reference for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="linglos-parity-") as scratch:
        yield record(runner, batches, out=Path(scratch) / "reference", source=source, ids=ids, progress=progress)


def _check_bundle(request: ParityRequest, bundle: Bundle, progress: Progress) -> tuple[ParityReport, ...]:
    if request.reference is not None:
        raise UsageError(
            "A bundle brings its own reference.",
            found=f"'{request.candidate}' and '{request.reference}'",
            expected="a bundle alone, or two graphs",
            next_step="name the bundle alone, or two graphs",
        )
    entries = [entry for entry in bundle.manifest.graphs if request.precision in (None, Precision(entry.precision))]
    if not entries:
        bundle.find_graph(request.precision)  # says which there are
    trained = bundle.manifest.weights is Weights.TRAINED
    subjects = [Subject(bundle.graph(entry), Precision(entry.precision), trained) for entry in entries]
    if request.source is None and request.data is None:
        return _check_golden(request, bundle, subjects, progress)
    spec = bundle.manifest.preprocessing
    images = _open_images(request, spec, progress)
    if images is None:
        raise UsageError(
            "A comparison with PyTorch needs images.",
            found="a model without --data",
            expected="--data with a folder, an .npz or an .npy file",
            next_step=f"linglos-deploy parity {request.candidate} … --data images/",
        )
    if request.source is not None:
        model = load_model(request.source, progress=progress)
        with PyTorch().open(model) as runner:
            return _check_on(images, runner, "PyTorch", subjects, request, progress)
    reference = bundle.find_graph()
    others = [subject for subject in subjects if subject.graph.path.name != reference.file]
    with AnyBatch(OnnxRuntime(threads=request.threads)).open(bundle.graph(reference)) as runner:
        return _check_on(images, runner, reference.file, others or subjects, request, progress)


def _check_on(
    images: ImageDataset,
    runner: Runner,
    source: str,
    subjects: Sequence[Subject],
    request: ParityRequest,
    progress: Progress,
) -> tuple[ParityReport, ...]:
    def batches(signature: ModelSignature) -> Iterable[Batch]:
        return images.batches(BATCH, signature=signature)

    own = batches(runner.signature)
    with recorded(runner, own, source=source, ids=images.ids, progress=progress) as reference:
        return check_graphs(subjects, reference, batches, threads=request.threads, progress=progress)


def _check_golden(
    request: ParityRequest, bundle: Bundle, subjects: Sequence[Subject], progress: Progress
) -> tuple[ParityReport, ...]:
    golden = bundle.manifest.golden
    if golden is None:
        raise UsageError(
            f"The bundle '{bundle.path}' has no golden tensors.",
            found="no golden tensors in its manifest",
            expected="golden tensors, or images to check on",
            next_step="name images with --data, and the PyTorch model with --checkpoint",
        )
    tensors = read_golden(bundle.path / golden.file)
    outputs = {name: tensors[f"torch:{name}"] for name in bundle.manifest.graphs[0].signature.output_names}

    def batches(signature: ModelSignature) -> Iterable[Batch]:
        return [{"image": tensors["pixels" if signature.inputs[0].dtype == "uint8" else "image"]}]

    ids = [f"golden-{index}" for index in range(golden.count)]
    answers = _Answers(bundle.manifest.graphs[0].signature, outputs)
    inputs = [{"image": tensors["image"]}]
    with recorded(answers, inputs, source="PyTorch (golden)", ids=ids, progress=progress) as reference:
        return check_graphs(subjects, reference, batches, threads=request.threads, progress=progress)


@dataclass(frozen=True, slots=True)
class _Answers:
    """A runner that gives the answers it was made with."""

    signature: ModelSignature
    outputs: dict[str, np.ndarray]

    def run(self, batch: Batch) -> Batch:
        return self.outputs


def _check_graph(request: ParityRequest, progress: Progress) -> tuple[ParityReport, ...]:
    candidate = open_onnx(request.candidate)
    spec = read_preprocessing(request.candidate)
    images = _open_images(request, spec, progress)
    if images is None:
        raise UsageError(
            "A comparison of graphs needs images.",
            found="no --data",
            expected="--data with a folder, an .npz or an .npy file",
            next_step=f"linglos-deploy parity {request.candidate} … --data images/",
        )
    trained = read_metadata(request.candidate).get("weights") == Weights.TRAINED
    subject = Subject(candidate, request.precision or Precision.FP32, trained)
    if request.source is not None:
        with PyTorch().open(load_model(request.source, progress=progress)) as runner:
            return _check_on(images, runner, "PyTorch", [subject], request, progress)
    if request.reference is None:
        raise UsageError(
            f"'{request.candidate}' needs something to be compared with.",
            found="a graph alone",
            expected="a bundle, a second graph, or a PyTorch model",
            next_step=f"linglos-deploy parity {request.candidate} --reference model.onnx --data images/",
        )
    with AnyBatch(OnnxRuntime(threads=request.threads)).open(open_onnx(request.reference)) as runner:
        return _check_on(images, runner, request.reference.name, [subject], request, progress)


def _compare_layers(request: ParityRequest, bundle: Bundle | None, progress: Progress) -> tuple[LayerReport, ...]:
    if bundle is not None:
        entries = bundle.manifest.graphs
        reference = bundle.graph(entries[0])
        candidates = [bundle.graph(entry) for entry in entries[1:]]
        spec = bundle.manifest.preprocessing
    elif request.reference is not None:
        reference, candidates = open_onnx(request.reference), [open_onnx(request.candidate)]
        spec = read_preprocessing(request.candidate)
    else:
        raise UsageError("Layers are compared with those of another graph.", next_step="--reference model.onnx")
    images = _open_images(request, spec, progress)
    if images is not None:
        few = images.limit(LAYER_IMAGES)
        batches = list(few.batches(1, signature=reference.signature))
    else:
        assert bundle is not None  # two graphs without images were refused before
        pixels = reference.signature.inputs[0].dtype == "uint8"
        golden = bundle.manifest.golden
        assert golden is not None
        tensors = read_golden(bundle.path / golden.file)["pixels" if pixels else "image"]
        batches = [{"image": tensors[index : index + 1]} for index in range(min(LAYER_IMAGES, len(tensors)))]
    runtime = AnyBatch(OnnxRuntime(threads=request.threads))
    return tuple(
        compare_layers(reference, candidate, batches, runtime=runtime, progress=progress) for candidate in candidates
    )


def _open_images(request: ParityRequest, spec: PreprocessSpec, progress: Progress) -> ImageDataset | None:
    if request.data is None:
        return None
    return open_dataset(request.data, spec, progress=progress).limit(request.images)
