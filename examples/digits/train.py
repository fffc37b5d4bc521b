"""Train a small LinGlo on scikit-learn's digits, in minutes on two cores, seeded.

python examples/digits/train.py --output examples/digits/linglo_digits.safetensors
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from digits import LABELS, SIDE, Split, load_split
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from linglos_deploy.images.preprocessing import PreprocessSpec, normalize, to_pixels
from linglos_deploy.models.checkpoint import save_checkpoint
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.models.variants import LinGloConfig

CONFIG = LinGloConfig(dims=(32, 64, 64, 96), depths=(1, 1, 1, 1), num_classes=len(LABELS), image_size=SIDE)
PREPROCESS = PreprocessSpec(input_size=(SIDE, SIDE), crop_pct=1.0, mean=(0.3, 0.3, 0.3), std=(0.35, 0.35, 0.35))
BATCH = 64
PEAK_RATE = 2e-3
WARMUP = 0.1  # of all steps
WEIGHT_DECAY = 0.05
AVERAGE_DECAY = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write, ending in .safetensors")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use only so many images of each part, to try the script out")
    options = parser.parse_args()

    train, heldout = load_split()
    pixels, targets = as_tensors(train, options.limit)
    model = fit(pixels, targets, epochs=options.epochs, seed=options.seed)
    print(f"held-out top-1: {100 * accuracy(model, *as_tensors(heldout, options.limit)):.2f} %")
    save(model, options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


def fit(pixels: Tensor, targets: Tensor, *, epochs: int, seed: int) -> LinGlo:
    """Train from random weights.

    Args:
        pixels: uint8 N x H x W x 3.
        targets: int64 N.
        epochs: Passes over the images.
        seed: Of weights, order and augmentation.

    Returns:
        The exponential moving average of the weights, in evaluation mode.
    """
    torch.manual_seed(seed)
    model = LinGlo(CONFIG)
    average = AveragedModel(model, avg_fn=move_average, use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(pixels) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / steps))
    for epoch in range(epochs):
        start, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(pixels)).split(BATCH):
            logits = model(to_input(augment(pixels[rows])))
            loss = F.cross_entropy(logits, targets[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item() * len(rows)
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1:3d}/{epochs}  loss {total / len(pixels):.4f}  {seconds:.1f} s", flush=True)
    averaged: LinGlo = average.module.eval()
    return averaged


def rate(done: float) -> float:
    """Return the learning rate, as a share of its peak, when the share ``done`` of all steps lies behind."""
    if done < WARMUP:
        return max(done, 1e-3) / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


def move_average(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
    """Return the average moved towards the current weights; quicker at first, to forget the random start."""
    decay = min(AVERAGE_DECAY, (1 + int(updates)) / (10 + int(updates)))
    return average + (1 - decay) * (current - average) if average.is_floating_point() else current


def augment(pixels: Tensor) -> Tensor:
    """Turn by up to 12 degrees, scale by up to 12 %, shift by up to 6 pixels, each image differently.

    Args:
        pixels: uint8 N x H x W x 3.

    Returns:
        Pixels as float32, the same shape; what comes in from outside is black.
    """
    count = len(pixels)
    angle = math.radians(12) * uniform(count)
    zoom = 1 + 0.12 * uniform(count)
    cosine, sine = angle.cos() * zoom, angle.sin() * zoom
    shift = 12 / SIDE * uniform(count, 2)  # in units of half the image
    maps = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(count, 2, 3)
    planes = pixels.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(maps, list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, align_corners=False).permute(0, 2, 3, 1)


def uniform(*shape: int) -> Tensor:
    """Return uniform random numbers in -1 ... 1."""
    return 2 * torch.rand(*shape) - 1


def to_input(pixels: Tensor) -> Tensor:
    """Normalize as :func:`linglos_deploy.images.preprocessing.normalize` does, for float pixels."""
    offset, scale = (torch.from_numpy(values) for values in PREPROCESS.offset_and_scale())
    return ((pixels - offset) / scale).permute(0, 3, 1, 2).contiguous()


def as_tensors(split: Split, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Return pixels, uint8 N x H x W x 3, as the deployed model will see them, and targets, int64 N."""
    pixels = np.stack([to_pixels(image, PREPROCESS) for image in split.images[:limit]])
    return torch.from_numpy(pixels), torch.from_numpy(split.targets[:limit])


@torch.inference_mode()
def accuracy(model: LinGlo, pixels: Tensor, targets: Tensor) -> float:
    """Return the share of images whose largest logit is the target's."""
    hits = [
        (model(torch.from_numpy(normalize(part.numpy(), PREPROCESS))).argmax(dim=1) == target).sum().item()
        for part, target in zip(pixels.split(BATCH), targets.split(BATCH), strict=True)
    ]
    return sum(hits) / len(targets)


def save(model: LinGlo, path: Path) -> None:
    """Write the checkpoint with everything that a deployment needs to know."""
    metadata = CheckpointMetadata.of(CONFIG, PREPROCESS, labels=LABELS)
    save_checkpoint(path, model.state_dict(), metadata=metadata)


if __name__ == "__main__":
    main()
