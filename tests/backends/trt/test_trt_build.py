from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.compilers.tensorrt_rtx import tensorrt_rtx
from linglos_deploy.backends.trt.parse import explain
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.record import open_engine, read_record
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import BuildError, UsageError
from linglos_deploy.files import sha256_file
from linglos_deploy.progress import Advance
from tests.backends.trt.trt_graphs import PRECISIONS, save_convnet, save_graph

pytestmark = pytest.mark.usefixtures("rtx")


def batch_spec(model: OnnxArtifact) -> BuildSpec:
    return BuildSpec(profiles=(make_profile(model.signature, {"batch": (1, 2, 4)}),))


def test_a_plan_is_written_unmodified_with_sidecar_and_log(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    out = tmp_path / "out" / "model.int8.engine"
    engine = tensorrt_rtx().compile(linear, spec, out=out)
    assert out.read_bytes()[:4] == b"vtrt"
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "model.int8.engine",
        "model.int8.json",
        "model.int8.log",
    ]
    record = read_record(out)
    assert record.digest == engine.digest == sha256_file(out)
    assert record.bytes == out.stat().st_size
    assert record.onnx_digest == linear.digest
    assert record.spec == spec
    assert record.target.minimum_compute_capability == "8.0"
    assert record.precision.detail == "not inspected, no GPU"
    assert open_engine(out) == engine


def test_the_same_build_twice_gives_the_same_bytes(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    first = tensorrt_rtx(cache=False).compile(linear, spec, out=tmp_path / "a.engine")
    second = tensorrt_rtx(cache=False).compile(linear, spec, out=tmp_path / "b.engine")
    assert first.digest == second.digest


def test_compute_capabilities_are_recorded_in_ascending_order(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    asked = replace(spec, compute_capabilities=("12.0", "8.6"))
    engine = tensorrt_rtx().compile(linear, asked, out=tmp_path / "m.engine")
    assert engine.requirements["compute_capability"] == "8.6, 12.0"
    assert read_record(engine.path).target.minimum_compute_capability is None


def test_tf32_is_off_unless_asked_for(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    tensorrt_rtx().compile(linear, spec, out=tmp_path / "off.engine")
    tensorrt_rtx().compile(linear, replace(spec, tf32=True), out=tmp_path / "on.engine")
    assert read_record(tmp_path / "off.engine").flags == ()
    assert read_record(tmp_path / "on.engine").flags == ("TF32",)


def test_an_unknown_operator_names_node_module_and_next_step(tmp_path: Path):
    node = helper.make_node("Frobnicate", ["image"], ["logits"], name="stages.1.0.mixer/Frobnicate", domain="acme")
    model = save_graph(tmp_path, [node], initializers=(), domains=("acme",))
    with pytest.raises(BuildError) as caught:
        tensorrt_rtx().compile(model, batch_spec(model), out=tmp_path / "m.engine")
    text = str(caught.value)
    assert "stages.1.0.mixer/Frobnicate" in text
    assert "acme.Frobnicate" in text
    assert "module 'stages.1.0.mixer'" in text
    assert "operators that TensorRT has" in text
    assert not (tmp_path / "m.engine").exists()


def test_mixed_types_are_refused_with_the_node_that_mixes_them(tmp_path: Path):
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], to=TensorProto.FLOAT16, name="stem/Cast"),
        helper.make_node("MatMul", ["half", "weight"], ["logits"], name="head.fc/MatMul"),
    ]
    model = save_graph(tmp_path, nodes)
    with pytest.raises(BuildError, match=r"module 'head\.fc'") as caught:
        tensorrt_rtx().compile(model, batch_spec(model), out=tmp_path / "m.engine")
    assert "make the types agree" in str(caught.value)


def test_a_float64_output_is_refused_instead_of_narrowed(tmp_path: Path):
    nodes = [
        helper.make_node("MatMul", ["image", "weight"], ["product"], name="head.fc/MatMul"),
        helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.DOUBLE, name="head/Cast"),
    ]
    model = save_graph(tmp_path, nodes, output_type=TensorProto.DOUBLE)
    with pytest.raises(BuildError, match="'logits' changed its type"):
        tensorrt_rtx().compile(model, batch_spec(model), out=tmp_path / "m.engine")


def test_a_failed_build_shows_the_log_the_node_and_a_way_out(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    with pytest.raises(BuildError) as caught:
        tensorrt_rtx().compile(linear, replace(spec, compute_capabilities=("7.5",)), out=tmp_path / "m.engine")
    text = str(caught.value)
    assert "node 'head.fc/MatMul'" in text
    assert "[ERROR]" in text
    assert "--precision fp16" in text
    assert list(tmp_path.glob("m.*")) == []


def test_unknown_compute_capabilities_are_listed(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    with pytest.raises(UsageError, match=r"7\.5, 8\.0"):
        tensorrt_rtx().compile(linear, replace(spec, compute_capabilities=("6.1",)), out=tmp_path / "m.engine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version_compatible": True}, "in no other"),
        ({"hardware_compatibility": HardwareCompatibility.AMPERE_PLUS}, "--sm 86,89,120"),
    ],
)
def test_what_rtx_does_not_offer_is_said_before_the_build(
    linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path, change: dict[str, Any], words: str
):
    with pytest.raises(UsageError, match=words):
        tensorrt_rtx().compile(linear, replace(spec, **change), out=tmp_path / "m.engine")


def test_a_dynamic_graph_without_profile_is_refused(linear: OnnxArtifact, tmp_path: Path):
    with pytest.raises(UsageError, match="needs a profile"):
        tensorrt_rtx().compile(linear, BuildSpec(profiles=()), out=tmp_path / "m.engine")


MESSAGES = {
    "CHECK_EQ(lhs_scale->type(), rhs_scale->type()) failed. type mismatch between matmul operand scales": "one type",
    "Cannot compile operation 'head.fc/MatMul' for Turing (SM75): FP32 GEMM is not supported.": "--precision fp16",
    "Unable to load library: libnvinfer_lean.so.1: cannot open shared object file": "lean runtime",
    "Cuda Runtime (out of memory)": "--workspace",
    "MyelinCheckException: graph_jit.cpp:278: CHECK(status == CUDA_SUCCESS) failed.": "needs a GPU",
    "something nobody has seen": "linglos-deploy inspect",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_the_builder_come_with_a_way_out(linear: OnnxArtifact, message: str):
    node, suggestion = explain(message, load_onnx(linear.path))
    assert MESSAGES[message] in suggestion
    assert (node is not None) == ("'head.fc/MatMul'" in message)


class Recorder:
    """Collects stages; calls ``hook`` at each step."""

    def __init__(self, hook: Any = lambda: None) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.steps = 0
        self.hook = hook

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        self.stages.append((name, total))

        def advance(steps: int = 1) -> None:
            self.steps += steps
            self.hook()

        yield advance

    def warn(self, message: str) -> None:
        self.stages.append((message, None))


def test_the_builder_reports_its_progress(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    progress = Recorder()
    tensorrt_rtx().compile(linear, spec, out=tmp_path / "m.engine", progress=progress)
    assert progress.stages
    assert progress.steps == progress.stages[0][1]


def test_ctrl_c_stops_a_build_and_leaves_nothing(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    before = signal.getsignal(signal.SIGINT)
    progress = Recorder(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        tensorrt_rtx().compile(linear, spec, out=tmp_path / "m.engine", progress=progress)
    assert progress.steps == 1
    assert list(tmp_path.glob("m.*")) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_progress_display_ends_the_build_and_is_raised(
    linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    def fail() -> None:
        raise RuntimeError("display broke")

    with pytest.raises(RuntimeError, match="display broke"):
        tensorrt_rtx().compile(linear, spec, out=tmp_path / "m.engine", progress=Recorder(fail))


EXPECTED = {
    "fp32": ("float32",),
    "fp16": ("float16",),
    "bf16": ("bfloat16",),
    "int8": ("int8",),
    "int8+fp16": ("int8",),
}


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed size", "dynamic size"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_compiles_with_two_batch_profiles(tmp_path: Path, precision: str, dynamic: bool):
    model = save_convnet(tmp_path, precision, dynamic=dynamic)
    size = {"height": (16, 32, 64), "width": (16, 32, 64)} if dynamic else {}
    profiles = tuple(make_profile(model.signature, {"batch": batch, **size}) for batch in ((1, 1, 1), (1, 8, 32)))
    engine = tensorrt_rtx().compile(model, BuildSpec(profiles=profiles), out=tmp_path / "m.engine")
    record = read_record(engine.path)
    assert record.digest == sha256_file(engine.path)
    assert record.signature.inputs[0].dtype == model.signature.inputs[0].dtype
    assert record.precision.expected == EXPECTED[precision]
    assert "[INFO]" in (tmp_path / "m.log").read_text()
