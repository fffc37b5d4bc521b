"""ONNX Runtime: the reference that every graph is checked on, on a CPU or a CUDA device."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import Artifact, OnnxArtifact
from linglos_deploy.backends.base import CPU, Device, Probe, Runner
from linglos_deploy.backends.cpu import Int8Mode, physical_cores, this_cpu
from linglos_deploy.backends.layers import layer_profile, node_names, read_onnxruntime_trace, timed
from linglos_deploy.engines.record import PrecisionProof
from linglos_deploy.errors import ArtifactError, MissingDependencyError, RunError, UsageError
from linglos_deploy.reports.profile import LayerProfile
from linglos_deploy.signature import Batch, Dim, ModelSignature

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EXACT_SESSION_OPTIONS", "Int8Mode", "OnnxRuntime"]

EXACT_SESSION_OPTIONS = {"session.disable_quant_qdq": "1", "session.x64quantprecision": "1"}
"""What :attr:`Int8Mode.EXACT` sets, for loaders in other languages too.

The first keeps Q/DQ pairs as they stand, between floating-point operators. The second is for graphs that hold integer
operators already: their weights become uint8, so that sums do not saturate. See docs/decisions/int8-on-cpus.md.
"""

SATURATING_SESSION_OPTIONS = {"session.x64quantprecision": "1"}
"""What keeps sums of integers from saturating where a CPU has no dot products: weights become uint8. On a CPU that has
them it makes `s` slower than float32, because the kernels for it are others."""

_ONLY_FATAL = 4  # every error also comes as an exception; the log would only repeat it
_KEPT_BUFFER_SETS = 2  # the full batch and the last, shorter one
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_HOW_TO_GET = {"cpu": "pip install onnxruntime", "cuda": "pip install onnxruntime-gpu"}


class OnnxRuntime:
    """Runs ONNX graphs.

    Args:
        threads: Threads of one operator, 0 for one per physical core.
        int8: ``EXACT`` computes Q/DQ graphs in floating point from the quantized values, so that the answer is the
            graph's on every machine. ``SAFE`` uses this CPU's INT8 kernels that do not overflow, ``FAST`` the fastest;
            without VNNI or AMX those overflow.
        reuse_outputs: Whether outputs are written to the same memory at every run of the same input shapes. Large
            outputs cost several times less so, and are overwritten by the next run.
        optimize: Whether the graph may be fused and simplified while it is loaded. Without it each node of the file
            runs as it stands, Q/DQ pairs included: slow, and free of surprises.
    """

    def __init__(
        self,
        *,
        threads: int = 0,
        int8: Int8Mode = Int8Mode.EXACT,
        reuse_outputs: bool = False,
        optimize: bool = True,
    ) -> None:
        if threads < 0:
            raise UsageError("The number of threads cannot be negative.", found=str(threads), expected="0 or more")
        self.name = "onnxruntime"
        self.threads = threads
        self.int8 = Int8Mode(int8)
        self.reuse_outputs = reuse_outputs
        self.optimize = optimize

    @property
    def cores(self) -> int:
        """Threads of one run; see :class:`~linglos_deploy.backends.base.SharedRuntime`."""
        return self.threads or physical_cores()

    def shared_by(self, users: int) -> OnnxRuntime:
        """Deal the threads out to concurrent users; see :class:`~linglos_deploy.backends.base.SharedRuntime`."""
        return OnnxRuntime(
            threads=max(1, self.cores // users),
            int8=self.int8,
            reuse_outputs=self.reuse_outputs,
            optimize=self.optimize,
        )

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        """Open an ONNX graph; see :class:`~linglos_deploy.backends.base.Runtime`."""
        if not isinstance(artifact, OnnxArtifact):
            raise ArtifactError(
                "ONNX Runtime cannot run this artifact.", found=type(artifact).__name__, expected="an ONNX graph"
            )
        runner = _SessionRunner(self._session(artifact, device), artifact, reuse_outputs=self.reuse_outputs)
        try:
            yield runner
        finally:
            runner.close()

    def probe(self) -> Probe:
        """Look at this machine, without creating a session."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Probe(
                name=self.name,
                installed=False,
                version=None,
                runs=False,
                compiles=False,
                detail="the package onnxruntime is not installed",
                how_to_get=_HOW_TO_GET["cpu"],
                runs_graphs=True,
            )
        ort = _import_onnxruntime()
        providers = list(ort.get_available_providers())
        cpu = this_cpu()
        devices = [kind for kind, provider in _PROVIDERS.items() if provider in providers]
        exactness = (
            "its fast INT8 kernels overflow on this CPU, so INT8 is computed in floating point unless asked otherwise"
            if cpu.int8_saturates
            else "its INT8 kernels do not overflow on this CPU"
        )
        return Probe(
            name=self.name,
            installed=True,
            version=ort.__version__,
            runs=True,
            compiles=False,
            detail=f"runs ONNX graphs on {' and '.join(devices)}; {exactness}",
            facts={
                "providers": providers,
                "cpu": cpu.model,
                "instructions": list(cpu.instructions),
                "int8_saturates": cpu.int8_saturates,
            },
            runs_graphs=True,
        )

    def explain(self, artifact: OnnxArtifact) -> PrecisionProof:
        """Say which layers multiply integers; see :class:`~linglos_deploy.backends.base.Explaining`."""
        from linglos_deploy.backends.execution import onnxruntime_execution  # it imports onnx

        ort = _import_onnxruntime()
        with _vendor_errors(f"ONNX Runtime cannot load '{artifact.path}'.", ArtifactError):
            return onnxruntime_execution(artifact.path, self._options(ort))

    def layer_times(self, artifact: Artifact, batch: Batch, *, runs: int) -> LayerProfile | None:
        """Return the time of each layer; see :class:`~linglos_deploy.backends.base.LayerTimer`."""
        if not isinstance(artifact, OnnxArtifact):
            return None
        ort = _import_onnxruntime()
        options = self._options(ort)
        options.enable_profiling = True
        with TemporaryDirectory() as folder, _vendor_errors(f"'{artifact.path}' cannot be profiled.", RunError):
            options.profile_file_prefix = f"{folder}/trace"
            session = ort.InferenceSession(str(artifact.path), options, providers=[_PROVIDERS["cpu"]])
            latencies = [timed(lambda: session.run(None, dict(batch))) for _ in range(runs + 1)][1:]  # one allocates
            steps = list(read_onnxruntime_trace(Path(session.end_profiling())))[1:]
        return layer_profile(steps, latencies, nodes=node_names(artifact))

    def _session(self, artifact: OnnxArtifact, device: Device) -> Any:
        ort = _import_onnxruntime()
        wanted = _PROVIDERS.get(device.kind)
        if wanted not in ort.get_available_providers():
            raise _missing_device(device, found=", ".join(ort.get_available_providers()))
        provider = (wanted, {"device_id": device.index}) if device.kind == "cuda" else wanted
        with _vendor_errors(f"ONNX Runtime cannot load '{artifact.path}'.", ArtifactError):
            session = ort.InferenceSession(
                str(artifact.path),
                self._options(ort),
                providers=[provider] if device.kind == "cpu" else [provider, _PROVIDERS["cpu"]],
            )
        if session.get_providers()[0] != wanted:  # it falls back silently when a CUDA library is missing
            raise _missing_device(device, found="ONNX Runtime fell back to the CPU")
        return session

    def _entries(self) -> dict[str, str]:
        """Return the session configuration that the INT8 mode asks for on this CPU."""
        if self.int8 is Int8Mode.EXACT:
            return EXACT_SESSION_OPTIONS
        safe = self.int8 is Int8Mode.SAFE and this_cpu().int8_saturates
        return SATURATING_SESSION_OPTIONS if safe else {}

    def _options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = _ONLY_FATAL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # A memory pattern plans room for the outputs too, although they have buffers of their own.
        options.enable_mem_pattern = not self.reuse_outputs
        # Idle threads that spin slow down everything else in the process, other sessions first.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        for key, value in self._entries().items():
            options.add_session_config_entry(key, value)
        if not self.optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options


class _SessionRunner:
    """An open session; its outputs come in fresh memory, or in buffers kept per thread and set of input shapes."""

    def __init__(self, session: Any, artifact: OnnxArtifact, *, reuse_outputs: bool) -> None:
        self._session = session
        self._path = artifact.path
        self._signature = artifact.signature
        self._kept = threading.local()
        self._reuse_outputs = reuse_outputs

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    def run(self, batch: Batch) -> Batch:
        """Run one batch; see :class:`~linglos_deploy.backends.base.Runner`."""
        import numpy as np

        session = self._session
        if session is None:
            raise RunError(f"'{self._path}' was closed.", next_step="run it inside the 'with' block that opened it")
        self._signature.check_inputs(batch)
        feeds = {name: np.asarray(batch[name], order="C") for name in self._signature.input_names}
        with _vendor_errors(f"ONNX Runtime failed while running '{self._path}'.", RunError):
            return self._run_into_buffers(session, feeds) if self._reuse_outputs else self._run_fresh(session, feeds)

    def close(self) -> None:
        """Free the session and the buffers."""
        self._session = None
        self._kept = threading.local()

    def _run_fresh(self, session: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = self._signature.output_names
        return dict(zip(names, session.run(list(names), feeds), strict=True))

    def _run_into_buffers(self, session: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kept = self._kept_sets()
        key = tuple(array.shape for array in feeds.values())
        if key not in kept:
            outputs = _allocate(self._signature, feeds)
            if outputs is None:  # the first outputs of these shapes become the buffers of the next runs
                outputs = self._run_fresh(session, feeds)
                _remember(kept, key, _bound(session, outputs))
                return dict(outputs)
            _remember(kept, key, _bound(session, outputs))
        kept.move_to_end(key)
        buffers = kept[key]
        if buffers is None:
            return self._run_fresh(session, feeds)
        _bind(buffers.binding.bind_input, feeds)
        try:
            session.run_with_iobinding(buffers.binding)
        except Exception:  # an output whose size follows from the values fits no buffer but its own
            outputs = self._run_fresh(session, feeds)  # any other failure fails again
            kept[key] = None
            return outputs
        return dict(buffers.outputs)

    def _kept_sets(self) -> _Kept:
        if not hasattr(self._kept, "sets"):
            self._kept.sets = OrderedDict()
        sets: _Kept = self._kept.sets
        return sets


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Memory for the outputs of one set of input shapes, and what tells ONNX Runtime to write there."""

    binding: Any
    outputs: dict[str, np.ndarray]


_Kept = OrderedDict[tuple[tuple[int, ...], ...], _Buffers | None]
"""Buffers by the shapes of the inputs; ``None`` where the outputs have other sizes at every run."""


def _bound(session: Any, outputs: dict[str, np.ndarray]) -> _Buffers:
    binding = session.io_binding()
    _bind(binding.bind_output, outputs)
    return _Buffers(binding, outputs)


def _remember(kept: _Kept, key: tuple[tuple[int, ...], ...], buffers: _Buffers) -> None:
    while len(kept) >= _KEPT_BUFFER_SETS:
        kept.popitem(last=False)
    kept[key] = buffers


def _bind(bind: Callable[..., None], arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        bind(name, "cpu", 0, array.dtype, list(array.shape), array.ctypes.data)


def _allocate(signature: ModelSignature, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Return memory for all outputs, or ``None`` where their shapes do not follow from those of the inputs.

    Buffers that are made before the first run keep ONNX Runtime from holding a second copy in its arena for good.
    """
    import numpy as np

    sizes: dict[Dim, int] = {}
    for spec in signature.inputs:
        sizes.update(zip(spec.shape or (), feeds[spec.name].shape, strict=spec.shape is not None))
    buffers = {}
    for spec in signature.outputs:
        if spec.shape is None:
            return None
        shape = [dim if isinstance(dim, int) else sizes.get(dim, -1) for dim in spec.shape]
        if -1 in shape:
            return None
        buffers[spec.name] = np.empty(shape, dtype=spec.dtype)
    return buffers


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "ONNX Runtime is not installed.", found=str(error), next_step=_HOW_TO_GET["cpu"]
        ) from error
    onnxruntime.set_default_logger_severity(_ONLY_FATAL)
    return onnxruntime


def _missing_device(device: Device, *, found: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"ONNX Runtime has no '{device}' here.",
        found=found,
        expected=_PROVIDERS.get(device.kind, "cpu or cuda:N"),
        next_step=f"{_HOW_TO_GET.get(device.kind, _HOW_TO_GET['cpu'])}, or --device cpu",
    )


@contextmanager
def _vendor_errors(message: str, kind: type[ArtifactError | RunError]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # its exceptions share no base class but this one
        reason = " ".join(str(error).split())
        raise kind(message, found=reason[-400:] or type(error).__name__) from error
