"""Bare maps are described by shape and spread."""

from __future__ import annotations

import numpy as np
from PIL import Image

from linglos_deploy.images.preprocessing import PreprocessSpec, frame_of
from linglos_deploy.tasks.kinds.features import features


def test_every_output_of_every_picture_is_described() -> None:
    outputs = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "b": np.ones((2, 4), np.float32)}
    decoding = features.decoding({name: array.shape for name, array in outputs.items()}, {})
    first, second = features.decode(outputs, decoding, [frame_of(5, 7, PreprocessSpec())] * 2)
    assert first.lines(()) == ["a 3x2x2: 0 to 11, mean 5.5", "b 4: 1 to 1, mean 1"]
    assert second.facts(())["outputs"][0] == {
        "name": "a",
        "shape": [3, 2, 2],
        "minimum": 12.0,
        "mean": 17.5,
        "maximum": 23.0,
    }
    drawn = first.draw(Image.new("RGB", (7, 5)), ())
    assert drawn.size == (7, 5)
    assert np.asarray(drawn).min() == 0
    assert np.asarray(drawn).max() > 200


def test_outputs_are_named_by_stride_where_they_are_maps_of_different_sizes() -> None:
    assert features.name_outputs(((1, 8, 16, 16), (1, 8, 8, 8)), (64, 64), {}) == ("features_4", "features_8")
