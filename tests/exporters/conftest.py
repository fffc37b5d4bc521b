"""Small models, and exports of them that several test modules look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.choices import Weights
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.variants import LinGloConfig

TINY = LinGloConfig(dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_classes=10)
FEATURES = tuple(f"features_{stride}" for stride in (4, 8, 16, 32))


def trained(module: nn.Module, *, seed: int = 1) -> nn.Module:
    """Move biases and normalization away from the zeros and ones they start with, as training does."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d | nn.LayerNorm) and child.weight is not None:
            nn.init.uniform_(child.weight, 0.5, 1.5, generator=generator)
        if isinstance(child, nn.BatchNorm2d):
            nn.init.normal_(child.running_mean, std=0.3, generator=generator)
            nn.init.uniform_(child.running_var, 0.5, 2.0, generator=generator)
        if isinstance(getattr(child, "bias", None), torch.Tensor):
            nn.init.normal_(child.bias, std=0.1, generator=generator)
    return module.eval()


def torch_model(
    module: nn.Module, *, outputs: tuple[str, ...] = ("logits",), size: tuple[int, int] = (64, 96), divisor: int = 32
) -> TorchModel:
    return TorchModel(
        module=module.eval(),
        name="tiny",
        output_names=outputs,
        preprocess=PreprocessSpec(input_size=size),
        labels=("cat", "dog"),
        size_divisor=divisor,
        digest="5" * 64,
        weights=Weights.RANDOM,
        lineage=(),
    )


def linglo(task: str = "classify", *, seed: int = 0) -> TorchModel:
    torch.manual_seed(seed)
    outputs = ("logits",) if task == "classify" else FEATURES
    return torch_model(trained(LinGlo(TINY, task=task)), outputs=outputs)


@pytest.fixture(scope="session")
def classifier() -> TorchModel:
    return linglo()


@pytest.fixture(scope="session")
def exported(classifier: TorchModel, tmp_path_factory: pytest.TempPathFactory) -> OnnxArtifact:
    """The tiny classifier with dynamic batch, as written in PyTorch."""
    out = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    return export_onnx(classifier, ExportConfig(decomposition="reference"), out=out)


@pytest.fixture(scope="session")
def exported_dynamic(classifier: TorchModel, tmp_path_factory: pytest.TempPathFactory) -> OnnxArtifact:
    """The tiny classifier with dynamic batch, height and width, and the default decomposition."""
    out = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    return export_onnx(classifier, ExportConfig(dynamic=True), out=out)


@pytest.fixture(scope="session")
def run_onnx() -> Callable[[Path, dict[str, object]], list[object]]:
    """Run an ONNX file once on ONNX Runtime."""
    import onnxruntime

    def run(path: Path, feeds: dict[str, object]) -> list[object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        outputs: list[object] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(
            None, feeds
        )
        return outputs

    return run
