"""ONNX graph -> engine: the plan as the builder wrote it, a sidecar that says what it is, and the builder's log."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.trt.configure import configure, target_of
from linglos_deploy.backends.trt.flavour import Flavour
from linglos_deploy.backends.trt.log import Log, make_logger
from linglos_deploy.backends.trt.monitor import interruptible, make_monitor
from linglos_deploy.backends.trt.parse import describe_node, explain, parse_network
from linglos_deploy.backends.trt.profiles import add_profiles
from linglos_deploy.backends.trt.timing import timing_cache
from linglos_deploy.engines.record import SCHEMA, UNKNOWN, EngineRecord, build_step, path_from, write_engine
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import BuildError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.doctor import Machine


@dataclass(frozen=True, slots=True)
class Built:
    """A plan in memory.

    Attributes:
        plan: The builder's bytes.
        flags: Builder flags that were on.
        log: What the builder said.
    """

    plan: bytes
    flags: tuple[str, ...]
    log: Log


def build_engine(
    module: Any,
    flavour: Flavour,
    *,
    model: OnnxArtifact,
    spec: BuildSpec,
    out: Path,
    machine: Machine,
    timings: Path | None = None,
    verbose: bool = False,
    progress: Progress = SILENT,
) -> EngineRecord:
    """Compile ``model`` and write plan, sidecar and log.

    Args:
        module: The vendor's module.
        flavour: Which of the two it is.
        model: The graph.
        spec: How to compile.
        out: Where the plan goes; ``.json`` and ``.log`` get the same stem.
        machine: The machine that compiles.
        timings: File with timings of earlier builds; ``None`` for none.
        verbose: Whether the log keeps the builder's verbose messages.
        progress: Receives the builder's phases.

    Raises:
        UsageError: ``spec`` does not fit the model, the flavour or the release.
        BuildError: The graph cannot be compiled.
        KeyboardInterrupt: Ctrl-C was pressed during the build.
    """
    if spec.version_compatible:
        progress.warn("a version-compatible engine holds host code: load only those that you built yourself")
    built = compile_plan(module, flavour, model=model, spec=spec, timings=timings, verbose=verbose, progress=progress)
    record = _describe(module, flavour, model=model, spec=spec, built=built, machine=machine, out=out)
    write_engine(record, built.plan, log=built.log.text(), out=out)
    return record


def compile_plan(
    module: Any,
    flavour: Flavour,
    *,
    model: OnnxArtifact,
    spec: BuildSpec,
    timings: Path | None,
    verbose: bool,
    progress: Progress,
) -> Built:
    """Compile ``model`` into a plan in memory.

    Raises:
        UsageError: ``spec`` does not fit the model, the flavour or the release.
        BuildError: The graph cannot be compiled.
        KeyboardInterrupt: Ctrl-C was pressed during the build.
    """
    log = Log(verbose=verbose)
    logger = make_logger(module, log)
    builder = module.Builder(logger)
    config = builder.create_builder_config()
    flags = configure(module, flavour, config, spec)
    network = parse_network(module, builder, model, logger=logger, log=log)
    add_profiles(builder, config, spec, model.signature)
    with interruptible() as interrupt, ExitStack() as stages, timing_cache(config, timings):
        config.progress_monitor = make_monitor(module, progress, interrupt, stages)
        memory = builder.build_serialized_network(network, config)
    if memory is None:
        raise _failure(module, model, log)
    return Built(plan=bytes(memory), flags=flags, log=log)


def _describe(
    module: Any, flavour: Flavour, *, model: OnnxArtifact, spec: BuildSpec, built: Built, machine: Machine, out: Path
) -> EngineRecord:
    gpu = machine.gpus[0] if machine.gpus else None
    target = target_of(flavour, spec, gpu=gpu, driver=machine.driver, platform=machine.platform)
    return EngineRecord(
        schema=SCHEMA,
        backend=flavour.name,
        version=module.__version__,
        digest=sha256_bytes(built.plan),
        bytes=len(built.plan),
        onnx_digest=model.digest,
        onnx_name=model.path.name,
        target=target,
        spec=spec,
        flags=built.flags,
        strongly_typed=True,
        host_code=spec.version_compatible,
        precision=UNKNOWN,
        signature=model.signature,
        lineage=(*model.lineage, build_step(flavour.name, module.__version__, model=model, spec=spec)),
        onnx_path=path_from(out.parent, model.path),
    )


def _failure(module: Any, model: OnnxArtifact, log: Log) -> BuildError:
    errors = "\n".join(log.errors()) or log.tail()
    node, suggestion = explain(errors, load_onnx(model.path))
    what = f"'{model.path}'" if node is None else describe_node(node)
    return BuildError(
        f"{module.__name__} {module.__version__} cannot build {what}.",
        found=f"the end of its log:\n{log.tail()}",
        next_step=suggestion,
    )
