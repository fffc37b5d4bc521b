"""A detector from a checkpoint to a drawn picture and AP, through every command; and engines of every head."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from linglos_deploy.artifacts import load_onnx
from linglos_deploy.bundle import open_bundle
from linglos_deploy.errors import UsageError
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.quantization.plan import QuantPlan
from tests.commandline import run
from tests.tasks.make import write_checkpoint, write_coco

SHAPED_BY_DATA = {"NonZero", "Unique", "Compress", "NonMaxSuppression", "Loop", "If"}


def test_the_checkpoint_says_which_head_it_has(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "d.safetensors", "detect", {"head": "retinanet", "width": "32"})
    model = load_model(ModelSource(checkpoint=path))
    assert model.decoding is not None
    assert model.decoding.outputs == {"candidates": "candidates"}
    assert model.decoding.settings == {"head": "retinanet", "width": "32"}


def test_a_head_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="head=yolo"):
        ModelSource(variant="b0", task="detect", settings={"head": "yolo"})


@pytest.mark.slow
@pytest.mark.parametrize("head", ["nms-free", "retinanet", "retinanet-nms"])
def test_a_detector_goes_through_export_predict_and_eval(tmp_path: Path, head: str) -> None:
    pytest.importorskip("faster_coco_eval", reason="pip install 'linglos-deploy[coco]'")
    checkpoint = write_checkpoint(tmp_path / "d.safetensors", "detect", {"head": head, "width": "32"})
    scenes = write_coco(tmp_path / "scenes")
    options = ("--data", scenes / "images", "--engine", "none", "--no-latency", "-o", tmp_path, "-q")
    int8 = head != "retinanet-nms"  # which of random boxes suppresses which is chance, and that fails there
    run("export", "--checkpoint", checkpoint, *options, "--name", "d", *(("--int8",) if int8 else ())).expect(0)
    bundle = open_bundle(tmp_path / "d")
    graph = load_onnx(bundle.path / bundle.manifest.graphs[-1].file).graph
    assert (head == "retinanet-nms") == bool(SHAPED_BY_DATA & {node.op_type for node in graph.node})
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    if int8:
        nodes = [it for it in QuantPlan.load(bundle.path / "plan.json").nodes if it.node.startswith("head.")]
        assert [it.quantize for it in nodes] == [not it.node.startswith("head.predict_") for it in nodes]
    picture = scenes / "images/0.png"
    facts = run("predict", bundle.path, picture, "--draw", tmp_path / "drawn", "--json", "-q").expect(0).json[0]
    with Image.open(picture) as image, Image.open(facts["drawn"]) as drawn:
        assert image.size == drawn.size
        for box in facts["boxes"]:
            left, top, right, bottom = box["box"]
            assert 0 <= left < right <= image.width
            assert 0 <= top < bottom <= image.height
    report = run("eval", bundle.path, "--data", scenes, "--json", "-q").expect(0).json
    assert (report["metric"], report["count"]) == ("AP", 4)
    assert all(0 <= score["score"]["value"] <= 1 for score in report["scores"])
    run("parity", bundle.path, "-q").expect(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("detect", {"head": "nms-free"}),
        ("detect", {"head": "retinanet"}),
        ("detect", {"head": "retinanet-nms"}),
        ("segment", {"output": "classes"}),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tensorrt_rtx_builds_every_head(tmp_path: Path, task: str, settings: dict[str, str], precision: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'linglos-deploy[tensorrt-rtx]'")
    size = (64, 64)
    checkpoint = write_checkpoint(tmp_path / "d.safetensors", task, {**settings, "width": "32"}, size)
    options = ("--precision", precision, "--engine", "tensorrt-rtx", "--no-latency", "--sm", "89", "-o", tmp_path, "-q")
    made = run("export", "--checkpoint", checkpoint, *options, "--name", "d", "--json").json  # whatever parity says
    assert [engine["file"] is not None for engine in made["engines"]] == [True], made["engines"]
