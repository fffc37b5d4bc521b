from __future__ import annotations

import builtins
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from linglos_deploy.artifacts import EngineArtifact, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device, Runtime
from linglos_deploy.backends.onnxruntime import Int8Mode, OnnxRuntime
from linglos_deploy.errors import ArtifactError, DataError, MissingDependencyError, RunError, UsageError
from tests.backends.graphs import affine_graph, saturating_graph, save


def test_outputs_come_by_name(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    with OnnxRuntime(threads=1).open(affine_graph(tmp_path / "m.onnx")) as runner:
        outputs = runner.run({"x": x})

    np.testing.assert_array_equal(outputs["y"], 2 * x + 1)
    np.testing.assert_array_equal(outputs["total"], x.sum(axis=1))


def test_reused_outputs_are_right_for_every_shape_and_share_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with OnnxRuntime(threads=1, reuse_outputs=True).open(affine_graph(tmp_path / "m.onnx")) as runner:
        for shape in [(2, 3), (2, 3), (1, 5), (2, 3), (4, 4), (1, 5), (2, 3)]:
            x = random.random(shape, dtype=np.float32)
            np.testing.assert_array_equal(runner.run({"x": x})["y"], 2 * x + 1)
        first, second = runner.run({"x": x})["y"], runner.run({"x": x + 1})["y"]

    assert np.shares_memory(first, second)


def test_fresh_outputs_outlive_the_next_run(tmp_path: Path) -> None:
    x = np.ones((1, 2), np.float32)
    with OnnxRuntime(threads=1).open(affine_graph(tmp_path / "m.onnx")) as runner:
        first = runner.run({"x": x})["y"]
        runner.run({"x": 5 * x})

    np.testing.assert_array_equal(first, 2 * x + 1)


@pytest.mark.parametrize("reuse_outputs", [False, True])
def test_inputs_need_not_be_contiguous(tmp_path: Path, reuse_outputs: bool) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    with OnnxRuntime(threads=1, reuse_outputs=reuse_outputs).open(affine_graph(tmp_path / "m.onnx")) as runner:
        runner.run({"x": np.ascontiguousarray(x[::2, ::3])})
        np.testing.assert_array_equal(runner.run({"x": x[::2, ::3]})["y"], 2 * x[::2, ::3] + 1)


def test_a_batch_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    with (
        OnnxRuntime(threads=1).open(affine_graph(tmp_path / "m.onnx")) as runner,
        pytest.raises(DataError, match="'x'"),
    ):
        runner.run({"x": np.zeros((1, 2), np.float64)})


def test_exact_int8_is_the_graphs_own_answer_on_any_cpu(tmp_path: Path) -> None:
    artifact = saturating_graph(tmp_path / "m.onnx")
    x = np.random.default_rng(0).random((2, 64, 4, 4), dtype=np.float32)
    literal = _run(OnnxRuntime(threads=1, optimize=False), artifact, x)

    step = 64 / 127
    assert np.abs(_run(OnnxRuntime(threads=1, int8=Int8Mode.EXACT), artifact, x) - literal).max() <= step * 1.001


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no emulated CPU without VNNI: apt install qemu-user")
@pytest.mark.skipif(sys.platform != "linux", reason="user-mode emulation needs Linux")
def test_without_vnni_fast_int8_overflows_and_exact_int8_does_not(tmp_path: Path) -> None:
    saturating_graph(tmp_path / "m.onnx")
    script = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from linglos_deploy.artifacts import open_onnx\n"
        "from linglos_deploy.backends.onnxruntime import OnnxRuntime\n"
        "artifact = open_onnx(Path(sys.argv[1])); x = np.ones((1, 64, 4, 4), np.float32)\n"
        "for mode in ('exact', 'fast'):\n"
        "    with OnnxRuntime(threads=1, int8=mode).open(artifact) as runner:\n"
        "        print(mode, float(abs(runner.run({'x': x})['y']).max()))\n"
    )
    command = ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", script, str(tmp_path / "m.onnx")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        pytest.skip(f"the emulator cannot run Python here: {result.stderr[-200:]}")
    peaks = {mode: float(value) for mode, value in map(str.split, result.stdout.splitlines())}

    assert peaks["exact"] == pytest.approx(64, rel=0.01)
    assert peaks["fast"] < 64 * 0.6


def test_a_damaged_file_is_our_error_with_the_reason(tmp_path: Path) -> None:
    artifact = affine_graph(tmp_path / "m.onnx")
    artifact.path.write_bytes(b"not a graph")

    with pytest.raises(ArtifactError, match="cannot load") as caught, OnnxRuntime().open(artifact):
        pass
    assert caught.value.found


def test_a_failing_run_is_our_error_with_the_reason(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["row"])],
        "gather",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [2], [0.0, 1.0])],
    )
    with (
        OnnxRuntime(threads=1).open(save(graph, tmp_path / "m.onnx")) as runner,
        pytest.raises(RunError, match="failed while running") as caught,
    ):
        runner.run({"index": np.array([7], np.int64)})
    assert "7" in (caught.value.found or "")


def test_a_closed_runner_says_so(tmp_path: Path) -> None:
    with OnnxRuntime(threads=1).open(affine_graph(tmp_path / "m.onnx")) as runner:
        pass
    with pytest.raises(RunError, match="closed"):
        runner.run({"x": np.zeros((1, 1), np.float32)})


def test_an_engine_is_refused(tmp_path: Path) -> None:
    signature = affine_graph(tmp_path / "m.onnx").signature
    engine = EngineArtifact(tmp_path / "e", signature, "", "tensorrt", {})
    with pytest.raises(ArtifactError, match="cannot run"), OnnxRuntime().open(engine):
        pass


@pytest.mark.parametrize("device", [Device("cuda", 0), Device("npu")])
def test_a_missing_device_is_named(tmp_path: Path, device: Device) -> None:
    artifact = affine_graph(tmp_path / "m.onnx")
    if device.kind == "cuda" and "CUDAExecutionProvider" in OnnxRuntime().probe().facts["providers"]:
        pytest.skip("this ONNX Runtime has CUDA; the other case covers a device it does not have")
    with pytest.raises(MissingDependencyError, match=device.kind), OnnxRuntime().open(artifact, device=device):
        pass


def test_a_silent_fallback_to_the_cpu_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    artifact = affine_graph(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession
    asked: list[object] = []

    def fall_back(path: str, options: object, *, providers: list[object]) -> object:
        asked.extend(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)

    with pytest.raises(MissingDependencyError, match="cuda:1"), OnnxRuntime().open(artifact, device=Device("cuda", 1)):
        pass
    assert asked == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]


def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = affine_graph(tmp_path / "m.onnx")
    real_import = builtins.__import__

    def no_onnxruntime(name: str, *args: object, **options: object) -> object:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real_import(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", no_onnxruntime)
    with pytest.raises(MissingDependencyError, match="pip install"), OnnxRuntime().open(artifact):
        pass


def test_the_probe_describes_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry.probe("onnxruntime")

    assert found.installed
    assert found.runs
    assert not found.compiles
    assert "CPUExecutionProvider" in found.facts["providers"]

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = OnnxRuntime().probe()
    assert not missing.installed
    assert missing.how_to_get == "pip install onnxruntime"


def test_it_is_a_runtime_that_checks_its_options() -> None:
    assert isinstance(OnnxRuntime(), Runtime)
    with pytest.raises(UsageError, match="threads"):
        OnnxRuntime(threads=-1)
    with pytest.raises(ValueError, match="precise"):
        OnnxRuntime(int8="precise")  # type: ignore[arg-type]


def test_nothing_is_written_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    artifact = affine_graph(tmp_path / "m.onnx")
    model = onnx.load(artifact.path)
    model.graph.initializer.append(helper.make_tensor("unused", TensorProto.FLOAT, [1], [0.0]))  # a warning by default
    onnx.save(model, artifact.path)

    with OnnxRuntime(threads=1).open(open_onnx(artifact.path)) as runner:
        runner.run({"x": np.zeros((1, 1), np.float32)})
    assert capfd.readouterr().err == ""


def _run(runtime: OnnxRuntime, artifact: object, x: np.ndarray) -> np.ndarray:
    with runtime.open(artifact) as runner:  # type: ignore[arg-type]
        return np.array(runner.run({"x": x})["y"])


def test_outputs_whose_size_follows_from_the_values_come_whole(tmp_path: Path) -> None:
    """Buffers of one run do not fit the next one."""
    nodes = [onnx.helper.make_node("NonZero", ["x"], ["y"])]
    values = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [2, None]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10),
        tmp_path / "m.onnx",
    )
    with OnnxRuntime(threads=1, reuse_outputs=True).open(open_onnx(tmp_path / "m.onnx")) as runner:
        for ones in (1, 3, 0, 4, 3):
            found = runner.run({"x": (np.arange(4) < ones).astype(np.float32)[None]})["y"]
            np.testing.assert_array_equal(found, [[0] * ones, list(range(ones))])
