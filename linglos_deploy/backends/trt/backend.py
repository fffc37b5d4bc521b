"""The backend object of either flavour: a compiler and a runtime over the shared functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact
from linglos_deploy.backends import machine as this_machine
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.backends.trt.build import build_engine
from linglos_deploy.backends.trt.cuda import Cuda
from linglos_deploy.backends.trt.cuda import load_cuda as import_cuda
from linglos_deploy.backends.trt.flavour import Flavour, installed_version, version_tuple
from linglos_deploy.backends.trt.flavour import load as import_vendor
from linglos_deploy.backends.trt.inspect import prove_precisions
from linglos_deploy.backends.trt.precision import require_precisions
from linglos_deploy.backends.trt.preflight import plan_conditions
from linglos_deploy.backends.trt.runner import RunOptions, Session, open_session
from linglos_deploy.backends.trt.timing import timing_path
from linglos_deploy.codec import write_json
from linglos_deploy.engines.cache import EngineCache, cache_key, compile_or_copy, user_cache_dir
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.preflight import require_loadable
from linglos_deploy.engines.record import (
    UNKNOWN,
    EngineRecord,
    PrecisionProof,
    adopt,
    copy_engine,
    find_graph,
    read_record,
    sidecar_path,
)
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import ArtifactError, BuildError, MissingDependencyError
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.doctor import Condition, Gpu, Machine


@dataclass(frozen=True, slots=True)
class Options:
    """How a backend works, apart from what it builds.

    Attributes:
        cache: Whether engines, timings and compiled kernels of earlier runs are used and kept.
        cache_dir: Where they are; ``None`` for this package's folder in the user's cache directory.
        verbose: Whether build logs keep the builder's verbose messages.
        run: How engines are run.
    """

    cache: bool = True
    cache_dir: Path | None = None
    verbose: bool = False
    run: RunOptions = field(default_factory=RunOptions)

    @property
    def folder(self) -> Path:
        """Where things are kept."""
        return self.cache_dir or user_cache_dir()


class TensorRt:
    """Compiles engines and runs them, for one flavour of TensorRT.

    Args:
        flavour: Which one.
        options: How.
        load: Imports the vendor's module.
        load_cuda: Imports the CUDA bindings.
        look: Describes the machine.
    """

    def __init__(
        self,
        flavour: Flavour,
        options: Options,
        *,
        load: Callable[[Flavour], Any] = import_vendor,
        load_cuda: Callable[[], Any] = import_cuda,
        look: Callable[[], Machine] = this_machine.describe_machine,
    ) -> None:
        self.name = flavour.name
        self.flavour = flavour
        self.options = options
        self._load = load
        self._load_cuda = load_cuda
        self._look = look

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        """Compile ``model`` into an engine at ``out``, or take the same engine from the cache.

        Raises:
            UsageError: ``spec`` does not fit the model, the flavour or the release.
            MissingDependencyError: The package is missing, or a GPU that it needs for building.
            BuildError: The graph cannot be compiled, or the engine lacks a precision that the graph asks for.
        """
        machine = self._look()
        gpu = self._builds_on(machine)
        version = self._version()
        key = cache_key(
            graph=model.digest,
            spec=spec,
            backend=self.name,
            version=version,
            machine={} if gpu is None else _identity(gpu, machine),
        )
        timings = None
        if self.options.cache and self.flavour.timing_cache and gpu is not None:
            timings = timing_path(self.options.folder, version=version, gpu=gpu.name)
        return compile_or_copy(
            EngineCache(self.options.folder) if self.options.cache else None,
            key,
            out=out,
            build=partial(self._build, model, spec, out=out, machine=machine, timings=timings, progress=progress),
            copy=partial(self._copy, model=model, spec=spec, out=out, machine=machine),
        )

    def open(self, artifact: Artifact, *, device: Device = CPU) -> AbstractContextManager[Runner]:
        """Open an engine on a GPU; leaving the context frees everything it holds.

        Args:
            artifact: An engine of this flavour.
            device: The GPU; the default takes the first one.

        Raises:
            ArtifactError: The artifact is not an engine of this flavour, or does not fit this machine.
            MissingDependencyError: There is no GPU, or a package is missing.
        """
        return self._open_runner(artifact, device)

    @contextmanager
    def open_session(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Session]:
        """Load an engine once for several runners, each with a stream of its own.

        Raises:
            ArtifactError: The artifact is not an engine of this flavour, or does not fit this machine.
            MissingDependencyError: There is no GPU, or a package is missing.
        """
        machine = self._look()
        if installed_version(self.flavour) is None:
            self._load(self.flavour)  # says what is missing and how to get it
        if not isinstance(artifact, EngineArtifact) or artifact.backend != self.name:
            graph = artifact.path if isinstance(artifact, OnnxArtifact) else "MODEL.onnx"
            raise ArtifactError(
                f"{self.flavour.title} runs the engines that it compiled.",
                found=f"{artifact.backend} engine" if isinstance(artifact, EngineArtifact) else type(artifact).__name__,
                expected=f"a {self.name} engine",
                next_step=f"linglos-deploy build {graph} --engine {self.name}",
            )
        if not machine.gpus:
            raise MissingDependencyError(
                f"Running a {self.flavour.title} engine needs an NVIDIA GPU.",
                found=machine.gpu_detail,
                next_step="run it on a machine with a GPU; 'linglos-deploy doctor BUNDLE' says which ones will do",
            )
        module = self._load(self.flavour)
        host = Host(
            machine=machine,
            device=device.index,
            versions={self.name: module.__version__},
            backend=self.name,
            allow_host_code=self.options.run.allow_host_code,
        )
        record = require_loadable(artifact.path, host, compiler=self)
        options = self.options.run
        if record.spec.strip_weights and options.weights is None:
            options = replace(options, weights=find_graph(record, artifact.path))
        if self.options.cache and options.runtime_cache is None and host.gpu is not None:
            options = replace(options, runtime_cache=self._kernels(record, host.gpu))
        cuda = Cuda(self._load_cuda(), device.index)
        with open_session(module, self.flavour, artifact.path, record, cuda=cuda, options=options) as session:
            yield session

    def conditions(self, plan: Path, record: EngineRecord, host: Host) -> tuple[Condition, ...]:
        """Compare one of this flavour's engines with a machine."""
        return plan_conditions(plan, record, host, self.flavour)

    def probe(self) -> Probe:
        """Say what this flavour offers here, without importing it."""
        version = installed_version(self.flavour)
        gpus, _, gpu_detail = this_machine.find_gpus()
        installed = version is not None
        compiles = installed and (self.flavour.ahead_of_time or bool(gpus))
        if not installed:
            detail = f"{self.flavour.title} is not installed"
        elif gpus:
            detail = f"builds and runs engines on {gpus[0].name}"
        elif compiles:
            detail = f"builds engines ahead of time; cannot run them here ({gpu_detail})"
        else:
            detail = f"installed, but it builds and runs on a GPU only ({gpu_detail})"
        return Probe(
            name=self.name,
            installed=installed,
            version=version,
            runs=installed and bool(gpus),
            compiles=compiles,
            detail=detail,
            how_to_get="" if installed else self.flavour.how_to_get,
            facts={"ahead_of_time": self.flavour.ahead_of_time, "cache": str(self.options.folder)},
        )

    @contextmanager
    def _open_runner(self, artifact: Artifact, device: Device) -> Iterator[Runner]:
        with self.open_session(artifact, device=device) as session, session.runner() as runner:
            yield runner

    def _builds_on(self, machine: Machine) -> Gpu | None:
        """Return the GPU that decides the result of a build; ``None`` for an ahead-of-time build."""
        if self.flavour.ahead_of_time:
            return None
        if not machine.gpus:
            self._load(self.flavour)  # where the package is missing too, say that first
            raise MissingDependencyError(
                f"{self.flavour.title} builds for the GPU at hand, and there is none.",
                found=machine.gpu_detail,
                next_step="build on the machine that will run the engine, or use --engine tensorrt-rtx, "
                "which builds without a GPU",
            )
        return machine.gpus[0]

    def _version(self) -> str:
        found = installed_version(self.flavour)
        if found is None or found == "unknown":
            return str(self._load(self.flavour).__version__)
        return found

    def _build(
        self,
        model: OnnxArtifact,
        spec: BuildSpec,
        *,
        out: Path,
        machine: Machine,
        timings: Path | None,
        progress: Progress,
    ) -> None:
        record = build_engine(
            self._load(self.flavour),
            self.flavour,
            model=model,
            spec=spec,
            out=out,
            machine=machine,
            timings=timings,
            verbose=self.options.verbose,
            progress=progress,
        )
        proof = self._inspect(record, plan=out, model=model, machine=machine)
        try:
            require_precisions(proof, allow_fallback=spec.allow_fallback)
        except BuildError:
            out.unlink(missing_ok=True)
            sidecar_path(out).unlink(missing_ok=True)
            raise
        write_json(replace(record, precision=proof), sidecar_path(out))

    def _copy(self, kept: Path, *, model: OnnxArtifact, spec: BuildSpec, out: Path, machine: Machine) -> None:
        """Copy an engine from the cache, with the names and the lineage of the graph at hand."""
        record = read_record(kept)
        proof = self._inspect(record, plan=kept, model=model, machine=machine)
        require_precisions(proof, allow_fallback=spec.allow_fallback)
        record = replace(adopt(record, model=model, spec=spec, out=out), precision=proof)
        copy_engine(kept, record, out=out)

    def _inspect(self, record: EngineRecord, *, plan: Path, model: OnnxArtifact, machine: Machine) -> PrecisionProof:
        """Return the precision proof; what was seen once is not looked at again."""
        device = _first_that_loads(record, machine)
        if record.precision.inspected or (device is None and record.precision != UNKNOWN):
            return record.precision
        return prove_precisions(
            None if device is None else self._load(self.flavour),
            self.flavour,
            plan=plan,
            record=record,
            model=model,
            device=device,
            why_not="no GPU here can load it" if machine.gpus else "no GPU",
            load_cuda=self._load_cuda,
        )

    def _kernels(self, record: EngineRecord, gpu: Gpu) -> Path:
        return self.options.folder / "kernels" / f"{record.version}-{gpu.compute_capability}-{record.digest}.bin"


def _identity(gpu: Gpu, machine: Machine) -> dict[str, str]:
    return {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver": machine.driver or "",
        "platform": machine.platform,
    }


def _first_that_loads(record: EngineRecord, machine: Machine) -> int | None:
    minimum = record.target.minimum_compute_capability
    for gpu in machine.gpus:
        later = minimum is not None and version_tuple(gpu.compute_capability) >= version_tuple(minimum)
        if later or gpu.compute_capability in record.target.compute_capabilities:
            return gpu.index
    return None
