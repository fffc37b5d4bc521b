"""Values of the shapes that activations have, and their squared errors on the raw values."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def drawn(kind: str, seed: int, size: int = 100_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(size)
    values = {
        "normal": normal,
        "laplace": rng.laplace(size=size),
        "gelu": normal * (1 + np.tanh(0.8 * normal * (1 + 0.044715 * normal**2))) / 2,
        "relu": np.maximum(normal, 0),
        "student": rng.standard_t(4, size=size),
        "uniform": rng.uniform(-3, 5, size),
        "lognormal": rng.lognormal(size=size),
    }[kind]
    return values.astype(np.float32)


KINDS = ["normal", "laplace", "gelu", "relu", "student", "uniform", "lognormal"]


def squared_errors(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    magnitudes = np.abs(values).astype(np.float64)
    steps = bounds / 127
    return np.array(
        [
            np.square(magnitudes - np.rint(np.minimum(magnitudes, bound) / step) * step).sum()
            for bound, step in zip(bounds, steps, strict=True)
        ]
    )
