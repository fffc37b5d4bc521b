"""The verdict on one artifact: proof, then measurement on every set of images, then what was reached before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact, load_onnx, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Runner, Runtime
from linglos_deploy.backends.batching import AnyBatch
from linglos_deploy.backends.images_first import Found, ImagesFirst, Places, in_layout
from linglos_deploy.backends.onnxruntime import Int8Mode, OnnxRuntime
from linglos_deploy.choices import Precision
from linglos_deploy.errors import LinglosError
from linglos_deploy.exporters.rounding import with_explicit_rounding
from linglos_deploy.graph.axes import input_axes
from linglos_deploy.graph.precision import precision_of_graph
from linglos_deploy.parity.criteria import CriteriaFile
from linglos_deploy.parity.int8_modes import compare_int8_modes
from linglos_deploy.parity.layerwise import check_layers, compare_layers, shared_tensors
from linglos_deploy.parity.positions import check_positions, check_sizes, first_images
from linglos_deploy.parity.reached import ENOUGH_DB, Reached, check_identity, check_reached, digest_of, reached_by
from linglos_deploy.parity.recording import Ask, Recording, ask_here, record
from linglos_deploy.parity.structure import prove
from linglos_deploy.parity.verdict import Criteria, Limits, View, allow_noise, check_parity
from linglos_deploy.profiling.access import EngineAccess
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.quantization.placement import Placement, find_placement, placement_names
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.parity import (
    Finding,
    LayerReport,
    Location,
    OutputParity,
    ParityReport,
    Probe,
    StructuralProof,
)
from linglos_deploy.signature import Batch, Decoding, ModelSignature
from linglos_deploy.tasks.registry import load_task
from linglos_deploy.verbs.consistency import SelfTest
from linglos_deploy.verbs.execution import check_execution

if TYPE_CHECKING:
    import onnx

BATCH = 8
"""Images of one run: enough to keep two cores busy, little memory."""

LAYER_IMAGES = 4
"""Images on which every inner tensor is looked at."""

MODE_BATCHES = 8
"""Batches on which the fast INT8 kernels are compared with the exact ones."""

NOTABLE_DB = 6.0
"""How much lower synthetic images may lie before the report says why."""

EXTREME_LIMITS = Limits(sqnr_db=80)
"""Limits of float32 on made-up inputs: what shows only there is far larger, and some are all rounding."""

SCALES = "its scales are those that calibration found"
"""Name of the finding about an INT8 graph without its plan."""

_CLEAR_DB = 95.0
"""Noise of a reference from which made-up inputs are held to the limits above, and no more."""

Batches = Callable[[ModelSignature], Iterable[Batch]]
"""Gives the images of a check afresh, in the form that a model of that signature takes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to check.

    Attributes:
        graph: The graph, or the engine.
        precision: Whose criteria apply.
        trained: Whether its weights are trained, so that its best class means something.
        parent: The float32 graph that it was made from, if it was made from one.
        counterpart: The graph whose inner tensors it is compared with, if another one than ``parent``.
        plan: The quantization plan that it carries out, if it is known.
        decoding: What its outputs mean, if it is known.
        labels: Names of its classes, if they are known.
        placement: Where its pairs stand, if that is known.
        self_test: What a loader tests itself with, if its bundle brings that.
        unplanned: Whether the scales of an INT8 graph are taken as they are, because somebody said so.
        access: How it is opened, if it is an engine.
    """

    graph: OnnxArtifact | EngineArtifact
    precision: Precision
    trained: bool = True
    parent: OnnxArtifact | None = None
    counterpart: OnnxArtifact | None = None
    plan: QuantPlan | None = None
    decoding: Decoding | None = None
    labels: tuple[str, ...] = ()
    placement: Placement | None = None
    self_test: SelfTest | None = None
    unplanned: bool = False
    access: EngineAccess = field(default_factory=EngineAccess)

    @property
    def indices(self) -> frozenset[str]:
        """Its outputs whose numbers are class indices."""
        if self.decoding is None:
            return frozenset()
        roles = load_task(self.decoding.task).indices
        return frozenset(output for role, output in self.decoding.outputs.items() if role in roles)

    @property
    def views(self) -> dict[str, View]:
        """How those of its outputs are compared whose rows have no fixed order."""
        if self.decoding is None:
            return {}
        known = load_task(self.decoding.task).views
        return {output: known[role] for role, output in self.decoding.outputs.items() if role in known}

    @property
    def choices(self) -> frozenset[str]:
        """Its outputs that choose among close numbers."""
        return self.indices | self.views.keys()

    @property
    def like(self) -> OnnxArtifact | None:
        """The graph whose inner tensors it is compared with."""
        return self.counterpart or self.parent

    @property
    def takes_pixels(self) -> bool:
        """Whether it takes uint8 pixels."""
        return self.graph.signature.inputs[0].dtype == "uint8"

    @property
    def name(self) -> str:
        """Its file name."""
        return self.graph.path.name

    @property
    def backend(self) -> str:
        """What runs it."""
        return self.graph.backend if isinstance(self.graph, EngineArtifact) else "onnxruntime"


@dataclass(frozen=True, slots=True)
class InputSet:
    """Images of one kind, and what the reference answers to them.

    Attributes:
        name: What reports call them, such as ``"golden"``.
        reference: The recorded answers.
        batches: The images.
        synthetic: Whether they are noise that was made up, beside real ones: outside of what INT8 ranges are made for.
        extreme: Whether they are extremes, for graphs whose wiring nothing proves; not in ``reached``.
        noise_db: SQNR of the reference's own float32 arithmetic, per output, where it was measured.
        asking: Returns how a subject's answers to them come about.
    """

    name: str
    reference: Recording
    batches: Batches
    synthetic: bool = False
    extreme: bool = False
    noise_db: Mapping[str, float] = field(default_factory=dict)
    asking: Callable[[Subject], Ask] = lambda subject: ask_here


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about one subject.

    Attributes:
        report: The verdict.
        layers: Its inner tensors next to its parent's; ``None`` if they were not compared.
        reached: What to hold a later check against.
        location: Where it first goes wrong, if that was asked for.
    """

    report: ParityReport
    layers: LayerReport | None
    reached: tuple[Reached, ...]
    location: Location | None = None


def check_subjects(
    subjects: Sequence[Subject],
    sets: Sequence[InputSet],
    *,
    threads: int = 0,
    layers: bool = True,
    reached: Sequence[Reached] = (),
    criteria: CriteriaFile | None = None,
    progress: Progress = SILENT,
) -> tuple[Verdict, ...]:
    """Judge each subject on every set of images, against what a reference answered.

    Args:
        subjects: What to check.
        sets: The images; inner tensors are compared on the first set.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        layers: Whether inner tensors are compared with those of the parent.
        reached: What the same graphs reached when their bundle was made.
        criteria: Limits of the user's own.
        progress: Told of every batch.
    """
    return tuple(
        _check_subject(
            subject,
            sets,
            threads=threads,
            layers=layers,
            reached=[entry for entry in reached if entry.graph == subject.name],
            criteria=criteria or CriteriaFile(),
            progress=progress,
        )
        for subject in subjects
    )


def _check_subject(
    subject: Subject,
    sets: Sequence[InputSet],
    *,
    threads: int,
    layers: bool,
    reached: Sequence[Reached],
    criteria: CriteriaFile,
    progress: Progress,
) -> Verdict:
    unproven = subject.precision is Precision.FP32 and isinstance(subject.graph, OnnxArtifact)
    sets = [images for images in sets if unproven or not images.extreme]
    proof = None
    if subject.parent is not None and isinstance(subject.graph, OnnxArtifact):
        names = subject.parent.path.name, subject.name
        graphs = load_onnx(subject.parent.path), load_onnx(subject.graph.path)
        proof = prove_derived(subject, *graphs, names=names)
    inputs = {images.name: digest_of(images.reference) for images in sets}
    outputs: list[OutputParity] = []
    findings = list(check_identity(subject.name, subject.graph.digest, reached))
    runtime = runtime_of(subject, threads, _places_in(sets))
    with open_subject(subject, runtime) as runner:
        for images in sets:
            report = check_parity(
                images.reference,
                runner,
                _criteria(subject, images, criteria, real=any(not other.synthetic for other in sets)),
                batches=images.batches(subject.graph.signature),
                name=subject.name,
                images=images.name,
                same_inputs=not subject.takes_pixels,
                ask=images.asking(subject),
                progress=progress,
            )
            outputs += report.outputs
            findings += report.findings
        first = sets[0].batches(subject.graph.signature)
        findings.append(check_positions(runner, first, subject.precision, choices=subject.choices))
        if unproven:
            first = sets[0].batches(subject.graph.signature)
            findings += check_sizes(runner, first, noise_db=sets[0].noise_db, choices=subject.choices)
        findings += [subject.self_test.check(runner)] if subject.self_test is not None else []
    layer_report = _compare_layers(subject, sets[0], threads, progress) if layers else None
    if layer_report is not None:
        same = [entry.layers for entry in reached if entry.inputs == inputs.get(entry.images)] if reached else []
        known = next((kept for kept in same if kept), {})
        findings += check_layers(layer_report, subject.precision, known)
    plain = {images.name for images in sets if not images.extreme}
    ordinary = [it for it in outputs if it.images in plain and it.output.partition(".")[0] not in subject.choices]
    findings += check_reached(ordinary, reached, subject.precision, inputs=inputs)
    findings += [found for found in (check_execution(subject), _open_scales(subject)) if found is not None]
    warnings = _warnings(subject, sets, outputs, threads)
    return _put_together(subject, sets, inputs, outputs, proof, findings, layer_report, warnings)


def _open_scales(subject: Subject) -> Finding | None:
    """Return the finding that nothing can tell whether an INT8 graph's scales are right; ``None`` where a plan can.

    Scales that are wrong and consistent are those of another calibration: a tenth more changes every answer a little,
    as other images would, so no measurement can tell.
    """
    if subject.plan is not None or subject.unplanned or not isinstance(subject.graph, OnnxArtifact):
        return None
    if not subject.precision.is_int8 and not precision_of_graph(load_onnx(subject.graph.path)).is_int8:
        return None
    return Finding(
        SCALES,
        None,
        f"no quantization plan of '{subject.name}' is at hand, and scales that are consistent look right without one",
        "name its plan with --plan, or take its scales as they are with --no-plan",
        undecided=True,
    )


def prove_derived(
    subject: Subject,
    parent: onnx.ModelProto,
    graph: onnx.ModelProto,
    *,
    names: tuple[str, str] = ("parent", "candidate"),
) -> StructuralProof:
    """Prove a derived graph; where nobody says in which placement its pairs stand, in the one that differs least."""
    known = subject.placement
    placements = [known] if known or not subject.precision.is_int8 else [*map(find_placement, placement_names())]
    proofs = []
    for placement in placements:
        proofs.append(prove(parent, graph, subject.precision, plan=subject.plan, placement=placement, names=names))
        if proofs[-1].passed:
            return proofs[-1]
    return min(proofs, key=lambda proof: len(proof.differences))


def _criteria(subject: Subject, images: InputSet, file: CriteriaFile, *, real: bool) -> Criteria:
    noise = images.noise_db
    if isinstance(subject.graph, EngineArtifact):  # its kernels are another vendor's, and need not be as quiet
        noise = {output: min(found, ENOUGH_DB) for output, found in noise.items()}
    if images.extreme:
        limits = {output: allow_noise(EXTREME_LIMITS, min(found, _CLEAR_DB)) for output, found in noise.items()}
        limits |= dict.fromkeys(subject.indices, Limits())  # of a flat image all places tie
        rest = Limits() if subject.views else EXTREME_LIMITS  # and so do the rows that are chosen among them
        criteria = Criteria(subject.precision, rest, limits, indices=subject.indices, views=subject.views)
        return file.apply(criteria, backend=subject.backend, images=images.name)
    criteria = Criteria.for_precision(
        subject.precision, trained=subject.trained, noise_db=noise, samples=images.reference.samples
    )
    if images.synthetic and real and subject.precision.is_int8:
        criteria = replace(criteria, limits=Limits())  # far beyond what the ranges were made for: it may all be clipped
    judged = subject.trained and not images.synthetic
    criteria = criteria.with_indices(subject.indices, trained=judged) if subject.indices else criteria
    criteria = criteria.with_views(subject.views, trained=judged) if subject.views else criteria
    return file.apply(criteria, backend=subject.backend, images=images.name)


def _compare_layers(subject: Subject, images: InputSet, threads: int, progress: Progress) -> LayerReport | None:
    if subject.like is None or not isinstance(subject.graph, OnnxArtifact):
        return None
    if not shared_tensors(load_onnx(subject.like.path), load_onnx(subject.graph.path)):
        return None
    narrow = subject.precision.floating is not Precision.FP32
    return compare_layers(
        subject.like,
        subject.graph,
        _few(images, subject.graph.signature),
        runtime=AnyBatch(OnnxRuntime(threads=threads)),
        ordered=not subject.choices,
        prepare=with_explicit_rounding if narrow else lambda model: model,
        progress=progress,
    )


def _few(images: InputSet, signature: ModelSignature) -> Iterator[Batch]:
    """Yield a few images; one by one for a graph that takes no more, as all tensors of a batch are held at once."""
    few = first_images(images.batches(signature), LAYER_IMAGES)
    count = min((len(array) for array in few.values()), default=0)
    size = 1 if input_axes(signature).batch == 1 else max(count, 1)
    for start in range(0, count, size):
        yield from in_layout({name: array[start : start + size] for name, array in few.items()}, signature)


def _put_together(
    subject: Subject,
    sets: Sequence[InputSet],
    inputs: Mapping[str, str],
    outputs: Sequence[OutputParity],
    proof: StructuralProof | None,
    findings: Sequence[Finding],
    layers: LayerReport | None,
    warnings: tuple[str, ...],
) -> Verdict:
    proven = proof is None or proof.passed
    report = ParityReport(
        reference=" and ".join(dict.fromkeys(images.reference.source for images in sets)),
        candidate=subject.name,
        precision=subject.precision,
        samples=sum(images.reference.samples for images in sets),
        outputs=tuple(outputs),
        warnings=warnings,
        passed=proven
        and all(output.passed for output in outputs)
        and all(finding.passed is not False and not finding.undecided for finding in findings),
        proof=proof,
        findings=tuple(findings),
        labels=subject.labels,
        growth=tuple(Probe(layer.tensor, round(layer.metrics.sqnr_db, 1)) for layer in layers.layers) if layers else (),
    )
    noise = {images.name: {name: round(found, 1) for name, found in images.noise_db.items()} for images in sets}
    plain = {images.name for images in sets if not images.extreme}
    reached = reached_by(
        replace(report, outputs=tuple(output for output in report.outputs if output.images in plain)),
        graph=subject.name,
        digest=subject.graph.digest,
        inputs=inputs,
        layers=layers if subject.parent is not None else None,
        noise_db=noise,
    )
    return Verdict(report, layers, reached)


def _warnings(
    subject: Subject, sets: Sequence[InputSet], outputs: Sequence[OutputParity], threads: int
) -> tuple[str, ...]:
    """Return what the reader should know besides.

    Where the reference itself is no number, what this CPU's INT8 kernels do, and why sets of images differ.
    """
    warnings = [
        f"The reference itself answers NaN or infinity: {output.metrics.nonfinite_reference} values of"
        f" '{output.output}' on the {output.images} images. Only their places are compared."
        for output in outputs
        if output.metrics.nonfinite_reference
    ]
    if subject.precision.is_int8 and isinstance(subject.graph, OnnxArtifact):
        if subject.unplanned:
            warnings.append(
                f"The scales of '{subject.name}' were taken as they are, because of --no-plan: nothing says that they "
                "are those that calibration found."
            )
        images = sets[0]
        few = replace(images.reference, shards=images.reference.shards[:MODE_BATCHES])
        modes = compare_int8_modes(
            few,
            subject.graph,
            list(islice(images.batches(subject.graph.signature), len(few.shards))),
            exact=ImagesFirst(OnnxRuntime(threads=threads), _places_in(sets)),
            fast=ImagesFirst(OnnxRuntime(threads=threads, int8=Int8Mode.FAST), _places_in(sets)),
            same_inputs=not subject.takes_pixels,
        )
        warnings += [modes.warning] if modes.warning else []
        means = {
            images.synthetic: output.metrics.sample_db_mean
            for images in sets
            for output in outputs
            if output.images == images.name
        }
        if len(means) == 2 and means[False] - means[True] > NOTABLE_DB:
            warnings.append(
                f"The synthetic golden images reach {means[True]:.0f} dB, averaged over images, where real ones reach "
                f"{means[False]:.0f}: "
                "they are noise of odd sizes, which the INT8 ranges were not made for; they test loaders."
            )
    return tuple(warnings)


@contextmanager
def open_subject(subject: Subject, runtime: Runtime) -> Iterator[Runner]:
    """Open an artifact so that what is checked is the artifact, not the accident of a kernel.

    A CPU runs a float16 graph in float32 from border to border, and a bfloat16 graph not at all; so 16-bit graphs, and
    the 16-bit parts of INT8 graphs, run with the rounding that a GPU does written out
    (:mod:`linglos_deploy.exporters.rounding`).
    """
    if isinstance(subject.graph, EngineArtifact):
        with runtime.open(subject.graph, **subject.access.where()) as runner:
            yield runner
        return
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
    runner: Runner,
    batches: Iterable[Batch],
    *,
    source: str,
    ids: Sequence[str],
    ask: Ask = ask_here,
    progress: Progress,
) -> Iterator[Recording]:
    """Record a reference for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="linglos-parity-") as scratch:
        out = Path(scratch) / "reference"
        yield record(runner, batches, out=out, source=source, ids=ids, ask=ask, progress=progress)


def why_not_here(subject: Subject) -> str | None:
    """Return why an artifact cannot run on this machine, or ``None`` if it can."""
    if isinstance(subject.graph, OnnxArtifact):
        return None
    try:
        probe = registry.probe(subject.backend)
    except LinglosError as error:
        return error.message
    return None if probe.runs else probe.detail


def not_checked(subject: Subject, reason: str, command: str) -> Finding:
    """Return the finding that an engine was not checked, with the command that checks it where it can run."""
    return Finding(
        f"engine {subject.name}",
        None,
        f"not checked here: {reason}",
        f"run '{command}' on the target",
    )


def runtime_of(subject: Subject, threads: int, places: Places, found: Found | None = None) -> Runtime:
    """Return what runs a subject image by image; see :class:`~linglos_deploy.backends.images_first.ImagesFirst`."""
    if isinstance(subject.graph, OnnxArtifact):
        return ImagesFirst(OnnxRuntime(threads=threads), places, found)
    runtime = registry.runtime(subject.backend, **subject.access.options_for(subject.backend))
    return ImagesFirst(runtime, places, found)


def _places_in(sets: Sequence[InputSet]) -> Places:
    """Return where the reference has the images in its outputs: there a subject must have them, too."""
    return {name: place for images in reversed(sets) for name, place in images.reference.places.items()}
