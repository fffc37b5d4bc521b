from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device, Runtime
from linglos_deploy.backends.pytorch import PyTorch
from linglos_deploy.choices import Weights
from linglos_deploy.errors import ArtifactError, DataError, MissingDependencyError, RunError
from linglos_deploy.images.preprocessing import PreprocessSpec
from tests.backends.graphs import affine_graph


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: torch.Tensor) -> object:
        return self.function(image)


def model(function: Callable[[torch.Tensor], object], *output_names: str) -> TorchModel:
    return TorchModel(
        module=Function(function).eval(),
        name="function",
        output_names=output_names,
        preprocess=PreprocessSpec(input_size=(8, 4)),
        labels=(),
        size_divisor=4,
        digest="0" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )


def test_outputs_come_by_name_at_any_size() -> None:
    halves = model(lambda x: (x.mean(dim=(2, 3)), x[:, :, ::2, ::2]), "mean", "half")
    image = np.random.default_rng(0).random((2, 3, 12, 8), dtype=np.float32)

    with PyTorch().open(halves) as runner:
        outputs = runner.run({"image": image})

    np.testing.assert_allclose(outputs["mean"], image.mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(outputs["half"], image[:, :, ::2, ::2])


def test_the_signature_tells_fixed_sizes_from_those_that_follow_the_image() -> None:
    with PyTorch().open(model(lambda x: (x.mean(dim=(2, 3)), x), "mean", "same")) as runner:
        found = [spec.describe() for spec in (*runner.signature.inputs, *runner.signature.outputs)]

    assert found == [
        "image float32[batch, 3, height, width]",
        "mean float32[batch, 3]",
        "same float32[batch, 3, same_height, same_width]",
    ]


def test_read_only_images_are_fine(recwarn: pytest.WarningsRecorder) -> None:
    image = np.ones((1, 3, 4, 4), np.float32)
    image.flags.writeable = False
    with PyTorch().open(model(lambda x: x + 1, "y")) as runner:
        np.testing.assert_array_equal(runner.run({"image": image})["y"], image + 1)
    assert not recwarn.list


def test_a_batch_of_another_type_is_refused() -> None:
    with (
        PyTorch().open(model(lambda x: x, "y")) as runner,
        pytest.raises(DataError, match="'image'"),
    ):
        runner.run({"image": np.zeros((1, 3, 4, 4), np.uint8)})


def test_a_failing_module_is_our_error_with_the_reason() -> None:
    def fails_on_two(image: torch.Tensor) -> torch.Tensor:
        if len(image) == 2:
            raise ValueError("two is one too many")
        return image

    with (
        PyTorch().open(model(fails_on_two, "y")) as runner,
        pytest.raises(RunError, match="two is one too many"),
    ):
        runner.run({"image": np.zeros((2, 3, 4, 4), np.float32)})


def test_a_wrong_number_of_outputs_is_named() -> None:
    with (
        pytest.raises(RunError, match="another number") as caught,
        PyTorch().open(model(lambda x: (x, x), "only")),
    ):
        pass
    assert caught.value.found == "2"


def test_a_graph_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match="cannot run"),
        PyTorch().open(affine_graph(tmp_path / "m.onnx")),
    ):
        pass


def test_a_missing_device_is_named() -> None:
    absent = Device("cuda", torch.cuda.device_count())
    with (
        pytest.raises(MissingDependencyError, match=str(absent)),
        PyTorch().open(model(lambda x: x, "y"), device=absent),
    ):
        pass


def test_the_probe_describes_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(PyTorch(), Runtime)
    assert registry.probe("torch").version

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = PyTorch().probe()
    assert not missing.installed
    assert missing.how_to_get == "pip install torch"
