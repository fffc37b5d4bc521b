from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images.samples import Dataset
from linglos_deploy.images.tensors import TensorDataset, open_tensors
from linglos_deploy.signature import ModelSignature, TensorSpec

VOICE = ModelSignature(
    (
        TensorSpec("input", "float32", ("batch", 6)),
        TensorSpec("state", "float16", (2, "batch", 4)),
        TensorSpec("rate", "int64", ()),
        TensorSpec("open", "bool", ("batch",)),
    ),
    (),
)
AXES = {"input": 0, "state": 1, "rate": None, "open": 0}


def arrays(count: int = 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "input": random.standard_normal((count, 6)).astype(np.float32),
        "state": random.standard_normal((2, count, 4)).astype(np.float16),
        "rate": np.array(16000),
        "open": random.integers(0, 2, count).astype(np.bool_),
    }


def opened(folder: Path, values: dict[str, np.ndarray], *, compressed: bool = False) -> TensorDataset:
    (np.savez_compressed if compressed else np.savez)(folder / "voice.npz", **values)  # type: ignore[arg-type]
    return open_tensors(folder / "voice.npz", VOICE, AXES)


@pytest.mark.parametrize("size", [1, 3, 7, 50])
@pytest.mark.parametrize("compressed", [False, True])
def test_batches_put_each_input_together_along_its_own_axis(size: int, compressed: bool, tmp_path: Path) -> None:
    values = arrays()
    dataset: Dataset = opened(tmp_path, values, compressed=compressed)
    batches = list(dataset.batches(size, signature=VOICE))
    assert len(batches) == -(-7 // size)
    for batch in batches:
        VOICE.check_inputs(batch)
    for name, axis in AXES.items():
        whole = batches[0][name] if axis is None else np.concatenate([batch[name] for batch in batches], axis)
        np.testing.assert_array_equal(whole, values[name])
    assert dataset.ids == tuple(f"voice.npz[{index}]" for index in range(7))


def test_samples_go_on_where_they_stopped(tmp_path: Path) -> None:
    dataset = opened(tmp_path, arrays())
    samples = list(dataset.samples(3, start=2))
    assert [part.position for part in samples] == [5, 7]
    assert [part.ids[0] for part in samples] == ["voice.npz[2]", "voice.npz[5]"]


def test_shards_and_limits_are_parts_of_the_whole(tmp_path: Path) -> None:
    dataset = opened(tmp_path, arrays())
    shards = [dataset.shard(index, 3) for index in (1, 2, 3)]
    assert sorted(name for shard in shards for name in shard.ids) == sorted(dataset.ids)
    assert {shard.listing for shard in shards} == {dataset.listing}
    few = dataset.limit(4, seed=1)
    assert len(few) == 4
    assert few.listing != dataset.listing
    assert set(few.ids) < set(dataset.ids)
    with pytest.raises(UsageError, match="cannot be split again"):
        shards[0].shard(1, 2)


def test_the_digest_does_not_depend_on_the_order(tmp_path: Path) -> None:
    values = arrays()
    turned = {name: array if AXES[name] is None else np.flip(array, AXES[name]) for name, array in values.items()}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    turned = {name: np.ascontiguousarray(array) for name, array in turned.items()}
    turned["rate"] = values["rate"]
    assert opened(tmp_path / "a", values).digest == opened(tmp_path / "b", turned).digest


def test_labels_come_along(tmp_path: Path) -> None:
    dataset = opened(tmp_path, {**arrays(), "labels": np.arange(7)})
    assert dataset.limit(3, seed=0).labels == tuple(int(name[10:-1]) for name in dataset.limit(3, seed=0).ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": np.zeros((7, 5), np.float32)}, "for input 'input' does not fit"),
        ({"input": np.zeros((7, 6), np.float64)}, "for input 'input' does not fit"),
        ({"state": np.zeros((2, 6, 4), np.float16)}, "not clear how many samples"),
        ({"labels": np.arange(6)}, "not clear how many samples"),
        ({"rate": np.array([16000])}, "for input 'rate' does not fit"),
        ({"input": np.full((7, 6), np.nan, np.float32)}, "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(
    change: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path, {**arrays(), **change}).verified()


def test_indices_beyond_a_table_are_named_before_anything_runs(tmp_path: Path) -> None:
    signature = ModelSignature((TensorSpec("ids", "int64", ("n", 3)),), ())
    np.savez(tmp_path / "ids.npz", ids=np.array([[0, 1, -5], [4, 5, 99]]))
    samples = open_tensors(tmp_path / "ids.npz", signature, {"ids": 0}, rows={"ids": 5})
    samples.limit(None).source.read(0)
    with pytest.raises(DataError, match=r"'ids.npz\[1\]' picks rows that the model does not have") as raised:
        samples.verified()
    assert raised.value.found == "5 in 'ids', and 1 more such values"
    assert str(raised.value.expected).startswith("0 to 4")


def test_an_input_without_an_array_is_named(tmp_path: Path) -> None:
    values = arrays()
    del values["rate"]
    with pytest.raises(DataError, match="no array for input 'rate'") as raised:
        opened(tmp_path, values)
    assert "rate=…" in str(raised.value.next_step)


def test_a_single_array_feeds_a_single_input_whatever_it_is_called(tmp_path: Path) -> None:
    signature = ModelSignature((TensorSpec("x", "float32", ("n", 6)),), ())
    values = np.ones((3, 6), np.float32)
    np.savez(tmp_path / "a.npz", anything=values)
    np.save(tmp_path / "b.npy", values)
    for name in ("a.npz", "b.npy"):
        (batch,) = open_tensors(tmp_path / name, signature, {"x": 0}).batches(8)
        np.testing.assert_array_equal(batch["x"], values)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    opened(tmp_path, arrays(200))
    data = (tmp_path / "voice.npz").read_bytes()
    (tmp_path / "voice.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        open_tensors(tmp_path / "voice.npz", VOICE, AXES)
