"""Lets a form on batch x N x C serve modules whose positions span one axis or two.

before: x, batch x H x W x C -> attention
after:  x -> batch x HW x C -> form -> batch x H x W x C
"""

from __future__ import annotations

from torch import Tensor, nn


class OnTokens(nn.Sequential):
    """Flattens the positions, runs the form, and restores the shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend; same shape out."""
        if x.dim() == 3:
            return self._form(x)
        return self._form(x.flatten(1, -2)).reshape(x.shape)

    def _form(self, x: Tensor) -> Tensor:
        attended: Tensor = self[0](x)
        return attended
