from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from linglos_deploy.errors import ArtifactError, DataError, OutputError
from linglos_deploy.parity.recording import INDEX, Recording, ask_here, record, sample_digests

IMAGES = np.random.default_rng(0).random((5, 4), dtype=np.float32)


def batches(*sizes: int) -> list[dict[str, np.ndarray]]:
    cuts = np.cumsum([0, *sizes])
    return [{"image": IMAGES[start:stop]} for start, stop in pairwise(cuts)]


def test_what_was_answered_is_read_back_to_the_bit(tmp_path: Path, runner: Any) -> None:
    made = record(
        runner(y=lambda x: x * 2, z=lambda x: x.sum(axis=1)),
        batches(2, 3),
        out=tmp_path / "r",
        source="PyTorch",
        ids=["a", "b", "c", "d", "e"],
    )
    loaded = Recording.load(tmp_path / "r")

    assert loaded == made
    assert (loaded.samples, loaded.outputs, loaded.source) == (5, ("y", "z"), "PyTorch")
    (first, first_outputs), (second, second_outputs) = loaded.batches()
    assert (first.ids, second.ids) == (("a", "b"), ("c", "d", "e"))
    np.testing.assert_array_equal(np.concatenate([first_outputs["y"], second_outputs["y"]]), IMAGES * 2)
    np.testing.assert_array_equal(second_outputs["z"], IMAGES[2:].sum(axis=1))


def test_one_batch_is_held_at_a_time(tmp_path: Path, runner: Any) -> None:
    buffer = np.empty((1, 4), np.float32)  # the runner's own memory, written again at every run

    def answer(image: np.ndarray) -> np.ndarray:
        buffer[:] = image
        return buffer

    made = record(runner(y=answer), batches(1, 1, 1), out=tmp_path / "r")

    np.testing.assert_array_equal(np.concatenate([outputs["y"] for _, outputs in made.batches()]), IMAGES[:3])
    assert len(list((tmp_path / "r").glob("outputs-*"))) == 3


def test_bfloat16_is_kept_exactly_as_float32(tmp_path: Path, runner: Any) -> None:
    made = record(runner(y=lambda x: x.astype(ml_dtypes.bfloat16)), batches(5), out=tmp_path / "r")

    ((_, outputs),) = made.batches()
    np.testing.assert_array_equal(outputs["y"], IMAGES.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_digests_do_not_depend_on_the_batches_but_on_every_bit_and_name() -> None:
    whole = sample_digests({"image": IMAGES})

    assert whole == sum((sample_digests(batch) for batch in batches(1, 3, 1)), ())
    assert len(set(whole)) == 5
    changed = IMAGES.copy()
    changed[3, 1] = np.nextafter(changed[3, 1], np.float32(2))
    assert [a == b for a, b in zip(sample_digests({"image": changed}), whole, strict=True)] == [1, 1, 1, 0, 1]
    assert sample_digests({"pixels": IMAGES}) != whole
    assert sample_digests({"image": IMAGES.view(np.int32)}) != whole


def test_an_answer_lies_in_memory_as_it_does_after_a_journey(runner: Any) -> None:
    """Sums over an array depend on the order in which it lies in memory; so one process and a cluster must agree."""
    model = runner(y=lambda x: np.asfortranarray(x), z=lambda x: np.float32(x.sum()))

    (answer,) = ask_here(model, batches(5))

    outputs = answer.outputs()
    assert outputs["y"].flags.c_contiguous
    np.testing.assert_array_equal(outputs["y"], IMAGES)
    assert outputs["z"].shape == ()


def test_a_failed_recording_leaves_nothing_behind(tmp_path: Path, runner: Any) -> None:
    with pytest.raises(DataError, match="nothing to record"):
        record(runner(y=lambda x: x), [], out=tmp_path / "r")
    with pytest.raises(DataError, match="more samples than ids"):
        record(runner(y=lambda x: x), batches(2, 3), out=tmp_path / "r", ids=["a", "b", "c"])
    assert list(tmp_path.iterdir()) == []


def test_an_old_recording_is_only_replaced_on_request(tmp_path: Path, runner: Any) -> None:
    record(runner(y=lambda x: x), batches(5), out=tmp_path / "r")
    with pytest.raises(OutputError, match="not empty"):
        record(runner(y=lambda x: -x), batches(5), out=tmp_path / "r")
    again = record(runner(y=lambda x: -x), batches(5), out=tmp_path / "r", replace=True)

    ((_, outputs),) = again.batches()
    np.testing.assert_array_equal(outputs["y"], -IMAGES)


def test_a_changed_or_missing_file_is_refused(tmp_path: Path, runner: Any) -> None:
    made = record(runner(y=lambda x: x), batches(5), out=tmp_path / "r")
    file = tmp_path / "r" / made.shards[0].file
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="not the file that was recorded"):
        list(made.batches())
    file.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        list(made.batches())


@pytest.mark.parametrize(
    ("old", "new"),
    [("outputs-00000.safetensors", "../secret"), ("linglos.recording/1", "linglos.recording/9"), ('"source"', '"s"')],
)
def test_an_index_that_is_not_ours_is_refused(tmp_path: Path, runner: Any, old: str, new: str) -> None:
    record(runner(y=lambda x: x), batches(5), out=tmp_path / "r")
    index = tmp_path / "r" / INDEX
    index.write_text(index.read_text().replace(old, new))

    with pytest.raises(ArtifactError, match="cannot be read"):
        Recording.load(tmp_path / "r")


def test_a_directory_without_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Recording.load(tmp_path)
