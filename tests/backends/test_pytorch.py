from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device, Runtime
from linglos_deploy.backends.pytorch import Noise, PyTorch, float32_noise
from linglos_deploy.choices import Weights
from linglos_deploy.errors import ArtifactError, DataError, MissingDependencyError, RunError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import TensorSpec
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


class Cancels(nn.Module):
    """Loses digits in float32: what is left of a large number is small."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(offset))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"small": (image + self.offset) - self.offset, "same": image}


def test_the_noise_of_a_module_is_what_float32_costs_it() -> None:
    images = np.random.default_rng(0).random((3, 3, 8, 4), dtype=np.float32)
    batches = [{"image": images[:1]}, {"image": images[1:]}]
    mild, severe = (
        float32_noise(dataclasses.replace(model(lambda x: x, "small", "same"), module=Cancels(offset)), batches)
        for offset in (1.0, 1e5)
    )
    assert mild is not None
    assert severe is not None
    assert mild["same"] == Noise(0.0, math.inf)
    assert mild["small"].max_relative < 1e-6 < 1e-3 < severe["small"].max_relative
    assert mild["small"].sqnr_db > 120 > 60 > severe["small"].sqnr_db
    assert torch.get_default_dtype() is torch.float32


def test_a_module_that_stays_in_float32_has_no_referee() -> None:
    stubborn = model(lambda x: x.flatten(1) @ torch.ones(96, 2, dtype=torch.float32), "y")
    assert float32_noise(stubborn, [{"image": np.ones((1, 3, 8, 4), np.float32)}]) is None
    assert torch.get_default_dtype() is torch.float32


def test_nested_outputs_and_several_inputs_come_by_name() -> None:
    class Both(nn.Module):
        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> dict[str, object]:
            return {"sum": (tokens * mask).sum(1), "parts": (tokens, [mask]), "constant": torch.arange(3)}

    both = dataclasses.replace(
        model(lambda x: x, "sum", "parts_0", "parts_1_0", "constant"),
        module=Both(),
        preprocess=None,
        inputs=(TensorSpec("mask", "bool", ("batch", "n")), TensorSpec("tokens", "int64", ("batch", "n"))),
        sizes={"n": 5},
    )
    tokens, mask = np.arange(12).reshape(2, 6), np.arange(12).reshape(2, 6) % 2 == 0
    with PyTorch().open(both) as runner:
        assert [spec.describe() for spec in runner.signature.outputs] == [
            "sum int64[batch]",
            "parts_0 int64[batch, parts_0_1]",
            "parts_1_0 bool[batch, parts_1_0_1]",
            "constant int64[3]",
        ]
        outputs = runner.run({"tokens": tokens, "mask": mask})
    np.testing.assert_array_equal(outputs["sum"], (tokens * mask).sum(1))
    np.testing.assert_array_equal(outputs["parts_1_0"], mask)


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
    assert missing.how_to_get == "pip install 'linglos-deploy[export]'"
