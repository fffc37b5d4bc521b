"""Two classifiers of digits that work on tokens, trained in seconds on scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from linglos_deploy.images.preprocessing import PreprocessSpec

SIDE, CHANNELS = 32, 64
SPEC = PreprocessSpec(input_size=(SIDE, SIDE), crop_pct=1.0, mean=(0.3, 0.3, 0.3), std=(0.35, 0.35, 0.35))


class Patches(nn.Module):
    """Cut an image into patches and embed each: N x 3 x H x W -> N x T x C."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.count = size, (SIDE // size) ** 2
        self.embed = nn.Linear(3 * size * size, CHANNELS)
        self.position = nn.Parameter(0.02 * torch.randn(1, self.count, CHANNELS))

    def forward(self, image: Tensor) -> Tensor:
        side = SIDE // self.size
        cut = image.reshape(-1, 3, side, self.size, side, self.size).permute(0, 2, 4, 1, 3, 5)
        return self.embed(cut.reshape(-1, self.count, 3 * self.size * self.size)) + self.position


class PatchMLP(nn.Module):
    """Linear layers on 64 tokens, their mean, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = Patches(4)
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(CHANNELS, CHANNELS), nn.GELU())
        self.head = nn.Linear(CHANNELS, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.mlp(self.patches(image)).mean(dim=1))


class PatchAttention(nn.Module):
    """PyTorch's own attention over 16 tokens, their mean, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = Patches(8)
        self.before, self.after = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.attention = nn.MultiheadAttention(CHANNELS, 4, batch_first=True)
        self.head = nn.Linear(CHANNELS, 10)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image)
        normed = self.before(tokens)
        mixed, _ = self.attention(normed, normed, normed, need_weights=False)
        return self.head(self.after((tokens + mixed).mean(dim=1)))


def trained(
    module: type[nn.Module], images: np.ndarray, targets: np.ndarray, *, epochs: int = 30, seed: int = 0
) -> nn.Module:
    """Return a module trained from seeded weights.

    Args:
        module: Its class.
        images: float32 N x 3 x H x W, normalized.
        targets: int64 N.
        epochs: Passes over the images.
        seed: Of the weights and the order of the images.
    """
    torch.manual_seed(seed)
    network = module()
    pixels, labels = torch.from_numpy(images), torch.from_numpy(targets)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    steps = epochs * -(-len(pixels) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels)).split(64):
            loss = F.cross_entropy(network(pixels[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()
