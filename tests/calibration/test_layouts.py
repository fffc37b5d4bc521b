"""The same table for every batch size, split and thread count, wherever a graph keeps its images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.calibration.collect import open_collector
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.probe import activation_probe
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.table import CalibrationTable, merge_tables
from linglos_deploy.errors import CalibrationError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.graph.axes import ImagesAt
from linglos_deploy.graph.inputs import open_inputs
from linglos_deploy.images.dataset import ImageDataset
from tests.calibration.layouts import (
    CHANNELS,
    EXACT,
    HIDDEN,
    NODES,
    SPEC,
    TOKENS,
    images_for,
    layout_graph,
    recurrent_graph,
)

IMAGES = 13
RUNTIME = OnnxRuntime(threads=1, reuse_outputs=True)
SIZES = {
    "pictures": {"image": 48, "pixels": 128, "more": 48, "pooled": 3, "hidden": 8},
    "token first": {"tokens": 48, "hidden": 128},
    "time first": {"steps": 48, "hidden": 128},
    "flattened tokens": {"rows": 48, "hidden": 128},
    "flattened steps": {"rows": 48, "hidden": 128},
    "a constant beside it": {"position_rows": 48, "tokens": 48, "hidden": 128},
    "attention": {"tokens": 48, "hidden": 128},
    "LSTM": {"hidden": 128},
    "GRU": {"hidden": 128},
    "mean of the batch": {"centred": 48, "hidden": 128},
}
"""Values of each observed tensor for one image."""


class Attention(nn.Module):
    """Patches, PyTorch's own attention over them with batch or position first, and a head on their mean."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.embed = nn.Linear(CHANNELS, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=batch_first)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(image.flatten(2).transpose(1, 2))
        tokens = tokens if self.batch_first else tokens.transpose(0, 1)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(torch.nn.functional.gelu(mixed).mean(dim=1 if self.batch_first else 0))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)
        graph_of.cache_clear()


@cache
def graph_of(place: Path, layout: str) -> OnnxArtifact:
    path = place / f"{layout}.onnx"
    if layout in NODES:
        return layout_graph(path, layout)
    module = Attention(batch_first=layout == "attention, batch first").eval()
    model = TorchModel(module, "attention", ("logits",), SPEC, (), 1, "0" * 64, True, ())
    return export_onnx(model, ExportConfig(), out=path)


@cache
def alone(place: Path, layout: str, integers: bool) -> tuple[ImageDataset, CalibrationTable]:
    """Return images, and the table of one image at a time."""
    images = images_for(place, IMAGES, integers=integers)
    config = CalibrationConfig(batch_size=1)
    return images, calibrate(graph_of(place, layout), images, runtime=RUNTIME, config=config)


def check_a_choice(
    place: Path, layout: str, integers: bool, batch: int | None, shards: int, threads: int, budget: int
) -> None:
    images, whole = alone(place, layout, integers)
    config = CalibrationConfig(batch_size=batch, memory_budget=budget)
    runtime = OnnxRuntime(threads=threads, reuse_outputs=True)
    parts = [images.shard(index, shards) for index in range(shards, 0, -1)] if shards > 1 else [images]
    tables = [calibrate(graph_of(place, layout), part, runtime=runtime, config=config) for part in parts]
    assert merge_tables(tables) == whole
    assert layout not in NODES or any(stats.groups is not None for stats in whole.tensors.values())


CHOICES = {
    "integers": st.booleans(),
    "batch": st.none() | st.integers(1, 16),
    "shards": st.integers(1, 4),
    "threads": st.integers(1, 3),
    "budget": st.sampled_from([1 << 10, 1 << 12, 1 << 20]),
}


@settings(max_examples=60, deadline=None)
@given(layout=st.sampled_from(sorted(NODES)), **CHOICES)
def test_a_table_does_not_depend_on_batch_size_split_and_threads(place: Path, layout: str, **choices: int) -> None:
    check_a_choice(place, layout, **choices)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(layout=st.sampled_from(["attention, batch first", "attention, position first"]), **CHOICES)
def test_nor_does_that_of_attention_from_pytorch(place: Path, layout: str, **choices: int) -> None:
    check_a_choice(place, layout, **choices)


@pytest.mark.parametrize("batch", [1, 2, 8, 32])
@pytest.mark.parametrize("layout", SIZES)
def test_every_value_of_every_image_is_seen_once(place: Path, layout: str, batch: int) -> None:
    images, _ = alone(place, layout, True)
    table = calibrate(graph_of(place, layout), images, runtime=RUNTIME, config=CalibrationConfig(batch_size=batch))
    assert {name: stats.count / IMAGES for name, stats in table.tensors.items()} == SIZES[layout]


@pytest.mark.parametrize("batch", [None, 1, 2, 5])
def test_inputs_keep_their_images_wherever_they_say(tmp_path: Path, batch: int | None) -> None:
    """A recurrent graph, with a state that has images along its second axis, and a rate that is the same for all."""
    graph = recurrent_graph(tmp_path / "recurrent.onnx")
    generator = np.random.default_rng(0)
    arrays = {
        "steps": generator.standard_normal((TOKENS, IMAGES, CHANNELS)).astype(np.float32),
        "state": generator.standard_normal((1, IMAGES, HIDDEN)).astype(np.float32),
        "rate": np.array(2, np.float32),
    }
    np.savez(tmp_path / "inputs.npz", **arrays)
    images = open_inputs(tmp_path / "inputs.npz", graph, None)
    config = CalibrationConfig(batch_size=batch, tensors=("steps", "hidden"), per_channel=True)
    table = calibrate(graph, images, runtime=RUNTIME, config=config)
    assert table.image_count == IMAGES
    observed = observe(np.moveaxis(arrays["steps"], 1, 0), channel_axis=2)
    assert (table.tensors["steps"].count, table.tensors["steps"].minimum) == (observed.count, observed.minimum)
    assert table.tensors["hidden"].count == IMAGES * TOKENS * HIDDEN
    parts = [calibrate(graph, images.shard(index, 3), runtime=RUNTIME, config=config) for index in (1, 3, 2)]
    assert merge_tables(parts) == table


@pytest.mark.parametrize("layout", EXACT)
def test_images_run_together_where_that_changes_no_bit(place: Path, layout: str) -> None:
    images, whole = alone(place, layout, True)
    with open_collector(graph_of(place, layout), runtime=RUNTIME, memory_budget=1 << 20, images_per_run=6) as collector:
        for samples in images.samples(6):
            collector.take(samples.batch)
        assert collector.table().tensors == whole.tensors
        assert collector.one_by_one is None
        assert collector._runs.images == 6


@pytest.mark.parametrize("layout", ["mean of the batch", "chosen by value"])
def test_images_that_cannot_be_told_apart_run_alone_and_that_is_said(place: Path, layout: str) -> None:
    images, whole = alone(place, layout, True)

    class Listener:
        said: list[str] = []  # noqa: RUF012

        def warn(self, text: str) -> None:
            self.said.append(text)

        def stage(self, *arguments: object) -> object:
            from linglos_deploy.progress import SILENT

            return SILENT.stage(*arguments)

    listener = Listener()
    config = CalibrationConfig(batch_size=4)
    table = calibrate(graph_of(place, layout), images, runtime=RUNTIME, config=config, progress=listener)
    assert table == whole
    (said,) = listener.said
    assert said.startswith("One image was run at a time, not 4: the images of a batch cannot be told apart in '")


@pytest.mark.parametrize("batch", [2, 4, 5])
@pytest.mark.parametrize("layout", SIZES)
def test_what_fills_up_a_fixed_batch_is_not_counted(tmp_path: Path, place: Path, layout: str, batch: int) -> None:
    images, whole = alone(place, layout, True)
    fixed = layout_graph(tmp_path / "fixed.onnx", layout, batch=batch)
    if layout == "mean of the batch":
        with pytest.raises(CalibrationError, match="In tensor 'centred', the images of a batch cannot be told apart"):
            calibrate(fixed, images, runtime=RUNTIME)
        return
    table = calibrate(fixed, images, runtime=RUNTIME)
    for name, stats in table.tensors.items():
        alike = whole.tensors[name]
        assert stats.count == alike.count
        if layout in EXACT:
            assert stats == alike
        assert stats.mean == pytest.approx(alike.mean, rel=1e-5)


@pytest.mark.parametrize("layout", EXACT)
def test_samples_and_channels_are_those_of_single_images(place: Path, layout: str) -> None:
    images, _ = alone(place, layout, True)
    graph = graph_of(place, layout)
    tables = [
        calibrate(graph, images, runtime=RUNTIME, config=CalibrationConfig(**config))
        for config in ({"batch_size": size, "per_channel": True, "sampling": Sampling(3, 7)} for size in (1, 2, 6))
    ]
    assert tables[0] == tables[1] == tables[2]
    channels = {name: len(stats.channels.sums) for name, stats in tables[0].tensors.items()}
    expected = {"hidden": HIDDEN, "pixels": HIDDEN}
    assert channels == {name: expected.get(name, CHANNELS) for name in channels}


def test_channels_of_tokens_are_those_that_the_layer_sums_over(place: Path) -> None:
    images, _ = alone(place, "time first", True)
    table = calibrate(
        graph_of(place, "time first"), images, runtime=RUNTIME, config=CalibrationConfig(per_channel=True)
    )
    batch = next(images.batches(IMAGES))["image"].reshape(IMAGES, CHANNELS, TOKENS)
    seen = table.tensors["steps"].channels
    np.testing.assert_array_equal(seen.minimum, batch.min(axis=(0, 2)))
    np.testing.assert_array_equal(seen.maximum, batch.max(axis=(0, 2)))
    np.testing.assert_array_equal(seen.count, IMAGES * TOKENS)


def test_images_all_alike_decide_nothing_and_run_alone(place: Path) -> None:
    graph = graph_of(place, "flattened tokens")
    images, _ = alone(place, "flattened tokens", True)
    one = next(images.batches(1))["image"]
    with open_collector(graph, runtime=RUNTIME, memory_budget=1 << 20, images_per_run=4) as collector:
        collector.take({"image": np.repeat(one, 4, axis=0)})
        assert collector._runs is None
        table = collector.table()
    assert table.image_count == 4
    tokens = one.reshape(1, CHANNELS, TOKENS).transpose(0, 2, 1)
    assert replace(table.tensors["rows"], groups=None) == observe(np.repeat(tokens, 4, axis=0))


def test_values_that_were_missed_are_an_error_that_names_the_tensor(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count follows from sizes, not from where images are taken to lie."""
    images, _ = alone(place, "flattened tokens", True)
    monkeypatch.setattr(ImagesAt, "split", lambda place, values: values[:, np.newaxis])
    from linglos_deploy.calibration import collect, runs

    cut = runs.Runs(4, dict.fromkeys(("rows", "hidden"), ImagesAt(0)))
    monkeypatch.setattr(collect, "decide_runs", lambda *arguments: cut)
    config = CalibrationConfig(batch_size=4)
    with pytest.raises(CalibrationError, match="Not all values of tensor 'rows' were seen"):
        calibrate(graph_of(place, "flattened tokens"), images, runtime=RUNTIME, config=config)


@pytest.mark.parametrize(("layout", "values"), [("flattened tokens", 176), ("time first", 176), ("LSTM", 128)])
@pytest.mark.parametrize("batch", ["batch", 4])
def test_memory_is_planned_with_what_one_image_takes(
    tmp_path: Path, layout: str, values: int, batch: int | str
) -> None:
    graph = layout_graph(tmp_path / "graph.onnx", layout, batch=batch)
    names = SIZES[layout]
    probe = activation_probe(onnx.load(graph.path), list(names), out=tmp_path / "probe.onnx")
    assert probe.bytes_per_image == 4 * values == 4 * sum(names.values())


def test_memory_is_not_planned_where_sizes_follow_from_values(tmp_path: Path) -> None:
    graph = layout_graph(tmp_path / "graph.onnx", "chosen by value")
    assert activation_probe(onnx.load(graph.path), ["chosen"], out=tmp_path / "probe.onnx").bytes_per_image is None
