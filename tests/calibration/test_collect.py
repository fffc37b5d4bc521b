"""One pass: the same table for any batch size, order and split, and after an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest

from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.calibration.observers import observe
from linglos_deploy.calibration.sampling import Sampling
from linglos_deploy.calibration.table import load_table, merge_tables
from linglos_deploy.calibration.targets import quantizable_activations
from linglos_deploy.errors import CalibrationError, DataError, OutputError, UsageError
from linglos_deploy.images.dataset import open_dataset, synthetic_dataset
from tests.calibration.graphs import OBSERVED, RUNTIME, SIZE, SPEC, small_graph, write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    write_images(folder / "images", 13, classes=("a", "b"))
    return folder, small_graph(folder / "small.onnx"), open_dataset(folder / "images", SPEC)


@pytest.fixture(scope="module")
def whole(place):
    _, model, dataset = place
    return calibrate(model, dataset, runtime=RUNTIME)


def test_data_inputs_of_layers_with_weights_are_observed(place):
    _, model, _ = place
    assert quantizable_activations(onnx.load(model.path)) == OBSERVED


def test_the_table_is_that_of_the_activations(place, whole):
    _, model, dataset = place
    shown = onnx.load(model.path)
    for name in ("r1", "pooled"):
        shown.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    import onnxruntime

    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = next(dataset.batches(len(dataset)))
    values = dict(zip(("r1", "pooled"), session.run(["r1", "pooled"], batch), strict=True))
    assert set(whole.tensors) == {*OBSERVED, "r2"}  # and what the second convolution leaves behind
    assert whole.tensors["image"] == observe(batch["image"])
    for name, array in values.items():
        assert whole.tensors[name].count == array.size
        assert whole.tensors[name].maximum == pytest.approx(float(array.max()), rel=1e-5)
        assert whole.tensors[name].mean == pytest.approx(float(array.mean(dtype=np.float64)), rel=1e-5)
    assert whole.image_count == 13
    assert whole.graph_digest == model.digest
    assert whole.preprocess == SPEC
    assert whole.complete
    assert not whole.synthetic
    assert {"numpy", "onnxruntime"} <= set(whole.tools)


@pytest.mark.parametrize("size", [1, 2, 5, 13, 64])
def test_the_batch_size_does_not_change_the_table(place, whole, size):
    _, model, dataset = place
    assert calibrate(model, dataset, runtime=RUNTIME, config=CalibrationConfig(batch_size=size)) == whole


@pytest.mark.parametrize(("count", "order"), [(2, (2, 1)), (5, (3, 1, 5, 4, 2))])
def test_shards_in_any_order_give_the_same_table(place, whole, count, order):
    _, model, dataset = place
    tables = [calibrate(model, dataset.shard(index, count), runtime=RUNTIME) for index in order]
    assert merge_tables(tables) == whole


def test_verification_beforehand_does_not_change_the_table(place, whole):
    folder, model, _ = place
    assert calibrate(model, open_dataset(folder / "images", SPEC, verify=False), runtime=RUNTIME) == whole


@pytest.mark.parametrize("reuse_outputs", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_workers_and_buffers_do_not_change_the_table(place, whole, threads, reuse_outputs, size):
    _, model, dataset = place
    runtime = OnnxRuntime(threads=threads, reuse_outputs=reuse_outputs)
    assert calibrate(model, dataset, runtime=runtime, config=CalibrationConfig(batch_size=size)) == whole


def test_a_graph_of_fixed_batch_size_is_filled_up(tmp_path, place, whole):
    _, _, dataset = place
    fixed = small_graph(tmp_path / "fixed.onnx", batch=4)
    table = calibrate(fixed, dataset, runtime=RUNTIME)
    assert table.tensors == whole.tensors
    assert table.data_digest == whole.data_digest


def test_a_graph_of_any_image_size_takes_that_of_the_preprocessing(tmp_path, place, whole):
    _, _, dataset = place
    free = small_graph(tmp_path / "free.onnx", size="height")
    assert calibrate(free, dataset, runtime=RUNTIME).tensors == whole.tensors


def test_channels_and_samples_are_kept_where_asked(place, whole):
    _, model, dataset = place
    config = CalibrationConfig(per_channel=True, sampling=Sampling(3, 7), tensors=("r1", "pooled"))
    table = calibrate(model, dataset, runtime=RUNTIME, config=config)
    assert len(table.tensors["r1"].channels.minimum) == 8
    assert table.sampling == Sampling(3, 7)
    assert table.tensors["r1"].maximum == whole.tensors["r1"].maximum
    assert table.tensors["r1"].sampled < whole.tensors["r1"].sampled


def test_synthetic_images_are_recorded(place):
    _, model, _ = place
    assert calibrate(model, synthetic_dataset(SPEC, 3), runtime=RUNTIME).synthetic


def test_only_the_input_can_be_observed(place):
    _, model, dataset = place
    table = calibrate(model, dataset, runtime=RUNTIME, config=CalibrationConfig(tensors=("image",)))
    assert table.tensors["image"].count == 13 * 3 * SIZE * SIZE


@pytest.mark.parametrize(("tensor", "message"), [("nowhere", "no tensor 'nowhere'"), ("axes_out", "no tensor")])
def test_unknown_tensors_are_errors(place, tensor, message):
    _, model, dataset = place
    with pytest.raises(CalibrationError, match=message):
        calibrate(model, dataset, runtime=RUNTIME, config=CalibrationConfig(tensors=(tensor,)))


def test_tensors_that_are_not_float32_and_graphs_without_layers_are_errors(tmp_path, place):
    _, _, dataset = place
    from onnx import TensorProto, helper

    from linglos_deploy.artifacts import open_onnx

    nodes = [helper.make_node("Cast", ["image"], ["half"], to=TensorProto.FLOAT16)]
    graph = helper.make_graph(
        nodes,
        "cast",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("half", TensorProto.FLOAT16, ["n", 3, SIZE, SIZE])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "c.onnx")
    model = open_onnx(tmp_path / "c.onnx")
    with pytest.raises(CalibrationError, match="not float32"):
        calibrate(model, dataset, runtime=RUNTIME, config=CalibrationConfig(tensors=("half",)))
    with pytest.raises(CalibrationError, match="nothing to calibrate"):
        calibrate(model, dataset, runtime=RUNTIME)


def test_a_dataset_of_damaged_images_is_an_error(tmp_path, place):
    _, model, _ = place
    write_images(tmp_path, 1)
    data = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="no image to calibrate with"):
        calibrate(model, open_dataset(tmp_path, SPEC, verify=False), runtime=RUNTIME)


@pytest.mark.parametrize("arguments", [{"memory_budget": 0}, {"batch_size": 0}])
def test_a_configuration_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(UsageError):
        CalibrationConfig(**arguments)


class FailingRuntime:
    """Dies after some images."""

    name = "failing"

    def __init__(self, images):
        self.images = images

    @contextmanager
    def open(self, artifact, **options):
        with RUNTIME.open(artifact, **options) as runner:
            runtime = self

            class Failing:
                signature = runner.signature

                def run(self, batch):
                    runtime.images -= len(batch["image"])
                    if runtime.images < 0:
                        raise KeyboardInterrupt
                    return runner.run(batch)

            yield Failing()


def tried(size):
    """Return how many images are run alone and in a batch, to see whether batches change the table."""
    return 3 + size


@pytest.mark.parametrize("size", [3, 4])
def test_an_interrupted_calibration_is_taken_up(tmp_path, place, whole, size):
    _, model, dataset = place
    checkpoint = tmp_path / "c.table.partial"
    three = CalibrationConfig(batch_size=3)
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, dataset, runtime=FailingRuntime(tried(3) + 6), config=three, checkpoint=checkpoint)
    assert load_table(checkpoint).position == 6
    resumed = FailingRuntime(100)
    config = CalibrationConfig(batch_size=size)
    table = calibrate(model, dataset, runtime=resumed, config=config, checkpoint=checkpoint, resume=True)
    assert table == whole
    assert 100 - resumed.images == tried(size) + 7
    assert list(tmp_path.iterdir()) == []


def test_without_resume_a_calibration_starts_over(tmp_path, place, whole):
    _, model, dataset = place
    checkpoint = tmp_path / "c"
    checkpoint.write_bytes(b"left over")
    assert calibrate(model, dataset, runtime=RUNTIME, checkpoint=checkpoint) == whole
    assert calibrate(model, dataset, runtime=RUNTIME, checkpoint=checkpoint, resume=True) == whole


def test_a_checkpoint_of_another_calibration_is_refused_by_name(tmp_path, place):
    _, model, dataset = place
    checkpoint = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        calibrate(
            model,
            dataset,
            runtime=FailingRuntime(tried(4) + 4),
            config=CalibrationConfig(batch_size=4),
            checkpoint=checkpoint,
        )
    before = checkpoint.read_bytes()
    other = small_graph(tmp_path / "other.onnx", seed=1)
    cases = [
        (other, dataset, CalibrationConfig(), "graph"),
        (model, dataset.shard(1, 2), CalibrationConfig(), "images"),
        (model, dataset, CalibrationConfig(sampling=Sampling(2)), "sampling"),
        (model, dataset, CalibrationConfig(tensors=("r1",)), "tensors"),
    ]
    for graph, data, config, name in cases:
        with pytest.raises(CalibrationError, match=f"another calibration: {name}"):
            calibrate(graph, data, runtime=RUNTIME, config=config, checkpoint=checkpoint, resume=True)
    assert checkpoint.read_bytes() == before
    calibrate(model, dataset, runtime=RUNTIME).save(checkpoint)
    with pytest.raises(CalibrationError, match="it is finished"):
        calibrate(model, dataset, runtime=RUNTIME, checkpoint=checkpoint, resume=True)


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path, place, monkeypatch):
    _, model, dataset = place
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        calibrate(model, dataset, runtime=RUNTIME, checkpoint=tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_killed_during_collection_and_resumed_gives_the_same_table(tmp_path, place, whole):
    folder, model, dataset = place
    checkpoint = tmp_path / "c"
    script = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from linglos_deploy.artifacts import open_onnx
        from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
        from linglos_deploy.calibration import calibrate as module
        from linglos_deploy.images.dataset import open_dataset
        from tests.calibration.graphs import RUNTIME, SPEC

        write = module.write_checkpoint
        def slowly(table, path):
            write(table, path)
            print(table.position, flush=True)
            time.sleep(0.2)

        module.write_checkpoint = slowly
        calibrate(open_onnx(Path({str(model.path)!r})), open_dataset(Path({str(folder / "images")!r}), SPEC),
                  runtime=RUNTIME, config=CalibrationConfig(batch_size=1), checkpoint=Path({str(checkpoint)!r}))
        """
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    seen = load_table(checkpoint)
    assert 4 <= seen.position < 13
    resumed = FailingRuntime(100)
    config = CalibrationConfig(batch_size=1)
    table = calibrate(model, dataset, runtime=resumed, config=config, checkpoint=checkpoint, resume=True)
    assert table == whole
    assert 100 - resumed.images == 13 - seen.position
