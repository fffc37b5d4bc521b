"""The backend object of either flavour: a compiler and a runtime over the shared functions."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact
from linglos_deploy.backends.base import CPU, BuildSpec, Device, Probe, Runner
from linglos_deploy.backends.machine import find_gpus
from linglos_deploy.backends.trt.build import build_engine
from linglos_deploy.backends.trt.flavour import Flavour, installed_version, load
from linglos_deploy.errors import ArtifactError, MissingDependencyError
from linglos_deploy.progress import SILENT, Progress


@dataclass(frozen=True, slots=True)
class Options:
    """How a backend works, apart from what it builds.

    Attributes:
        verbose: Whether build logs keep the builder's verbose messages.
    """

    verbose: bool = False


class TensorRt:
    """Compiles engines and runs them, for one flavour of TensorRT."""

    def __init__(self, flavour: Flavour, options: Options) -> None:
        self.name = flavour.name
        self.flavour = flavour
        self.options = options

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        """Compile ``model``; see :func:`linglos_deploy.backends.trt.build.build_engine`."""
        module = load(self.flavour)
        return build_engine(
            module,
            self.flavour,
            model=model,
            spec=spec,
            out=out,
            verbose=self.options.verbose,
            progress=progress,
        )

    def open(self, artifact: Artifact, *, device: Device = CPU) -> AbstractContextManager[Runner]:
        """Open an engine on a GPU; leaving the context frees everything it holds.

        Raises:
            ArtifactError: The artifact is not an engine of this backend, or does not fit this machine.
            MissingDependencyError: There is no GPU, or a package is missing.
        """
        if not isinstance(artifact, EngineArtifact) or artifact.backend != self.name:
            raise ArtifactError(
                f"{self.flavour.title} runs the engines that it compiled.",
                found=f"{artifact.backend} engine" if isinstance(artifact, EngineArtifact) else type(artifact).__name__,
                expected=f"a {self.name} engine",
                next_step=f"linglos-deploy build MODEL.onnx --engine {self.name}",
            )
        gpus, _, detail = find_gpus()
        if not gpus:
            raise MissingDependencyError(
                f"Running a {self.flavour.title} engine needs an NVIDIA GPU.",
                found=detail,
                next_step="run it on a machine with a GPU; 'linglos-deploy doctor BUNDLE' says which ones will do",
            )
        raise MissingDependencyError("Running engines is not built in yet.")

    def probe(self) -> Probe:
        """Say what this flavour offers here, without importing it."""
        version = installed_version(self.flavour)
        gpus, _, gpu_detail = find_gpus()
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
        )
