"""Tiny checkpoints and data of tasks other than classification."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from linglos_deploy.images.preprocessing import Fit, PreprocessSpec
from linglos_deploy.models.checkpoint import save_checkpoint
from linglos_deploy.models.linglo import unloaded_linglo
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.models.synthetic import random_weights
from linglos_deploy.models.variants import LinGloConfig
from linglos_deploy.tasks.registry import load_task

CONFIG = LinGloConfig(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_classes=3, image_size=32)


def write_checkpoint(path: Path, task: str, settings: Mapping[str, str], size: tuple[int, int] = (32, 64)) -> Path:
    """Write seeded weights of a LinGlo with a task's head, for three classes."""
    complete = load_task(task).complete(settings)
    metadata = CheckpointMetadata.of(
        CONFIG,
        PreprocessSpec(input_size=size, fit=Fit.LETTERBOX),
        labels=("ant", "bee", "cat"),
        task=task,
        settings=complete,
    )
    weights = random_weights(unloaded_linglo(CONFIG, task=task, settings=complete), seed=1)
    save_checkpoint(path, weights, metadata=metadata)
    return path


def write_scenes(folder: Path, count: int = 4) -> Path:
    """Write pictures of odd sizes and masks of three classes."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        size = random.integers(20, 60, 2)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"images/{index}.png")
        Image.fromarray(random.integers(0, 3, size, dtype=np.uint8)).save(folder / f"masks/{index}.png")
    return folder


def write_coco(folder: Path, count: int = 4) -> Path:
    """Write pictures of odd sizes and COCO's JSON of two boxes in each."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        height, width = random.integers(30, 60, 2).tolist()
        values = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"images/{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
        for label in range(2):
            box = [3 + 5 * label, 4, 12, 15]
            annotations.append({"id": 2 * index + label, "image_id": index, "category_id": label, "bbox": box})
    categories = [{"id": label, "name": name} for label, name in enumerate(("ant", "bee", "cat"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder
