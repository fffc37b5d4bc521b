"""Which engines a bundle gets: what was asked for, what this machine can compile, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import BuildSpec, Compiler, Probe, ShapeRange
from linglos_deploy.backends.trt.profiles import Range, make_profile
from linglos_deploy.backends.trt.sizes import Size, SizeProfile, around, check_fit, check_order
from linglos_deploy.backends.trt.targets import apply_preset, find_preset
from linglos_deploy.choices import EngineChoice
from linglos_deploy.errors import BuildError, LinglosError, MissingDependencyError, UsageError
from linglos_deploy.graph.metadata import read_metadata, read_preprocessing
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.export import EngineOutcome
from linglos_deploy.signature import ModelSignature

DEFAULT_SIZE = (224, 224)
DEFAULT_DIVISOR = 32
"""What a graph that does not say is taken for, unless the user says which sizes it takes."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How engines are built, before the graph is known.

    Attributes:
        batch_profiles: One optimization profile each: smallest, best and largest batch.
        size_profile: Smallest, best and largest height and width, for graphs with dynamic resolution; ``None`` serves
            the nominal size and anything from half to twice of it.
        settings: Everything else; its profiles are replaced by those above.
        target: A kind of hardware, such as ``jetson-orin``, whose settings fill in what ``settings`` leaves open.
        cache: Whether an engine that was built before from the same graph and settings is taken.
    """

    batch_profiles: tuple[Range, ...] = ((1, 1, 8),)
    size_profile: SizeProfile | None = None
    settings: BuildSpec = field(default_factory=lambda: BuildSpec(profiles=()))
    target: str | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        if self.target is not None:
            find_preset(self.target)
        if self.size_profile is not None:
            check_order(self.size_profile)

    def spec(
        self, signature: ModelSignature, *, backend: str, nominal_size: Size, divisor: int | None = None
    ) -> BuildSpec:
        """Return the build specification for one graph on one backend.

        Args:
            signature: Of the graph.
            backend: What compiles it.
            nominal_size: Height and width that the model was made for.
            divisor: Heights and widths are multiples of this; ``None`` if the graph does not say.

        Raises:
            UsageError: A profile does not fit the graph, or the backend does not support the target.
        """
        spec = replace(self.settings, profiles=self._profiles(signature, nominal_size, divisor))
        return spec if self.target is None else apply_preset(find_preset(self.target), spec, backend=backend)

    def _profiles(
        self, signature: ModelSignature, nominal_size: Size, divisor: int | None
    ) -> tuple[Mapping[str, ShapeRange], ...]:
        dynamic = {dim for tensor in signature.inputs for dim in tensor.dims if isinstance(dim, str)}
        if self.size_profile is not None:
            check_fit(self.size_profile, dynamic={"height", "width"} <= dynamic, divisor=divisor or 1)
        if not dynamic:
            return ()
        smallest, best, largest = self.size_profile or around(nominal_size, divisor or DEFAULT_DIVISOR)
        sizes: dict[str, Range] = {
            "height": (smallest[0], best[0], largest[0]),
            "width": (smallest[1], best[1], largest[1]),
        }
        batches: Sequence[Range] = self.batch_profiles if "batch" in dynamic else ((1, 1, 1),)
        return tuple(
            make_profile(signature, {name: span for name, span in {**sizes, "batch": batch}.items() if name in dynamic})
            for batch in batches
        )


def parse_batch_profile(text: str) -> Range:
    """Parse ``8`` (that batch only) or ``1,8,32`` (smallest, best and largest).

    Raises:
        UsageError: The text is something else.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or numbers[0] < 1 or numbers != sorted(numbers):
        raise UsageError(
            "A profile is a batch size, or the smallest, best and largest one.",
            found=text,
            expected="one whole number from 1, or three that do not fall",
            next_step="--profile 1,8,32",
        )
    return numbers[0], numbers[1], numbers[2]


def choose_compilers(
    choice: EngineChoice, engine_options: EngineOptions
) -> tuple[dict[str, Compiler], tuple[Probe, ...]]:
    """Decide which compilers to use, before any work is spent. With a target, ``AUTO`` takes those that support it.

    Returns:
        The compilers by name, and the probes of those that ``AUTO`` had to pass over.

    Raises:
        MissingDependencyError: The compiler that was asked for by name cannot be used here.
    """
    if choice is EngineChoice.NONE:
        return {}, ()
    if choice is EngineChoice.AUTO:
        names: tuple[str, ...] = (EngineChoice.TENSORRT_RTX, EngineChoice.TENSORRT)
        if engine_options.target is not None:
            names = find_preset(engine_options.target).backends
        probes = [registry.probe(name) for name in names]
        usable = {probe.name: _compiler(probe.name, engine_options) for probe in probes if probe.compiles}
        return usable, tuple(probe for probe in probes if not probe.compiles)
    probe = registry.probe(choice)
    if not probe.compiles:
        raise MissingDependencyError(
            f"No {choice} engine can be built here.",
            found=probe.detail,
            expected="the package, and a GPU where the builder needs one",
            next_step=probe.how_to_get or "build on the machine that will run it, or --engine tensorrt-rtx",
        )
    return {choice: _compiler(choice, engine_options)}, ()


def _compiler(name: str, engine_options: EngineOptions) -> Compiler:
    return registry.compiler(name, cache=engine_options.cache)


def compile_graph(
    model: OnnxArtifact,
    choice: EngineChoice,
    engine_options: EngineOptions,
    *,
    compilers: Mapping[str, Compiler],
    folder: Path,
    progress: Progress = SILENT,
) -> tuple[tuple[EngineArtifact, ...], tuple[EngineOutcome, ...]]:
    """Compile ``model`` with every compiler; under ``AUTO`` one that fails becomes an outcome that says why.

    Raises:
        BuildError: The graph cannot be compiled by the compiler that was asked for.
        MissingDependencyError: Something that the build needs is missing.
        UsageError: The settings do not fit the graph.
    """
    metadata = read_metadata(model.path)
    nominal = read_preprocessing(model.path).input_size if "preprocessing" in metadata else DEFAULT_SIZE
    divisor = int(metadata["size_divisor"]) if "size_divisor" in metadata else None
    engines, outcomes = [], []
    for name, compiler in compilers.items():
        spec = engine_options.spec(model.signature, backend=name, nominal_size=nominal, divisor=divisor)
        try:
            engine, outcome = _compile(compiler, model, spec, folder=folder, progress=progress)
        except (BuildError, MissingDependencyError) as error:
            if choice is not EngineChoice.AUTO:
                raise
            outcomes.append(_failed(name, model, error))
        else:
            engines.append(engine)
            outcomes.append(outcome)
    return tuple(engines), tuple(outcomes)


def _compile(
    compiler: Compiler, model: OnnxArtifact, spec: BuildSpec, *, folder: Path, progress: Progress
) -> tuple[EngineArtifact, EngineOutcome]:
    """Compile ``model`` into ``folder`` under a name that says what it is and where it runs."""
    started = time.monotonic()
    draft = folder / f"{model.path.stem}.{compiler.name}.engine"
    engine = compiler.compile(model, spec, out=draft, progress=progress)
    seconds = time.monotonic() - started
    engine = _rename(engine, f"{model.path.stem}.{engine_tag(engine)}")
    capability = engine.requirements.get("compute_capability", "this GPU")
    outcome = EngineOutcome(
        backend=engine.backend,
        file=engine.path.name,
        source=model.path.name,
        seconds=seconds,
        bytes=engine.path.stat().st_size,
        detail=f"{engine.backend} {engine.requirements.get('version', '')}, compute capability {capability}",
    )
    return engine, outcome


def _failed(name: str, model: OnnxArtifact, error: LinglosError) -> EngineOutcome:
    detail = f"{error.message} {error.found or ''}".strip()
    return EngineOutcome(backend=name, file=None, source=model.path.name, seconds=0.0, bytes=0, detail=detail)


def engine_tag(engine: EngineArtifact) -> str:
    """Return the part of an engine's file name that says who can load it, such as ``tensorrt-rtx1.7.1-sm86+``."""
    capability = engine.requirements.get("compute_capability", "")
    targets = capability.replace(" or later", "+").replace(", ", "_").replace(".", "")
    return f"{engine.backend}{engine.requirements.get('version', '')}-sm{targets}"


def not_built(probe: Probe, source: str) -> EngineOutcome:
    """Say why ``AUTO`` passed a compiler over."""
    how = f"; {probe.how_to_get}" if probe.how_to_get else ""
    return EngineOutcome(
        backend=probe.name, file=None, source=source, seconds=0.0, bytes=0, detail=f"{probe.detail}{how}"
    )


def _rename(engine: EngineArtifact, stem: str) -> EngineArtifact:
    for file in engine.path.parent.glob(f"{engine.path.stem}.*"):
        file.rename(file.with_name(stem + file.suffix))
    return replace(engine, path=engine.path.with_name(f"{stem}.engine"))
