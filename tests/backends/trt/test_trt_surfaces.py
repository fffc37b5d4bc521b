"""Our calls against the names of published releases. A check of the calls, not evidence that an engine works."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.base import Device
from linglos_deploy.backends.trt.backend import Options, TensorRt
from linglos_deploy.backends.trt.flavour import TENSORRT, TENSORRT_RTX, load
from linglos_deploy.backends.trt.runner import RunOptions
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import (
    ArtifactError,
    BuildError,
    MissingDependencyError,
    UsageError,
)
from linglos_deploy.progress import Silent
from linglos_deploy.reports.doctor import Gpu, Machine
from tests.backends.trt.trt_fake_cuda import FakeCuda
from tests.backends.trt.trt_graphs import save_graph
from tests.backends.trt.trt_standin import RELEASES, SURFACES, WEIGHT, make_rtx_standin, make_standin

GPU = Gpu(0, "NVIDIA L4", "8.9", 24 << 30)
MACHINE = Machine(
    system="Linux",
    platform="linux-x86_64",
    python="3.12",
    cpu="cpu",
    cpu_count=2,
    memory_bytes=8 << 30,
    gpus=(GPU,),
    driver="580.65.06",
    cuda="13.0",
)
MakeBackend = Callable[..., TensorRt]


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture(params=RELEASES)
def module(request: pytest.FixtureRequest, cuda: FakeCuda) -> Any:
    standin = make_standin(request.param)
    standin.cuda = cuda
    return standin


@pytest.fixture
def backend(module: Any, cuda: FakeCuda) -> MakeBackend:
    def make(machine: Machine = MACHINE, **options: Any) -> TensorRt:
        return TensorRt(
            TENSORRT, Options(**options), load=lambda _: module, load_cuda=lambda: cuda, look=lambda: machine
        )

    return make


EVERYTHING = {
    "workspace_bytes": 1 << 20,
    "optimization_level": 4,
    "hardware_compatibility": HardwareCompatibility.AMPERE_PLUS,
    "version_compatible": True,
    "refittable": True,
    "weight_streaming": True,
    "tf32": True,
}


def test_a_build_with_every_option_uses_only_names_of_the_release(
    module: Any, backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    backend().compile(linear, replace(spec, **EVERYTHING), out=tmp_path / "m.engine")
    record = read_record(tmp_path / "m.engine")
    assert (tmp_path / "m.engine").read_bytes().startswith(b"ftrtplan")
    assert record.flags == ("REFIT", "TF32", "VERSION_COMPATIBLE", "WEIGHT_STREAMING")
    assert record.target.minimum_compute_capability == "8.0"
    assert record.host_code
    assert {"IBuilderConfig.set_memory_pool_limit", "IBuilderConfig.builder_optimization_level="} <= set(module.calls)


def test_a_plain_build_is_for_the_gpu_at_hand_and_is_inspected(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    engine = backend().compile(linear, spec, out=tmp_path / "m.engine")
    record = read_record(engine.path)
    assert engine.requirements["compute_capability"] == "8.9"
    assert (record.target.gpu, record.target.driver) == ("NVIDIA L4", "580.65.06")
    assert module.network_flags == 1 << module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert record.precision.inspected
    assert record.precision.layers == {"float32": 1}
    assert record.precision.time_share == {"float32": 1.0}
    assert record.flags == ()


def test_timings_are_kept_for_the_next_build(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path, own_cache: Path
):
    backend().compile(linear, spec, out=tmp_path / "a.engine")
    backend().compile(linear, replace(spec, tf32=True), out=tmp_path / "b.engine")
    (timings,) = (own_cache / "timing").glob("*.cache")
    assert timings.name == f"tensorrt-{module.__version__}-nvidia-l4.cache"
    assert timings.read_bytes() == b"timing;timing;"


def test_without_cache_nothing_is_kept(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path, own_cache: Path
):
    backend(cache=False).compile(linear, spec, out=tmp_path / "m.engine")
    assert not own_cache.exists()
    assert "IBuilderConfig.set_timing_cache" not in module.calls


def test_same_compute_capability_needs_a_release_that_has_it(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    asked = replace(spec, hardware_compatibility=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
    if module.__version__.startswith("10.3"):
        with pytest.raises(UsageError, match="--hardware-compatibility same-compute-capability"):
            backend().compile(linear, asked, out=tmp_path / "m.engine")
    else:
        engine = backend().compile(linear, asked, out=tmp_path / "m.engine")
        assert engine.requirements["compute_capability"] == "8.9"


def test_a_list_of_compute_capabilities_is_for_rtx_only(
    backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    with pytest.raises(UsageError, match="--engine tensorrt-rtx"):
        backend().compile(linear, replace(spec, compute_capabilities=("8.6",)), out=tmp_path / "m.engine")


def test_without_a_gpu_standard_tensorrt_says_where_to_build(
    backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    machine = replace(MACHINE, gpus=(), gpu_detail="no driver")
    with pytest.raises(MissingDependencyError, match="which builds without a GPU"):
        backend(machine).compile(linear, spec, out=tmp_path / "m.engine")


def test_an_engine_without_the_precision_of_its_graph_is_refused_unless_allowed(backend: MakeBackend, tmp_path: Path):
    weight = helper.make_tensor("weight", 10, [4, 3], [0.5] * 12)
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], to=10, name="stem/Cast"),
        helper.make_node("MatMul", ["half", "weight"], ["product"], name="head.fc/MatMul"),
        helper.make_node("Cast", ["product"], ["logits"], to=1, name="head/Cast"),
    ]
    model = save_graph(tmp_path / "graph", nodes, initializers=(weight,))
    spec = BuildSpec(profiles=(make_profile(model.signature, {"batch": (1, 2, 4)}),))
    with pytest.raises(BuildError, match="no float16 layers"):
        backend().compile(model, spec, out=tmp_path / "m.engine")
    assert not (tmp_path / "m.engine").exists()
    backend().compile(model, replace(spec, allow_fallback=True), out=tmp_path / "m.engine")
    assert read_record(tmp_path / "m.engine").precision.missing == ("float16",)


class Warnings(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def test_version_compatibility_warns_of_host_code_and_loading_it_must_be_allowed(
    backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    progress = Warnings()
    asked = replace(spec, version_compatible=True)
    engine = backend().compile(linear, asked, out=tmp_path / "m.engine", progress=progress)
    assert "host code" in progress.said[0]
    with pytest.raises(ArtifactError, match="engines of your own"), backend().open(engine):
        pass
    with backend(run=RunOptions(allow_host_code=True)).open(engine) as runner:
        assert runner.signature == linear.signature


def rows(count: int) -> np.ndarray:
    return np.arange(count * 4, dtype=np.float32).reshape(count, 4)


def test_a_runner_computes_reuses_its_buffers_and_frees_everything(
    backend: MakeBackend, cuda: FakeCuda, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    engine = backend().compile(linear, spec, out=tmp_path / "m.engine")
    cuda.calls.clear()
    with backend(run=RunOptions(cuda_graphs=False)).open(engine, device=Device("cuda", 0)) as runner:
        for count in (4, 1, 4, 2):
            outputs = runner.run({"image": rows(count)})
            np.testing.assert_allclose(outputs["logits"], rows(count) @ WEIGHT, rtol=1e-6)
        assert cuda.calls.count("cudaMalloc") == 2  # image and logits, once
    assert cuda.held() == {}


def test_a_stripped_engine_takes_its_weights_from_the_graph_it_came_from_or_from_the_one_named(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    engine = backend().compile(linear, replace(spec, strip_weights=True), out=tmp_path / "far" / "away" / "m.engine")
    with backend().open(engine) as runner:
        runner.run({"image": rows(1)})
    assert "OnnxParserRefitter.refit_from_file" in module.calls
    elsewhere = linear.path.rename(tmp_path.parent / "weights.onnx")
    with pytest.raises(ArtifactError, match="without its weights"), backend().open(engine):
        pass
    with backend(run=RunOptions(weights=elsewhere)).open(engine) as runner:
        runner.run({"image": rows(1)})


def test_streamed_weights_get_a_budget_before_the_first_run(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    engine = backend().compile(linear, replace(spec, weight_streaming=True), out=tmp_path / "m.engine")
    module.calls.clear()
    with backend().open(engine) as runner:
        runner.run({"image": rows(1)})
    budget = module.calls.index("ICudaEngine.weight_streaming_budget_v2=")
    assert budget < module.calls.index("ICudaEngine.create_execution_context")


def test_a_device_that_is_not_there_is_said_before_anything_is_loaded(
    backend: MakeBackend, module: Any, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    engine = backend().compile(linear, spec, out=tmp_path / "m.engine")
    module.calls.clear()
    with pytest.raises(ArtifactError, match="there is no GPU"), backend().open(engine, device=Device("cuda", 3)):
        pass
    assert "Runtime" not in module.calls


def test_only_engines_of_the_flavour_are_opened(backend: MakeBackend, linear: OnnxArtifact):
    with pytest.raises(ArtifactError, match="engines that it compiled"), backend().open(linear):
        pass


def test_removed_and_later_names_fail_in_the_stand_in():
    old, new = make_standin("10.3"), make_standin("11.4")
    assert hasattr(old.BuilderFlag, "FP16")
    assert not hasattr(new.BuilderFlag, "FP16")
    config = new.Builder(None).create_builder_config()
    with pytest.raises(AttributeError):
        config.int8_calibrator = None
    with pytest.raises(AttributeError):
        make_standin("10.3").Builder(None).create_builder_config().tiling_optimization_level = 1


def test_the_runtime_names_of_11_4_are_those_of_the_installed_lean_runtime():
    lean = pytest.importorskip(
        "tensorrt_lean_bindings",
        reason="needs the lean runtime: pip install tensorrt-lean-cu13-libs tensorrt-lean-cu13-bindings",
    )
    if not lean.__version__.startswith("11.4."):
        pytest.skip(f"the lean runtime is {lean.__version__}, the list is of 11.4")
    surface = json.loads((SURFACES / "tensorrt-11.4.json").read_text())
    for name in ("Runtime", "ICudaEngine", "IExecutionContext", "IOptimizationProfile", "IRuntimeConfig", "Refitter"):
        real = {attribute for attribute in dir(getattr(lean, name)) if not attribute.startswith("_")}
        assert set(surface["classes"][name].split()) == real, name
    for name in ("BuilderFlag", "DataType", "HardwareCompatibilityLevel", "TensorIOMode", "ProfilingVerbosity"):
        assert surface["enums"][name].split() == list(getattr(lean, name).__members__), name


def test_a_release_before_10_3_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="8.6.1"))
    with pytest.raises(MissingDependencyError, match=r"10\.3 or later"):
        load(TENSORRT)


@pytest.fixture
def rtx_backend(rtx: Any, cuda: FakeCuda) -> MakeBackend:
    """A backend over the names of the installed TensorRT-RTX, without its code."""
    module = make_rtx_standin(rtx)
    module.validity = (module.EngineValidity.VALID, 0)
    module.cuda = cuda

    def make(machine: Machine = MACHINE, **options: Any) -> TensorRt:
        backend = TensorRt(
            TENSORRT_RTX, Options(**options), load=lambda _: module, load_cuda=lambda: cuda, look=lambda: machine
        )
        backend.module = module  # type: ignore[attr-defined]
        return backend

    return make


def test_rtx_keeps_its_kernels_in_a_file_and_records_graphs_itself(
    rtx_backend: MakeBackend, cuda: FakeCuda, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path, own_cache: Path
):
    backend = rtx_backend()
    engine = backend.compile(linear, spec, out=tmp_path / "m.engine")
    for _ in range(2):
        with backend.open(engine) as runner:
            np.testing.assert_allclose(runner.run({"image": rows(2)})["logits"], rows(2) @ WEIGHT, rtol=1e-6)
            runner.run({"image": rows(2)})
    (kernels,) = (own_cache / "kernels").glob("*.bin")
    assert engine.digest in kernels.name
    assert kernels.read_bytes() == b"kernel;kernel;"
    module = backend.module  # type: ignore[attr-defined]
    assert module.config._values["cuda_graph_strategy"].name == "WHOLE_GRAPH_CAPTURE"
    assert "cudaStreamBeginCapture" not in cuda.calls
    assert "IBuilderConfig.set_timing_cache" not in module.calls


def test_rtx_asks_the_vendor_about_the_header_before_deserializing(
    rtx_backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    backend = rtx_backend(cache=False)
    engine = backend.compile(linear, spec, out=tmp_path / "m.engine")
    module = backend.module  # type: ignore[attr-defined]
    diagnostics = module.EngineInvalidityDiagnostics
    module.validity = (module.EngineValidity.INVALID, int(diagnostics["OLD_CUDA_DRIVER"]))
    module.calls.clear()
    with pytest.raises(ArtifactError, match="old cuda driver"), backend.open(engine):
        pass
    assert "Runtime.deserialize_cuda_engine" not in module.calls


def test_an_engine_that_is_built_ahead_of_time_is_inspected_only_on_a_gpu_it_fits(
    rtx_backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    asked = replace(spec, compute_capabilities=("12.0",))
    engine = rtx_backend().compile(linear, asked, out=tmp_path / "m.engine")
    assert read_record(engine.path).precision.detail == "not inspected, no GPU here can load it"


def test_an_engine_from_a_machine_without_gpu_gets_its_proof_on_one_with_a_gpu(
    rtx_backend: MakeBackend, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    blind = rtx_backend(replace(MACHINE, gpus=())).compile(linear, spec, out=tmp_path / "a.engine")
    assert read_record(blind.path).precision.detail == "not inspected, no GPU"
    seen = rtx_backend().compile(linear, spec, out=tmp_path / "b.engine")
    assert seen.digest == blind.digest
    assert read_record(seen.path).precision.layers == {"float32": 1}


def test_a_gpu_that_cannot_be_used_leaves_the_engine_uninspected_with_the_reason(
    rtx_backend: MakeBackend, cuda: FakeCuda, linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    cuda.devices = 0
    engine = rtx_backend().compile(linear, spec, out=tmp_path / "m.engine")
    proof = read_record(engine.path).precision
    assert not proof.inspected
    assert "no_device" in proof.detail
