"""The algebra of statistics: whatever the order and the grouping, the same bits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from linglos_deploy.calibration.bins import BIN_COUNT, bin_of, lower_edges, upper_edges, upper_halves
from linglos_deploy.calibration.exact import SQUARE_UNIT, SUM_UNIT, from_units, to_units
from linglos_deploy.calibration.observers import TensorObserver, observe
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.errors import CalibrationError, UsageError

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
anything = st.floats(width=32)
images = st.integers(1, 40).flatmap(
    lambda length: npst.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(length)), elements=anything)
)


@given(images, st.data())
def test_observing_parts_and_merging_them_equals_observing_the_whole(values, data):
    cut = data.draw(st.integers(0, len(values)))
    assert observe(values[:cut]).merge(observe(values[cut:])) == observe(values)


@given(images, st.randoms())
def test_the_order_of_images_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    assert observe(values[order]) == observe(values)


@given(images, st.integers(1, 4))
def test_the_batch_size_does_not_matter(values, size):
    observer = TensorObserver("x")
    for start in range(0, len(values), size):
        observer.update(values[start : start + size])
    assert observer.statistics() == observe(values)


@given(images, images, images)
def test_merge_is_associative_commutative_and_has_a_neutral_element(first, second, third):
    a, b, c = observe(first), observe(second), observe(third)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(b) == b.merge(a)
    assert a.merge(TensorObserver("x").statistics()) == a


@given(images)
def test_counts_and_range_are_those_of_numpy(values):
    stats = observe(values)
    kept = values[np.isfinite(values)]
    assert stats.count == values.size
    assert stats.non_finite == values.size - kept.size
    assert stats.finite == stats.sampled == kept.size
    if kept.size:
        assert (stats.minimum, stats.maximum) == (kept.min(), kept.max())
        assert stats.absolute_maximum == np.abs(kept).max()
    else:
        assert (stats.minimum, stats.maximum, stats.absolute_maximum) == (math.inf, -math.inf, 0.0)
    assert stats.histogram.sum() == values.size


@given(npst.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 60)), elements=finite))
def test_moments_are_exact_up_to_the_rounding_inside_one_image(values):
    stats = observe(values)
    exact = values.astype(np.float64)
    scale = float(np.abs(exact).sum())
    assert abs(stats.mean * values.size - math.fsum(exact.ravel())) <= 1e-12 * scale
    squares = math.fsum((exact**2).ravel())
    assert stats.mean_square * values.size == pytest.approx(squares, rel=1e-12)
    assert stats.std >= 0


@pytest.mark.parametrize("length", [100, 511, 512, 8192, 65536, 70001, 1 << 20])
def test_large_tensors_in_any_batch_give_the_same_bits(length):
    values = np.random.default_rng(length).standard_normal((5, length)).astype(np.float32)
    parts = [observe(values[index : index + 1]) for index in (3, 1, 4, 0, 2)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged == observe(values)
    exact = values.astype(np.float64)
    assert merged.mean_square == pytest.approx(float((exact**2).mean()), rel=1e-6)
    assert merged.mean == pytest.approx(float(exact.mean()), abs=1e-6 * float(np.abs(exact).mean()))


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e18, 1e30])
def test_rows_of_any_magnitude_keep_their_moments_and_their_bits_in_any_batch(scale):
    values = np.random.default_rng(0).standard_normal((3, 9000)).astype(np.float32)
    values[1] *= np.float32(scale)
    exact = values.astype(np.float64)
    seen = observe(values)
    assert seen == observe(values[1:]).merge(observe(values[:1]))
    assert observe(values[1:2]).mean_square == pytest.approx(float((exact[1] ** 2).mean()), rel=1e-6)
    assert seen.mean_square == pytest.approx(float((exact**2).mean()), rel=1e-6)


def test_small_tensors_are_put_by_and_still_counted():
    values = np.random.default_rng(0).standard_normal((300, 1000)).astype(np.float32)
    observer = TensorObserver("x")
    for row in values:
        observer.update(row[None])
    assert np.array_equal(observer.statistics().histogram, observe(values).histogram)
    assert np.array_equal(
        observer.statistics().histogram, np.bincount(upper_halves(values.ravel()), minlength=BIN_COUNT)
    )


def test_values_can_be_of_any_layout_and_empty():
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    assert observe(values.transpose(0, 2, 3, 1)).histogram.sum() == 120
    assert observe(np.empty((0, 3), np.float32)).count == 0
    assert observe(np.float32(3).reshape(())).maximum == 3.0


def test_the_sign_of_zero_does_not_show_in_the_range():
    stats = observe(np.array([[-0.0]], np.float32)).merge(observe(np.array([[0.0]], np.float32)))
    assert math.copysign(1, stats.minimum) == math.copysign(1, stats.maximum) == 1
    assert stats.bins.tolist() == [0, 0x8000]


def test_values_that_are_not_float32_are_refused():
    with pytest.raises(CalibrationError, match="'x' is not float32"):
        TensorObserver("x").update(np.zeros(3))


@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3), st.just(4)), elements=anything),
    st.integers(0, 5),
)
def test_channels_merge_like_everything_else(values, cut):
    whole = observe(values, channel_axis=1)
    first, second = observe(values[:cut], channel_axis=1), observe(values[cut:], channel_axis=1)
    assert first.merge(second) == whole
    for channel in range(3):
        alone = observe(np.ascontiguousarray(values[:, channel]))
        assert whole.channels.minimum[channel] == alone.minimum
        assert whole.channels.maximum[channel] == alone.maximum
        assert whole.channels.absolute_maximum[channel] == alone.absolute_maximum
        assert whole.channels.count[channel] == alone.finite
        assert whole.channels.mean[channel] == pytest.approx(alone.mean, rel=1e-12)


def test_channels_need_an_axis_and_the_same_number_of_channels():
    with pytest.raises(CalibrationError, match="no channels"):
        observe(np.zeros(3, np.float32), channel_axis=1)
    three = observe(np.zeros((1, 3), np.float32), channel_axis=1)
    four = observe(np.zeros((1, 4), np.float32), channel_axis=1)
    with pytest.raises(CalibrationError, match="different numbers of channels"):
        three.merge(four)
    with pytest.raises(CalibrationError, match="with and without channels"):
        three.merge(observe(np.zeros((1, 3), np.float32)))
    assert three != four
    assert three.channels != 3


@given(images, st.integers(2, 7), st.integers(0, 3), st.data())
def test_sampled_statistics_merge_and_keep_an_exact_range(values, every, seed, data):
    sampling = Sampling(every, seed)
    cut = data.draw(st.integers(0, len(values)))
    whole = observe(values, tensor="x", sampling=sampling)
    parts = observe(values[:cut], tensor="x", sampling=sampling), observe(values[cut:], tensor="x", sampling=sampling)
    assert parts[0].merge(parts[1]) == whole
    assert (whole.minimum, whole.maximum, whole.count) == (
        observe(values).minimum,
        observe(values).maximum,
        values.size,
    )
    assert whole.histogram.sum() == len(values) * math.ceil(values.shape[1] / every)


def test_sampling_takes_one_place_of_every_run_and_depends_on_seed_and_name_only():
    places = Sampling(4, 1).places("x", 10)
    assert [place // 4 for place in places] == [0, 1, 2]
    assert np.array_equal(places, Sampling(4, 1).places("x", 10))
    longer = [Sampling(4, seed).places(name, 4000).tolist() for seed, name in itertools.product((1, 2), "xy")]
    assert len({tuple(one) for one in longer}) == 4
    assert Sampling(1, 9).places("x", 10) is None
    assert Sampling(1, 9) == Sampling()


@pytest.mark.parametrize("arguments", [(0, 0), (2, -1)])
def test_a_sampling_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(UsageError):
        Sampling(*arguments)


@given(finite)
def test_every_value_lies_in_its_bin(value):
    bins = np.array([bin_of(value)])
    assert lower_edges(bins)[0] <= abs(value) < upper_edges(bins)[0]


@given(st.lists(finite, max_size=30), st.randoms())
def test_exact_sums_do_not_depend_on_the_order(values, random):
    total = to_units(values, SUM_UNIT)
    random.shuffle(values)
    assert to_units(values, SUM_UNIT) == total
    assert from_units(total, SUM_UNIT) == math.fsum(values)
    assert from_units(to_units([v * v for v in values], SQUARE_UNIT), SQUARE_UNIT) >= 0


def test_units_of_nothing_are_zero():
    assert from_units(5, 3, count=0) == 0.0
    assert from_units(5, 3, count=2) == 20.0


@settings(max_examples=20)
@given(images)
def test_statistics_of_other_kinds_are_not_equal(values):
    assert observe(values) != 3
