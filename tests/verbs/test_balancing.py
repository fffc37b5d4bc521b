"""Scales stay moved only where pictures that did not choose them confirm it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from linglos_deploy.artifacts import OnnxArtifact, TorchModel
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.files import sha256_bytes
from linglos_deploy.images.dataset import open_dataset, synthetic_dataset
from linglos_deploy.progress import SILENT
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.verbs import balancing
from linglos_deploy.verbs.balancing import Balancing, balance
from tests.token_models import SIDE, SPEC, PatchAttention


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> OnnxArtifact:
    torch.manual_seed(0)
    network = PatchAttention().eval()
    with torch.no_grad():
        network.patches.embed.weight[5] *= 20  # a loud channel that the norm's own parameters do not tell of
        network.attention.in_proj_weight[:, 5] /= 20
    model = TorchModel(network, "tokens", ("logits",), SPEC, (), 1, "0" * 64, False, ())
    return export_onnx(model, ExportConfig(), out=tmp_path_factory.mktemp("balance") / "exported.onnx")


@pytest.fixture
def graph(exported: OnnxArtifact, tmp_path: Path) -> OnnxArtifact:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(exported.path.read_bytes())
    return replace(exported, path=copy)


def by(folder: Path, count: int) -> Balancing:
    images = np.random.default_rng(0).standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)
    np.save(folder / "images.npy", images)
    runtime = OnnxRuntime(threads=1)
    return Balancing(open_dataset(folder / "images.npy", SPEC), QuantScheme(), runtime, threads=1)


def test_scales_that_other_pictures_confirm_stay_moved(
    graph: OnnxArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancing, "int8_noise", lambda it, *_: 1e-4 if it is graph else 5e-5)
    moved = balance(graph, by(tmp_path, 32))
    assert moved.path == graph.path
    assert sha256_bytes(graph.path.read_bytes()) == moved.digest != graph.digest
    assert moved.lineage[-1].stage == "balance"


def test_scales_that_other_pictures_do_not_confirm_go_back(
    graph: OnnxArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []

    def alike(*args: object) -> float:
        judged.append(args)
        return 1e-4

    monkeypatch.setattr(balancing, "int8_noise", alike)
    assert balance(graph, by(tmp_path, 32)) is graph
    assert len(judged) == 2
    assert sha256_bytes(graph.path.read_bytes()) == graph.digest


def test_what_judges_sees_the_noise_of_int8(graph: OnnxArtifact, tmp_path: Path) -> None:
    coarse = replace(by(tmp_path, 32), scheme=QuantScheme(weight_bits=7))
    fine = replace(coarse, scheme=QuantScheme())
    none = replace(coarse, scheme=QuantScheme(exclude=(".*",)))
    shown, judging = fine.images.shard(1, 2), fine.images.shard(2, 2)
    found = [
        balancing.int8_noise(graph, shown, judging, each, tmp_path / "int8.onnx", SILENT)
        for each in (none, fine, coarse)
    ]
    assert found[0] < 1e-9 < 2 * found[1] < 4 * found[2] < 0.1


def test_few_pictures_and_made_up_ones_move_nothing(graph: OnnxArtifact, tmp_path: Path) -> None:
    few = by(tmp_path, balancing.LEAST_IMAGES - 1)
    assert balance(graph, few) is graph
    assert balance(graph, replace(few, images=synthetic_dataset(SPEC, 32, 0))) is graph
