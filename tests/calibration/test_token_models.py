"""Networks on tokens, trained on real digits, through every stage of INT8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import linglos_deploy
from linglos_deploy.artifacts import OnnxArtifact, TorchModel, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import CalibrationConfig, calibrate
from linglos_deploy.calibration.table import CalibrationTable
from linglos_deploy.choices import Precision
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.dataset import open_dataset
from linglos_deploy.images.preprocessing import normalize, to_pixels
from linglos_deploy.quantization.placement import find_placement
from tests.token_models import CHANNELS, SIDE, SPEC, PatchAttention, PatchMLP, trained

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CALIBRATION_IMAGES = 256
NETWORKS = {PatchMLP: 30, PatchAttention: 20}
"""Each with its epochs."""

SEEDS = range(5)
"""Trainings of each network."""

USUAL_DB, LEAST_DB = 40.0, 37.5
"""What the median of the trainings reaches at least, and each of them. 17 dB were left when calibration saw one token
in 64. Trainings differ from machine to machine, and their INT8 by 2 dB."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DIGITS / "digits.py").exists(), reason="examples/digits is not in this distribution"),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A trained network as a graph, its tables by batch size, and what it says of the held-out digits."""

    graph: OnnxArtifact
    tables: dict[int, CalibrationTable]
    tokens: int


@dataclass(frozen=True, slots=True)
class Digits:
    """Normalized images, and a file of those that INT8 is calibrated on."""

    train: np.ndarray
    targets: np.ndarray
    heldout: np.ndarray
    heldout_targets: np.ndarray
    calibration: Path


@dataclass(frozen=True, slots=True)
class Shipped:
    """A bundle of a trained network, and what the network itself says of the held-out digits."""

    bundle: Path
    logits: np.ndarray


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install scikit-learn")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DIGITS))
        from digits import load_split
    train, heldout = load_split()
    seen, unseen = (
        normalize(np.stack([to_pixels(image, SPEC) for image in part.images]), SPEC) for part in (train, heldout)
    )
    file = tmp_path_factory.mktemp("digits") / "calibration.npy"
    np.save(file, seen[:CALIBRATION_IMAGES])
    return Digits(seen, train.targets, unseen, heldout.targets, file)


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.__name__)
def network(request: pytest.FixtureRequest) -> type[nn.Module]:
    kind: type[nn.Module] = request.param
    return kind


@pytest.fixture(scope="module")
def case(network: type[nn.Module], digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Case:
    made: nn.Module = trained(network, digits.train, digits.targets, epochs=NETWORKS[network])
    folder = tmp_path_factory.mktemp("tokens")
    model = TorchModel(made, "tokens", ("logits",), SPEC, (), 1, "0" * 64, False, ())
    graph = export_onnx(model, ExportConfig(), out=folder / "model.onnx")
    images = open_dataset(digits.calibration, SPEC)
    runtime = OnnxRuntime(threads=2, reuse_outputs=True)
    tables = {
        size: calibrate(graph, images, runtime=runtime, config=CalibrationConfig(batch_size=size))
        for size in (1, 2, 8, 32)
    }
    return Case(graph, tables, made.patches.count)


@pytest.fixture(scope="module")
def shipped(network: type[nn.Module], digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> list[Shipped]:
    """Return the networks of all seeds, exported as INT8 with nothing else asked for."""
    bundles = []
    for seed in SEEDS:
        made: nn.Module = trained(network, digits.train, digits.targets, epochs=NETWORKS[network], seed=seed)
        report = linglos_deploy.export(
            made,
            tmp_path_factory.mktemp("shipped"),
            name="tokens",
            precision="int8",
            preprocess=SPEC,
            data=digits.calibration,
            engine="none",
            measure_latency=False,
        )
        with torch.inference_mode():
            bundles.append(Shipped(Path(report.bundle), made(torch.from_numpy(digits.heldout)).numpy()))
    return bundles


def test_every_batch_size_gives_the_table_of_single_images(case: Case) -> None:
    assert case.tables[2] == case.tables[8] == case.tables[32] == case.tables[1]


def test_every_token_of_every_image_is_seen(case: Case) -> None:
    sizes = {stats.count / CALIBRATION_IMAGES for stats in case.tables[8].tensors.values()}
    assert sizes == {3 * SIDE * SIDE, case.tokens * CHANNELS, CHANNELS}  # the head reads the mean of the tokens


@pytest.mark.parametrize("target", ["tensorrt", "openvino", "onnxruntime-x86"])
def test_int8_keeps_the_logits_of_held_out_digits(target: str, shipped: list[Shipped], digits: Digits) -> None:
    decibels = []
    for each in shipped:
        graph = open_onnx(each.bundle / find_placement(target).graph_name(Precision.INT8))
        with OnnxRuntime(threads=1).open(graph) as runner:
            (found,) = (np.array(answer) for answer in runner.run({"image": digits.heldout}).values())
        noise = float(np.square(found - each.logits, dtype=np.float64).sum())
        signal = float(np.square(each.logits, dtype=np.float64).sum())
        decibels.append(10 * float(np.log10(signal / noise)))
        right = [int((logits.argmax(axis=1) == digits.heldout_targets).sum()) for logits in (each.logits, found)]
        assert right[1] >= right[0] - 5
    print(", ".join(f"{value:.1f}" for value in decibels), "dB")
    assert np.median(decibels) >= USUAL_DB
    assert min(decibels) >= LEAST_DB
