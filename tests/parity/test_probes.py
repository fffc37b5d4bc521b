"""Made-up inputs keep the types, sizes and ranges of real ones, and span what those leave out."""

from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.parity.probes import extreme_inputs, other_sizes, resized_noise
from linglos_deploy.signature import ModelSignature, TensorSpec

RNG = np.random.default_rng(0)
SAMPLES = {
    "image": RNG.normal(size=(4, 3, 8, 6)).astype(np.float32),
    "tokens": RNG.normal(size=(2, 7, 5)).astype(np.float16),
    "ids": RNG.integers(3, 40, (1, 9)),
    "pixels": RNG.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8),
    "mask": RNG.integers(0, 2, (2, 6)).astype(bool),
    "scale": RNG.normal(size=(3,)).astype(np.float32),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_types_sizes_and_ranges_are_kept(name: str) -> None:
    sample = SAMPLES[name]
    made = extreme_inputs({name: sample})[name]
    assert made.dtype == sample.dtype
    assert made.shape == (10, *sample.shape[1:])
    assert made.min() == sample.min()
    assert made.max() == sample.max()
    np.testing.assert_array_equal(made, extreme_inputs({name: sample})[name])


def test_extremes_are_flat_striped_or_noise_and_one_is_a_negative() -> None:
    sample = SAMPLES["image"]
    made = extreme_inputs({"image": sample})["image"]
    low, high = sample.min(), sample.max()
    assert [len(np.unique(row)) for row in made[:6]] == [1, 1, 1, 2, 2, 2]
    assert (made[3, 0] == high).all()
    assert (made[3, 1:] == low).all()
    assert (made[4, 2] == high).all()
    assert set(np.diff(made[5].reshape(-1, 6), axis=1).reshape(-1)) == {high - low, low - high}
    np.testing.assert_allclose(made[9], low + high - sample[0], atol=1e-6)
    colours = made[6:9].mean(axis=(2, 3))
    assert (np.ptp(colours, axis=1) > 0).all()


def test_integers_never_leave_what_was_seen() -> None:
    """A token beyond the vocabulary would end a run, not test it."""
    made = extreme_inputs({"ids": SAMPLES["ids"]})["ids"]
    assert made.min() >= 3
    assert made.max() < 40


def test_noise_reaches_both_ends_of_what_was_seen() -> None:
    for name in ("mask", "pixels"):
        noise = extreme_inputs({name: SAMPLES[name]})[name][6:9]
        assert (noise.min(), noise.max()) == (SAMPLES[name].min(), SAMPLES[name].max())


def images(*shape: int | str, more: bool = False) -> ModelSignature:
    specs = [TensorSpec("image", "float32", shape)]
    return ModelSignature(tuple(specs * (2 if more else 1)), ())


def test_another_size_is_tried_where_a_model_takes_it() -> None:
    sample = {"image": SAMPLES["image"]}
    made = resized_noise(sample, images("batch", 3, "height", "width"), 2)
    assert {name: set_["image"].shape for name, set_ in made.items()} == {
        "other size": (2, 3, 6, 10),
        "taller": (2, 3, 12, 4),
    }
    assert all(set_["image"].dtype == np.float32 for set_ in made.values())
    for fixed in (("batch", 3, 8, 6), ("batch", 3, "height", 6), ("batch", "tokens", 5)):
        assert resized_noise(sample, images(*fixed), 2) == {}
    assert resized_noise({**sample, "mask": SAMPLES["mask"]}, images("b", 3, "h", "w", more=True), 2) == {}


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (224, 160)])
def test_another_size_is_another_one_and_fits_the_divisor(size: tuple[int, int]) -> None:
    wide, tall = other_sizes(size, 8).values()
    assert wide[1] > size[1]
    assert tall[0] > size[0]
    for height, width in (wide, tall):
        assert (height, width) != size
        assert height != width
        assert height % 8 == width % 8 == 0
        assert min(height, width) > 0
