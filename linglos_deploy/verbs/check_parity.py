"""Parity of artifacts: against PyTorch, against the golden tensors of a bundle, or against another graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, TorchModel, load_onnx, open_onnx
from linglos_deploy.backends.base import Runner
from linglos_deploy.backends.images_first import ImagesFirst, images_first
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.bundle import Bundle, open_bundle
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.choices import Precision, Weights
from linglos_deploy.cluster import SharedImages, connected
from linglos_deploy.engines.record import open_engine, read_record, sidecar_path
from linglos_deploy.errors import MissingDependencyError, UsageError
from linglos_deploy.golden_tensors import ODD_SIZES, read_golden
from linglos_deploy.graph.inputs import open_inputs, preprocessing_for
from linglos_deploy.graph.metadata import read_metadata
from linglos_deploy.graph.precision import precision_of_graph
from linglos_deploy.images.options import NOTHING_SAID, PreprocessOptions
from linglos_deploy.images.preprocessing import PreprocessSpec, normalize
from linglos_deploy.images.samples import Dataset
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.parity.criteria import read_criteria
from linglos_deploy.parity.decisions import check_decisions
from linglos_deploy.parity.positions import first_images
from linglos_deploy.parity.probes import extreme_inputs, other_sizes, resized_noise
from linglos_deploy.parity.reached import check_identity
from linglos_deploy.parity.recording import Ask, ask_here
from linglos_deploy.profiling.access import EngineAccess
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.placement import find_placement
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.parity import Finding, ParityOutcome
from linglos_deploy.signature import Batch, ModelSignature, TensorSpec
from linglos_deploy.verbs.asking_cluster import ClusterImages
from linglos_deploy.verbs.consistency import SelfTest, check_engine_entry, check_golden, check_graph_entry
from linglos_deploy.verbs.exported import check_export
from linglos_deploy.verbs.locating import export_again, locate_in, locate_in_engine, locating_images
from linglos_deploy.verbs.referee import graph_noise, pytorch_noise
from linglos_deploy.verbs.verdicts import (
    BATCH,
    InputSet,
    Subject,
    Verdict,
    check_subjects,
    not_checked,
    recorded,
    why_not_here,
)

NOISE_IMAGES = 8
"""Images on which the reference's own noise is measured."""

MOST_IMAGES = 256
"""Images of the user's that are taken where nobody says how many."""

PLAN = "plan.json"
ORIGINAL = "model.onnx"
TABLE = "calibration.table"

SYNTHETIC_GOLDEN = len(ODD_SIZES) + 1
"""Golden images that are noise; they come last."""

EXTREME = "extreme"
"""Name of the made-up inputs of the usual size."""

LEAST_NOISE_DB = 60.0
"""SQNR of a reference's own float32 below which made-up inputs are all rounding, and are left out."""


@dataclass(frozen=True, slots=True)
class ParityRequest:
    """What is checked against what.

    Attributes:
        candidate: A bundle, an ONNX graph or an engine.
        reference: The graph that ``candidate`` should agree with; not with a bundle, which has its own.
        source: Check against this PyTorch model instead of the golden tensors.
        data: Check on these images, besides the golden ones of a bundle.
        precision: Check only the bundle's graph of this precision; for two graphs, whose criteria apply, if not those
            of what the graph is.
        images: Largest number of the user's images; 256 if ``None``.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        layers: Whether inner tensors are compared with those of the float32 graph: judged if ``None``, judged and
            reported one by one if true.
        locate: Whether the first tensor is looked for that is not what it should be.
        criteria: A file of limits; see :mod:`linglos_deploy.parity.criteria`.
        limits: Limits of all outputs, on top of the file's.
        preprocess: How images become the input of graphs that do not say so themselves; a bundle says it.
        plan: The quantization plan of an INT8 graph; where none is named, the one beside the graph or its reference.
        unplanned: Whether an INT8 graph is judged without a plan, its scales taken as they are.
        batch: Images of one run on ``data``.
        access: How engines are opened.
        dask: Address of a dask scheduler whose workers answer to ``data``; ``None`` for this process. A PyTorch model
            answers here all the same.
    """

    candidate: Path
    reference: Path | None = None
    source: ModelSource | None = None
    data: Path | None = None
    precision: Precision | None = None
    images: int | None = None
    threads: int = 0
    layers: bool | None = None
    locate: bool = False
    criteria: Path | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    preprocess: PreprocessOptions = NOTHING_SAID
    plan: Path | None = None
    unplanned: bool = False
    batch: int = BATCH
    access: EngineAccess = field(default_factory=EngineAccess)
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.dask is not None and self.data is None:
            raise UsageError(
                "A cluster shares out the images of --data.",
                found="--dask without --data",
                expected="--dask ADDRESS --data PATH, where every worker sees PATH",
                next_step="name images with --data, or leave --dask out",
            )
        if self.plan is not None and self.unplanned:
            raise UsageError(
                "An INT8 graph is judged by its plan, or without one.",
                found="--plan together with --no-plan",
                expected="one of them",
                next_step="leave --no-plan out",
            )


def check(request: ParityRequest, *, progress: Progress = SILENT) -> ParityOutcome:
    """Check a bundle, or one graph or engine against another graph.

    Raises:
        UsageError: The request does not fit what it is about.
        ArtifactError: A bundle, graph or engine is missing or damaged.
        MissingDependencyError: An engine was named that cannot run here, or there is no cluster.
        DataError: The images cannot be used, or a shard failed on the cluster.
    """
    if request.candidate.is_dir():
        verdicts = _check_bundle(request, open_bundle(request.candidate), progress)
    else:
        verdicts = _check_alone(request, progress)
    reports = tuple(verdict.report for verdict in verdicts)
    for name in read_criteria(request.criteria, request.limits).strangers(reports):
        progress.warn(f"'{request.criteria}' has limits for {name}, which nothing that was checked has.")
    locations = tuple(verdict.location for verdict in verdicts if verdict.location is not None)
    shown = tuple(verdict.layers for verdict in verdicts if verdict.layers is not None) if request.layers else ()
    return ParityOutcome(reports, shown, passed=all(report.passed for report in reports), locations=locations)


def golden_sets(
    stack: ExitStack,
    tensors: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    noise_db: Mapping[str, Mapping[str, float]],
    *,
    spec: PreprocessSpec,
    divisor: int,
) -> list[InputSet]:
    """Return the golden images, real ones and noise apart, with what PyTorch answered to them; made-up ones last.

    Args:
        stack: Keeps the recordings as long as they are needed.
        tensors: The golden tensors.
        outputs: Names of the outputs.
        noise_db: Noise of PyTorch's own float32, per set of images and output. Made-up images without it are left out.
        spec: The preprocessing.
        divisor: Of the model's heights and widths.
    """
    count = len(tensors["image"])
    real = max(count - SYNTHETIC_GOLDEN, 0)
    parts = [("golden", slice(0, real))] if real else []
    parts.append(("synthetic golden", slice(real, count)))
    sets = [_golden_set(stack, tensors, outputs, noise_db.get(name, {}), name=name, rows=rows) for name, rows in parts]
    for name, made in made_up_golden(tensors, spec, divisor).items():
        noise = noise_db.get(name, {})
        if all(f"{name}:torch:{output}" in tensors for output in outputs) and _is_clear(noise, outputs):
            answers = {f"torch:{output}": tensors[f"{name}:torch:{output}"] for output in outputs}
            rows = slice(0, len(made["image"]))
            sets.append(_golden_set(stack, {**made, **answers}, outputs, noise, name=name, rows=rows, extreme=True))
    return sets


def made_up_golden(
    tensors: Mapping[str, np.ndarray], spec: PreprocessSpec, divisor: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return the ``pixels`` and the ``image`` of every set of made-up images, by its name.

    They follow from the golden pixels, so that a bundle keeps only what PyTorch answered to them.
    """
    pixels = tensors["pixels"]
    sets = {EXTREME: extreme_inputs({"pixels": pixels})["pixels"]}
    for name, (height, width) in other_sizes((pixels.shape[1], pixels.shape[2]), divisor).items():
        shape = (2, height, width, pixels.shape[3])
        sets[name] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return {name: {"pixels": made, "image": normalize(made, spec)} for name, made in sets.items()}


def _is_clear(noise_db: Mapping[str, float], outputs: Sequence[str]) -> bool:
    return all(noise_db.get(output, 0.0) >= LEAST_NOISE_DB for output in outputs)


def _golden_set(
    stack: ExitStack,
    tensors: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    noise_db: Mapping[str, float],
    *,
    name: str,
    rows: slice,
    extreme: bool = False,
) -> InputSet:
    answers = {output: tensors[f"torch:{output}"][rows] for output in outputs}
    signature = ModelSignature((), tuple(TensorSpec(name, "float32", array.shape) for name, array in answers.items()))
    ids = [f"{name if extreme else 'golden'}-{index}" for index in range(rows.start, rows.stop)]
    recording = stack.enter_context(
        recorded(
            _Answers(signature, answers),
            [{"image": tensors["image"][rows]}],
            source="PyTorch (golden)",
            ids=ids,
            progress=SILENT,
        )
    )

    def batches(signature: ModelSignature) -> Iterable[Batch]:
        key = "pixels" if signature.inputs[0].dtype == "uint8" else "image"
        return [{signature.input_names[0]: tensors[key][rows]}]

    synthetic = name.startswith("synthetic")
    return InputSet(name, recording, batches, synthetic=synthetic, extreme=extreme, noise_db=noise_db)


@dataclass(frozen=True, slots=True)
class _Answers:
    """A runner that gives the answers it was made with."""

    signature: ModelSignature
    outputs: Mapping[str, np.ndarray]

    def run(self, batch: Batch) -> Batch:
        return self.outputs


def _check_bundle(request: ParityRequest, bundle: Bundle, progress: Progress) -> tuple[Verdict, ...]:
    if request.reference is not None:
        raise UsageError(
            "A bundle brings its own reference.",
            found=f"'{request.candidate}' and '{request.reference}'",
            expected="a bundle alone, or two graphs",
            next_step="name the bundle alone, or two graphs",
        )
    if request.plan is not None or request.unplanned:
        option = "--no-plan" if request.unplanned else "--plan"
        raise UsageError(
            "A bundle brings its own plan.",
            found=f"'{request.candidate}' and '{request.plan or option}'",
            expected="a bundle alone, or two graphs",
            next_step=f"leave {option} out",
        )
    if request.preprocess.given:
        raise UsageError(
            "A bundle says how images become input.",
            found=", ".join(request.preprocess.given),
            expected="no options about preprocessing",
            next_step="leave them out, or name two graphs",
        )
    if request.images is not None and request.data is None:
        raise UsageError(
            "A bundle's golden images are all taken.",
            found=f"--images {request.images} without --data",
            expected="--images with --data, or neither",
            next_step=f"linglos-deploy parity {request.candidate} --data images/ --images {request.images}",
        )
    if request.source is not None and request.data is None:
        raise UsageError(
            "A comparison with PyTorch needs images.",
            found="a model without --data",
            expected="--data with a folder, an .npz or an .npy file",
            next_step=f"linglos-deploy parity {request.candidate} … --data images/",
        )
    if bundle.manifest.golden is None and request.data is None:
        raise UsageError(
            f"The bundle '{bundle.path}' has no golden tensors.",
            found="no golden tensors in its manifest",
            expected="golden tensors, or images to check on",
            next_step="name images with --data, and the PyTorch model with --checkpoint",
        )
    subjects = [replace(it, access=request.access) for it in bundle_subjects(bundle, request.precision)]
    check_access(request.access, subjects)
    tensors = read_golden(bundle.path / bundle.manifest.golden.file) if bundle.manifest.golden is not None else None
    subjects = [_with_self_test(bundle, subject, tensors) for subject in subjects]
    plan_findings = _decisions(bundle, subjects)
    runnable = [subject for subject in subjects if why_not_here(subject) is None]
    with ExitStack() as stack:
        golden = _bundle_golden(stack, bundle, tensors)
        spec, first = bundle.manifest.preprocessing, bundle.graph(bundle.manifest.graphs[0])
        data = _data_set(stack, request, first, spec, _bundle_reference(request, bundle), progress)
        verdicts: list[Verdict] = []
        for subject in runnable:
            own = data and data[0].reference.source == subject.name and len(runnable) > 1
            verdicts += check_subjects(
                [subject],
                (golden if own else [*golden, *data]) or data,
                threads=request.threads,
                layers=request.layers is not False,
                reached=bundle.manifest.reached,
                criteria=read_criteria(request.criteria, request.limits),
                progress=progress,
            )
        if request.locate:
            verdicts = _located(request, bundle, runnable, verdicts, golden or data, progress)
    command = f"linglos-deploy parity {request.candidate}"
    left = [not_checked(subject, reason, command) for subject in subjects if (reason := why_not_here(subject))]
    names = {subject.name for subject in subjects}
    left += [check_engine_entry(bundle, entry) for entry in bundle.manifest.engines if Path(entry.file).name in names]
    verdicts = _with_consistency(bundle, tensors, verdicts)
    return with_findings(_with_fresh_export(request, bundle, verdicts, progress), subjects, plan_findings, left)


def _with_fresh_export(
    request: ParityRequest, bundle: Bundle, verdicts: Sequence[Verdict], progress: Progress
) -> list[Verdict]:
    """Prove the float32 graph, which has no parent to be proven against, where its PyTorch model is at hand."""
    graph = bundle.graph(bundle.manifest.graphs[0])
    if request.source is None or all(verdict.report.candidate != graph.path.name for verdict in verdicts):
        return list(verdicts)
    finding = check_export(_model_of(bundle, request.source, progress), graph)
    return [
        replace(verdict, report=verdict.report.with_findings(finding))
        if verdict.report.candidate == graph.path.name
        else verdict
        for verdict in verdicts
    ]


def _model_of(bundle: Bundle, source: ModelSource, progress: Progress) -> TorchModel:
    """Return the PyTorch model with the images that it was exported with: only the bundle says of which size."""
    return replace(load_model(source, progress=progress), preprocess=bundle.manifest.preprocessing)


def _with_self_test(bundle: Bundle, subject: Subject, tensors: Mapping[str, np.ndarray] | None) -> Subject:
    """Let a graph of a bundle be tested as loaders on other machines test it."""
    golden = bundle.manifest.golden
    entry = next((entry for entry in bundle.manifest.graphs if bundle.path / entry.file == subject.graph.path), None)
    if golden is None or tensors is None or entry is None:
        return subject
    return replace(subject, self_test=SelfTest.read(tensors, entry, golden.max_abs.get(entry.file, 0.0)))


def _with_consistency(
    bundle: Bundle, tensors: Mapping[str, np.ndarray] | None, verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """Add to each verdict whether what the bundle says of it is true."""
    golden = [check_golden(bundle, tensors)] if tensors is not None else []
    entries = {Path(entry.file).name: entry for entry in bundle.manifest.graphs}
    parent = bundle.graph(bundle.manifest.graphs[0])
    whole = check_identity(parent.path.name, parent.digest, bundle.manifest.reached)
    found = []
    for verdict in verdicts:
        report = verdict.report
        entry = entries.get(report.candidate)
        more = [*golden, *([check_graph_entry(bundle, entry)] if entry is not None else [])]
        if entry is not None and report.candidate != parent.path.name:
            more += [replace(finding, name=f"its parent: {finding.name}") for finding in whole]
        found.append(replace(verdict, report=report.with_findings(*more)))
    return found


def _located(
    request: ParityRequest,
    bundle: Bundle,
    subjects: Sequence[Subject],
    verdicts: Sequence[Verdict],
    sets: Sequence[InputSet],
    progress: Progress,
) -> list[Verdict]:
    """Add to each verdict where its graph or engine first goes wrong.

    The float32 graph is compared with a fresh export of the PyTorch model; without one, nothing tells what its inner
    tensors should be.
    """
    table = CalibrationTable.load(bundle.path / TABLE) if TABLE in bundle.manifest.files else None
    ranges = {name: seen.absolute_maximum for name, seen in table.tensors.items()} if table is not None else {}
    graphs = {entry.file: entry for entry in bundle.manifest.graphs}
    sources = {Path(entry.file).name: graphs[entry.source] for entry in bundle.manifest.engines}
    found = []
    with tempfile.TemporaryDirectory(prefix="linglos-again-") as folder:
        for subject, verdict in zip(subjects, verdicts, strict=True):
            if isinstance(subject.graph, OnnxArtifact) and subject.like is None and request.source is not None:
                model = _model_of(bundle, request.source, progress)
                subject = replace(subject, counterpart=export_again(model, subject.graph, Path(folder) / "again.onnx"))
            batch = locating_images(sets, subject.graph.signature)
            if isinstance(subject.graph, OnnxArtifact) and subject.like is not None:
                place = locate_in(subject, batch, ranges=ranges, threads=request.threads, progress=progress)
                verdict = replace(verdict, location=place)
            if isinstance(subject.graph, EngineArtifact):
                source = bundle.graph(sources[subject.name])
                place = locate_in_engine(subject, source, batch, threads=request.threads, progress=progress)
                verdict = replace(verdict, location=place)
            found.append(verdict)
    return found


def bundle_subjects(bundle: Bundle, precision: Precision | None = None) -> list[Subject]:
    """Return what a bundle holds that can be checked: its graphs, then its engines.

    Raises:
        UsageError: It has no graph of this precision.
    """
    manifest = bundle.manifest
    trained = manifest.weights is Weights.TRAINED
    parent = bundle.graph(manifest.graphs[0])
    plan = QuantPlan.load(bundle.path / PLAN) if PLAN in manifest.files else None
    subjects = [
        Subject(
            bundle.graph(entry),
            Precision(entry.precision),
            trained,
            parent=parent if index else None,
            plan=plan if Precision(entry.precision).is_int8 else None,
            labels=manifest.labels,
            placement=find_placement(entry.placement) if entry.placement else None,
        )
        for index, entry in enumerate(manifest.graphs)
        if precision in (None, Precision(entry.precision))
    ]
    if not subjects:
        bundle.find_graph(precision)  # says which there are
    subjects += [
        Subject(bundle.engine(entry), Precision(entry.precision), trained, labels=manifest.labels)
        for entry in manifest.engines
        if precision in (None, Precision(entry.precision))
    ]
    return [replace(subject, decoding=manifest.decoding) for subject in subjects]


def _decisions(bundle: Bundle, subjects: Sequence[Subject]) -> tuple[Finding, ...]:
    plan = next((subject.plan for subject in subjects if subject.plan is not None), None)
    if plan is None:
        return ()
    table = CalibrationTable.load(bundle.path / TABLE) if TABLE in bundle.manifest.files else None
    return check_decisions(plan, table, bundle.graph(bundle.manifest.graphs[0]).digest)


def with_findings(
    verdicts: Sequence[Verdict], subjects: Sequence[Subject], decisions: Sequence[Finding], left: Sequence[Finding]
) -> tuple[Verdict, ...]:
    """Add what is not about one run: the plan's proof, and the engines that were not checked."""
    planned = {subject.name for subject in subjects if subject.plan is not None}
    found = []
    for number, verdict in enumerate(verdicts):
        report = verdict.report
        more = (
            *(decisions if report.candidate in planned else ()),
            *(left if number == len(verdicts) - 1 else ()),
        )
        found.append(replace(verdict, report=report.with_findings(*more)))
    return tuple(found)


def _bundle_golden(stack: ExitStack, bundle: Bundle, tensors: Mapping[str, np.ndarray] | None) -> list[InputSet]:
    if tensors is None:
        return []
    noise = {entry.images: entry.noise_db for entry in reversed(bundle.manifest.reached) if entry.noise_db}
    graph = bundle.manifest.graphs[0]
    return golden_sets(
        stack,
        tensors,
        graph.signature.output_names,
        noise,
        spec=bundle.manifest.preprocessing,
        divisor=divisor_of(bundle.graph(graph)),
    )


@dataclass(frozen=True, slots=True)
class _Reference:
    """Who answers on images of the user's."""

    graph: OnnxArtifact | None = None
    source: ModelSource | None = None


def _bundle_reference(request: ParityRequest, bundle: Bundle) -> _Reference:
    if request.source is not None:
        return _Reference(source=request.source)
    return _Reference(graph=bundle.graph(bundle.find_graph()))


def _data_set(
    stack: ExitStack,
    request: ParityRequest,
    graph: OnnxArtifact,
    spec: PreprocessSpec | None,
    reference: _Reference,
    progress: Progress,
) -> list[InputSet]:
    """Return the user's images, and inputs made up from what they span, with what the reference answers to both."""
    cluster = stack.enter_context(connected(request.dask)) if request.dask is not None else None
    images = _open_data(request, graph, spec, progress)
    if images is None or request.data is None:
        return []
    spread: ClusterImages | None = None
    if cluster is not None:
        shared = SharedImages.of(images, request.data, graph)
        spread = ClusterImages(cluster, images, shared, request.batch, request.threads)
        if reference.graph is None:
            progress.warn("The PyTorch model answers here; the cluster runs what is compared with it.")

    def batches(signature: ModelSignature) -> Iterable[Batch]:
        return (images_first(batch, signature) for batch in images.batches(request.batch, signature=signature))

    with _opened(reference, request.threads, progress) as (runner, name, noise):
        few = first_images(batches(runner.signature), NOISE_IMAGES)
        ask: Ask = ask_here
        if spread is not None and reference.graph is not None:
            ask = spread.asking(Subject(reference.graph, Precision.FP32), runner.signature)
        recording = stack.enter_context(
            recorded(runner, batches(runner.signature), source=name, ids=images.ids, ask=ask, progress=progress)
        )
        data = InputSet("data", recording, batches, noise_db=noise(few))
        sets = [data if spread is None else replace(data, asking=spread.asking)]
        if [(spec.name, spec.dtype) for spec in runner.signature.inputs] != [
            (spec.name, spec.dtype) for spec in graph.signature.inputs
        ]:
            return sets  # one takes pixels, the other what they become
        resized = resized_noise(few, graph.signature, divisor_of(graph))
        for made_up, inputs in {EXTREME: extreme_inputs(few), **resized}.items():
            clear = noise(inputs)
            if not _is_clear(clear, runner.signature.output_names):
                continue
            count = len(next(iter(inputs.values())))
            ids = [f"{made_up}-{index}" for index in range(count)]
            made = stack.enter_context(recorded(runner, [inputs], source=name, ids=ids, progress=SILENT))
            sets.append(InputSet(made_up, made, partial(_same_for_all, inputs), extreme=True, noise_db=clear))
        return sets


def _same_for_all(inputs: Batch, signature: ModelSignature) -> Iterable[Batch]:
    return [inputs]


def divisor_of(graph: OnnxArtifact) -> int:
    """Return what a graph's heights and widths must be multiples of, as it says itself; 32 suits what does not."""
    return int(read_metadata(graph.path).get("size_divisor", 32))


@contextmanager
def _opened(
    reference: _Reference, threads: int, progress: Progress
) -> Iterator[tuple[Runner, str, Callable[[Batch], Mapping[str, float]]]]:
    """Open a reference; also return its name, and what measures its noise."""
    if reference.source is not None:
        model = load_model(reference.source, progress=progress)
        with ImagesFirst(PyTorch()).open(model) as runner:
            yield runner, "PyTorch", lambda images: pytorch_noise(model, images)
        return
    graph = reference.graph
    assert graph is not None
    with ImagesFirst(OnnxRuntime(threads=threads)).open(graph) as runner:
        yield runner, graph.path.name, lambda images: graph_noise(graph, images, threads=threads)


def _check_alone(request: ParityRequest, progress: Progress) -> tuple[Verdict, ...]:
    candidate = open_candidate(request.candidate)
    reference = open_onnx(request.reference) if request.reference is not None else None
    if request.data is None:
        raise UsageError(
            "A comparison of graphs needs images.",
            found="no --data",
            expected="--data with a folder, an .npz or an .npy file",
            next_step=f"linglos-deploy parity {request.candidate} … --data images/",
        )
    if request.source is None and reference is None:
        raise UsageError(
            f"'{request.candidate}' needs something to be compared with.",
            found="an artifact alone",
            expected="a bundle, a second graph, or a PyTorch model",
            next_step=f"linglos-deploy parity {request.candidate} --reference model.onnx --data images/",
        )
    subject, plan_findings = _alone(request, candidate, reference)
    graph = _fed_as(request, candidate)
    spec = preprocessing_for(graph, request.preprocess, progress=progress)
    with ExitStack() as stack:
        data = _data_set(stack, request, graph, spec, _Reference(reference, request.source), progress)
        (verdict,) = check_subjects(
            [subject],
            data,
            threads=request.threads,
            layers=request.layers is not False,
            criteria=read_criteria(request.criteria, request.limits),
            progress=progress,
        )
        if request.locate:
            batch = locating_images(data, subject.graph.signature)
            verdict = replace(verdict, location=locate_in(subject, batch, threads=request.threads, progress=progress))
        return with_findings([verdict], [subject], plan_findings, ())


def open_candidate(path: Path) -> OnnxArtifact | EngineArtifact:
    """Open a graph, or an engine with the record beside it.

    Raises:
        ArtifactError: The file is missing or damaged, or an engine has no record.
    """
    return open_onnx(path) if path.suffix == ".onnx" or not sidecar_path(path).is_file() else open_engine(path)


def _alone(
    request: ParityRequest, candidate: OnnxArtifact | EngineArtifact, reference: OnnxArtifact | None
) -> tuple[Subject, tuple[Finding, ...]]:
    """Return what is checked, and what was found about the plan that it carries out."""
    precision = None if isinstance(candidate, EngineArtifact) else precision_of_graph(load_onnx(request.candidate))
    if request.plan is not None and (reference is None or precision is None or not precision.is_int8):
        raise UsageError(
            "A quantization plan is about an INT8 graph and the float32 graph that it was made from.",
            found=f"'{request.plan}' for '{request.candidate}'" + ("" if reference else " without a reference"),
            expected="an INT8 graph, --reference with its float32 graph, and --plan",
            next_step="leave --plan out" if reference else f"add --reference {ORIGINAL}",
        )
    if request.unplanned and (precision is None or not precision.is_int8):
        raise UsageError(
            "Only an INT8 graph has a quantization plan.",
            found=f"--no-plan for '{request.candidate}'",
            expected="an INT8 graph",
            next_step="leave --no-plan out",
        )
    if isinstance(candidate, EngineArtifact):
        return _engine_alone(request, candidate), ()
    check_access(request.access, [])
    assert precision is not None
    plan: QuantPlan | None = None
    findings: tuple[Finding, ...] = ()
    if reference is not None and precision.is_int8 and not request.unplanned:
        plan, findings = _plan_of(request, reference)
    derived = reference is not None and precision is not Precision.FP32
    derived = derived and reference is not None and (plan is not None or _is_derived(candidate, reference))
    subject = Subject(
        candidate,
        request.precision or precision,
        _trained(request.candidate),
        parent=reference if derived else None,
        counterpart=reference,
        plan=plan,
        unplanned=request.unplanned,
    )
    return subject, findings


def _plan_of(request: ParityRequest, reference: OnnxArtifact) -> tuple[QuantPlan | None, tuple[Finding, ...]]:
    """Return the plan that was named, or the one that lies beside either graph and is about the reference."""
    if request.plan is not None:
        plan, table = QuantPlan.load(request.plan), request.plan.with_name(TABLE)
        return plan, check_decisions(plan, CalibrationTable.load(table) if table.is_file() else None, reference.digest)
    own = request.candidate.with_suffix(f".{PLAN}")  # as ``quantize`` names it
    for beside in (own, request.candidate.with_name(PLAN), reference.path.with_name(PLAN)):
        if beside.is_file() and (plan := QuantPlan.load(beside)).graph_digest == reference.digest:
            return plan, ()
    return None, ()


def check_access(access: EngineAccess, subjects: Sequence[Subject]) -> None:
    """Check that what is said about opening engines is of use to one.

    Raises:
        UsageError: There is no engine, or none of a backend that knows an option.
    """
    if access == EngineAccess():
        return
    engines = [it for it in subjects if isinstance(it.graph, EngineArtifact)]
    if not engines:
        raise UsageError(
            "Only engines are opened on a device, with weights or with consent to their code.",
            found="no engine among what is checked",
            expected="an engine, or a bundle that has one",
            next_step="leave out --device, --weights and --allow-host-code",
        )
    access.check_used([access.candidate(it.backend, it.graph.path, label=it.name) for it in engines])


def _engine_alone(request: ParityRequest, engine: EngineArtifact) -> Subject:
    expected = set(read_record(request.candidate).precision.expected)
    precision = Precision.FP32
    if "int8" in expected:
        precision = Precision.INT8_FP16 if "float16" in expected else Precision.INT8
    elif expected & {"float16", "bfloat16"}:
        precision = Precision.FP16 if "float16" in expected else Precision.BF16
    subject = Subject(engine, request.precision or precision, access=request.access)
    check_access(request.access, [subject])
    if reason := why_not_here(subject):
        raise MissingDependencyError(
            f"'{request.candidate}' cannot run here, so nothing was checked.",
            found=reason,
            expected=f"a machine that runs {engine.backend}",
            next_step="run the same command on the target; 'linglos-deploy doctor' says what an engine needs",
        )
    return subject


def _is_derived(candidate: OnnxArtifact, reference: OnnxArtifact) -> bool:
    """Whether both graphs name the same weights and the same form, and the reference is float32."""
    mine, theirs = read_metadata(candidate.path), read_metadata(reference.path)
    keys = ("weights_digest", "decomposition", "preprocessing_embedded")
    same = "weights_digest" in mine and all(mine.get(key) == theirs.get(key) for key in keys)
    return same and precision_of_graph(load_onnx(reference.path)) is Precision.FP32


def _trained(path: Path) -> bool:
    return read_metadata(path).get("weights") == Weights.TRAINED


def _fed_as(request: ParityRequest, candidate: OnnxArtifact | EngineArtifact) -> OnnxArtifact:
    """Return the graph whose input the data become: the candidate, or what an engine was made from."""
    if isinstance(candidate, OnnxArtifact):
        return candidate
    return open_onnx(request.reference or request.candidate.with_name(read_record(request.candidate).onnx_name))


def _open_data(
    request: ParityRequest, graph: OnnxArtifact, spec: PreprocessSpec | None, progress: Progress
) -> Dataset | None:
    if request.data is None:
        return None
    return open_inputs(request.data, graph, spec, progress=progress).limit(request.images or MOST_IMAGES)
