from __future__ import annotations

from pathlib import Path

import pytest
import torch

from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.checkpoint import save_checkpoint
from linglos_deploy.models.linglo import LinGlo, unloaded_linglo
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.models.synthetic import random_weights
from linglos_deploy.models.variants import LinGloConfig

TINY = LinGloConfig(dims=(8, 16, 24, 64), depths=(1, 2, 1, 1), num_classes=5, image_size=64)
TINY_PREPROCESS = PreprocessSpec(input_size=(64, 96), crop_pct=0.875, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.5))
TINY_LABELS = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def tiny_weights() -> dict[str, torch.Tensor]:
    return random_weights(unloaded_linglo(TINY), seed=1)


@pytest.fixture
def tiny_model(tiny_weights: dict[str, torch.Tensor]) -> LinGlo:
    model = LinGlo(TINY)
    model.load_state_dict(tiny_weights)
    return model.eval()


@pytest.fixture
def tiny_checkpoint(tiny_weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_weights, metadata=CheckpointMetadata.of(TINY, TINY_PREPROCESS, labels=TINY_LABELS))
    return path
