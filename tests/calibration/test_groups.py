"""Channels in groups, and a histogram for each of them."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.calibration import container
from linglos_deploy.calibration.groups import MAX_GROUPS, ChannelGroups, group_channels
from linglos_deploy.calibration.observers import GroupedAxis, observe
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.statistics import TensorStatistics
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.errors import ArtifactError, CalibrationError

GAINS = st.lists(st.floats(0.0, 1e6) | st.sampled_from([1e-12, 1.0, 400.0]), min_size=1, max_size=40)
THREE = ChannelGroups((1, 0, 1, 2), (0.1, 1.0, 4.0))


@given(GAINS)
def test_groups_are_few_ordered_and_stand_for_their_channels(gains):
    groups = group_channels(gains)
    assert 1 <= len(groups) <= MAX_GROUPS
    assert len(groups.members) == len(gains)
    assert list(groups.gains) == sorted(groups.gains)
    if max(gains) > 0:
        assert np.mean([groups.gains[group] for group in groups.members]) == pytest.approx(1.0, rel=2e-3)


def test_channels_read_alike_are_one_group_and_loud_ones_stand_apart():
    assert group_channels([1.0, 1.5, 0.7, 1.9]).members == (0, 0, 0, 0)
    assert group_channels([1.0, 1.2, 1 / 400, 0.9, 1 / 22_500]).members == (2, 2, 1, 2, 0)
    assert group_channels([0.0, 0.0]).gains == (1.0,)


def test_the_last_bits_of_a_sum_move_no_channel():
    gains = np.random.default_rng(0).lognormal(0, 2, 64)
    assert group_channels(gains * (1 + 1e-13)) == group_channels(gains)


@given(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(0, 3))
def test_group_histograms_are_those_of_the_channels_in_any_batch(count, every, seed):
    """Along a middle axis and along the last one, sampled or not, merged or at once."""
    values = np.random.default_rng(seed).standard_normal((count, 4, 5, 4)).astype(np.float32)
    sampling = Sampling(every=every)
    for axis in (1, 3, -1):
        grouped = GroupedAxis(axis, THREE)
        whole = observe(values, tensor="x", grouped=grouped, sampling=sampling)
        parts = [observe(values[at : at + 1], tensor="x", grouped=grouped, sampling=sampling) for at in range(count)]
        merged = parts[0]
        for part in parts[1:]:
            merged = part.merge(merged)
        assert merged == whole
        assert whole.groups is not None
        plain = observe(values, tensor="x", sampling=sampling)
        assert np.array_equal(whole.bins, plain.bins)
        assert np.array_equal(whole.counts, plain.counts)
        places = sampling.places("x", values[0].size)
        places = np.arange(values[0].size) if places is None else places
        channel = np.unravel_index(places, values.shape[1:])[axis - 1 if axis > 0 else axis]
        seen = values.reshape(count, -1)[:, places]
        for group in range(3):
            expected = observe(seen[:, np.isin(channel, THREE.channels_of(group))])
            assert np.array_equal(whole.groups.bins[group], expected.bins)
            assert np.array_equal(whole.groups.counts[group], expected.counts)


def test_large_tensors_are_gathered_piece_by_piece():
    values = np.random.default_rng(1).standard_normal((3, 4, 300, 300)).astype(np.float32)
    for axis, shaped in ((1, values), (3, np.moveaxis(values, 1, 3))):
        stats = observe(np.ascontiguousarray(shaped), grouped=GroupedAxis(axis, THREE))
        assert stats.groups is not None
        assert np.array_equal(stats.groups.counts[0], observe(values[:, 1]).counts)
        assert np.array_equal(stats.groups.counts[1], observe(values[:, [0, 2]]).counts)


def test_channels_that_are_not_there_are_refused():
    with pytest.raises(CalibrationError, match="does not have the channels"):
        observe(np.zeros((2, 5), np.float32), grouped=GroupedAxis(1, THREE))


def test_weighed_magnitudes_count_each_value_by_its_gain():
    stats = observe(np.array([[1.0, -2.0, 1.0, 8.0]], np.float32), grouped=GroupedAxis(1, THREE))
    bins, weights = stats.weighed_magnitudes()
    assert dict(zip(bins.tolist(), weights.tolist(), strict=True)) == {0x3F80: 2.0, 0x4000: 0.1, 0x4100: 4.0}


def test_different_groups_do_not_merge():
    values = np.ones((1, 4), np.float32)
    first = observe(values, grouped=GroupedAxis(1, THREE))
    for other in (observe(values), observe(values, grouped=GroupedAxis(1, ChannelGroups((0, 0, 1, 1), (0.5, 1.5))))):
        with pytest.raises(CalibrationError, match="cannot be merged"):
            first.merge(other)


def _table(stats: TensorStatistics) -> CalibrationTable:
    return CalibrationTable(tensors={"x": stats}, graph_digest="0" * 64)


def test_a_file_keeps_the_groups():
    values = np.random.default_rng(2).standard_normal((7, 4, 9)).astype(np.float32)
    for grouped in (None, GroupedAxis(1, THREE)):
        table = _table(observe(values, grouped=grouped))
        assert container.decode(container.encode(table), source="x") == table


def test_a_file_of_the_first_version_is_read():
    table = _table(observe(np.arange(8, dtype=np.float32).reshape(2, 4)))
    data = container.encode(table)
    magic, _, length, raw = struct.unpack_from("<8sIIQ", data)
    header = msgspec.json.decode(data[24 : 24 + length])
    for entry in header["tensors"]:
        del entry["groups"]
    text = msgspec.json.encode(header)
    body = struct.pack("<8sIIQ", magic, 1, len(text), raw) + text + data[24 + length : -32]
    assert container.decode(body + hashlib.sha256(body).digest(), source="x") == table


def test_a_group_without_a_value_survives_its_file():
    table = _table(observe(np.zeros((0, 4), np.float32), grouped=GroupedAxis(1, THREE)))
    assert container.decode(container.encode(table), source="x").tensors["x"].groups is not None


@pytest.mark.parametrize("change", [{"gains": (-1.0, 1.0, 4.0)}, {"members": (0, 0, 1, 1)}, {"gains": (0.1, 1.0)}])
def test_groups_that_no_graph_gives_are_no_table(change):
    stats = observe(np.ones((1, 4), np.float32), grouped=GroupedAxis(1, THREE))
    assert stats.groups is not None
    wrong = ChannelGroups(THREE.members, THREE.gains)
    for name, value in change.items():
        object.__setattr__(wrong, name, value)
    object.__setattr__(stats.groups, "groups", wrong)
    with pytest.raises(ArtifactError, match="no usable calibration table"):
        container.decode(container.encode(_table(stats)), source="x")
