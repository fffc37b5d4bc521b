from __future__ import annotations

import pytest

from linglos_deploy.images.layout import Layout, layout_of, likely_layout
from linglos_deploy.signature import TensorSpec


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("n", 3, "h", "w"), Layout.NCHW),
        ((1, 1, 28, 28), Layout.NCHW),
        (("n", 4, 64, 64), Layout.NCHW),
        (("n", "h", "w", 3), Layout.NHWC),
        ((1, 28, 28, 1), Layout.NHWC),
        (("n", 64, 4, 4), None),
        (("n", 3, 3, 3), None),
        (("n", "c", "h", "w"), None),
        (("n", 3, 8), None),
        (None, None),
    ],
)
def test_an_axis_of_one_three_or_four_holds_the_channels(
    shape: tuple[int | str, ...] | None, layout: Layout | None
) -> None:
    assert layout_of(TensorSpec("x", "float32", shape)) is layout


def test_where_the_shape_leaves_it_open_bytes_have_channels_last() -> None:
    assert likely_layout(TensorSpec("x", "uint8", ("n", "a", "b", "c"))) is Layout.NHWC
    assert likely_layout(TensorSpec("x", "float32", ("n", "a", "b", "c"))) is Layout.NCHW
    assert likely_layout(TensorSpec("x", "float32", ("n", "a", "b"))) is None
