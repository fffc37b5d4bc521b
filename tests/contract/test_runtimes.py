"""What every backend that runs models promises, checked on each one that is installed here."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact, TorchModel, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device, Probeable, Runner, Runtime
from linglos_deploy.backends.cpu import Int8Mode
from linglos_deploy.choices import Weights
from linglos_deploy.errors import ArtifactError, DataError, LinglosError, MissingDependencyError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import Batch

SIDE = 16
PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
GETTING = {"torch": "pip install torch", "onnxruntime": "pip install onnxruntime", "openvino": "pip install openvino"}
ONNX_BACKENDS = ("onnxruntime", "openvino")


class TwoOutputs(nn.Module):
    """A convolution, and a linear layer on its mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.nn.functional.gelu(self.conv(image))
        return self.head(features.mean(dim=(2, 3))), features


@dataclass(frozen=True)
class Case:
    """A backend and an artifact that it runs."""

    name: str
    runtime: Runtime
    artifact: Artifact


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return TorchModel(
        module=TwoOutputs().eval(),
        name="two_outputs",
        output_names=("logits", "features"),
        preprocess=PreprocessSpec(input_size=(SIDE, SIDE)),
        labels=(),
        size_divisor=2,
        digest="0" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> OnnxArtifact:
    """The same function, written down by hand."""
    module = TwoOutputs().eval()
    weights = {name: values.detach().numpy() for name, values in module.state_dict().items()}
    node = onnx.helper.make_node
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["image", "conv.weight", "conv.bias"], ["conv"], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Gelu", ["conv"], ["features"]),
            node("ReduceMean", ["features", "axes"], ["mean"], keepdims=0),
            node("Gemm", ["mean", "head.weight", "head.bias"], ["logits"], transB=1),
        ],
        "two_outputs",
        [info("image", onnx.TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            info("logits", onnx.TensorProto.FLOAT, ["batch", 5]),
            info("features", onnx.TensorProto.FLOAT, ["batch", 8, SIDE // 2, SIDE // 2]),
        ],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()]
        + [onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes")],
    )
    path = tmp_path_factory.mktemp("contract") / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), path)
    return open_onnx(path)


@pytest.fixture(params=list(PACKAGES))
def case(request: pytest.FixtureRequest, model: TorchModel, graph: OnnxArtifact) -> Case:
    name: str = request.param
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed: {GETTING[name]}")
    options = {} if name == "torch" else {"threads": 1}
    return Case(name, registry.runtime(name, **options), model if name == "torch" else graph)


@pytest.fixture
def runner(case: Case) -> Iterator[Runner]:
    with case.runtime.open(case.artifact) as opened:
        yield opened


def images(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


def expected(image: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        logits, features = TwoOutputs().eval()(torch.from_numpy(image))
    return {"logits": logits.numpy(), "features": features.numpy()}


def assert_right(found: Batch, image: np.ndarray) -> None:
    for name, values in expected(image).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)


def test_it_is_a_runtime_of_its_registered_name(case: Case) -> None:
    assert isinstance(case.runtime, Runtime)
    assert case.runtime.name == case.name


def test_an_opened_model_is_a_runner_with_named_inputs_and_outputs(runner: Runner) -> None:
    assert isinstance(runner, Runner)
    assert runner.signature.input_names == ("image",)
    assert runner.signature.output_names == ("logits", "features")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_batch_size_gives_the_right_outputs(runner: Runner, count: int) -> None:
    found = runner.run({"image": images(count)})

    assert set(found) == {"logits", "features"}
    assert_right(found, images(count))


def test_one_run_does_not_change_another(runner: Runner) -> None:
    for seed, count in ((0, 3), (1, 1), (2, 3), (0, 3)):
        assert_right(runner.run({"image": images(count, seed=seed)}), images(count, seed=seed))


def test_the_input_is_left_as_it_was(runner: Runner) -> None:
    image = images(2)
    image.flags.writeable = False
    runner.run({"image": image})
    np.testing.assert_array_equal(image, images(2))


def test_the_input_may_be_any_view(runner: Runner) -> None:
    wide = np.repeat(images(2), 2, axis=3)
    assert_right(runner.run({"image": wide[:, :, :, ::2]}), images(2))


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"picture": images(1)},
        {"image": images(1), "more": images(1)},
        {"image": images(1).astype(np.float64)},
        {"image": images(1)[0]},
        {"image": images(1)[:, :2]},
    ],
    ids=["nothing", "name", "extra", "type", "rank", "channels"],
)
def test_a_batch_that_does_not_fit_is_refused_before_it_runs(runner: Runner, batch: Batch) -> None:
    with pytest.raises(DataError):
        runner.run(batch)


def test_nan_in_gives_nan_out_for_its_sample_only(runner: Runner) -> None:
    image = images(3)
    image[1, 0, 5, 5] = np.nan
    logits = np.array(runner.run({"image": image})["logits"])

    assert np.isnan(logits[1]).all()
    assert np.isfinite(logits[[0, 2]]).all()


def test_two_may_be_open_at_once(case: Case) -> None:
    with case.runtime.open(case.artifact) as first, case.runtime.open(case.artifact) as second:
        assert_right(first.run({"image": images(1)}), images(1))
        assert_right(second.run({"image": images(2, seed=3)}), images(2, seed=3))


def test_it_runs_in_another_thread_than_it_was_opened_in(runner: Runner) -> None:
    found: list[Batch] = []
    thread = threading.Thread(target=lambda: found.append(dict(runner.run({"image": images(2)}))))
    thread.start()
    thread.join()
    assert_right(found[0], images(2))


def test_an_engine_of_another_backend_is_refused(case: Case, graph: OnnxArtifact, tmp_path: Path) -> None:
    engine = EngineArtifact(tmp_path / "e.engine", graph.signature, "0" * 64, "tensorrt", {"version": "10.3"})
    with pytest.raises(ArtifactError), case.runtime.open(engine):
        pass


def test_a_device_that_is_not_there_is_refused(case: Case) -> None:
    with pytest.raises(MissingDependencyError) as caught, case.runtime.open(case.artifact, device=Device("cuda", 63)):
        pass
    assert caught.value.next_step


def test_the_probe_answers_without_running_anything(case: Case) -> None:
    assert isinstance(case.runtime, Probeable)
    found = case.runtime.probe()

    assert (found.name, found.installed, found.runs) == (case.name, True, True)
    assert found.version
    assert found.detail
    assert found.how_to_get == ""


def test_a_failure_inside_the_block_comes_out_as_it_is(case: Case) -> None:
    with pytest.raises(KeyError, match="mine"), case.runtime.open(case.artifact):
        raise KeyError("mine")


@pytest.mark.parametrize("name", ONNX_BACKENDS)
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"not ONNX", lambda data: data[::-1]],
    ids=["empty", "cut", "text", "reversed"],
)
def test_a_damaged_graph_is_refused_with_its_path(
    name: str, damage: Callable[[bytes], bytes], graph: OnnxArtifact, tmp_path: Path
) -> None:
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed: {GETTING[name]}")
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damage(graph.path.read_bytes()))
    broken = OnnxArtifact(path, graph.signature, graph.digest)

    with pytest.raises(LinglosError, match=r"damaged\.onnx"), registry.runtime(name).open(broken):
        pass


@pytest.mark.parametrize("name", ONNX_BACKENDS)
def test_exact_int8_is_what_the_graph_says_on_any_cpu(name: str, tmp_path: Path) -> None:
    """Sums of 64 products 127 x 127 overflow the 16-bit sums of x86 kernels without VNNI."""
    from tests.backends.graphs import saturating_graph

    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed: {GETTING[name]}")
    x = np.random.default_rng(0).random((2, 64, 4, 4), dtype=np.float32)
    sums = np.rint(x * 127).sum(axis=1) / 127
    wanted = np.stack([sums if row % 2 == 0 else -sums for row in range(8)], axis=1)

    with registry.runtime(name, int8=Int8Mode.EXACT).open(saturating_graph(tmp_path / "m.onnx")) as runner:
        found = np.array(runner.run({"x": x})["y"])

    step = 64 / 127
    assert np.abs(found - wanted).max() <= 1.01 * step
