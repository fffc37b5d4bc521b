"""A segmenter from a checkpoint to a drawn picture and a metric, through every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from linglos_deploy.artifacts import load_onnx
from linglos_deploy.bundle import open_bundle
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.quantization.plan import QuantPlan
from tests.commandline import run
from tests.tasks.make import write_checkpoint, write_scenes


def test_the_checkpoint_says_what_it_is_for_and_a_backbone_can_be_taken_out(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "seg.safetensors", "segment", {"width": "32", "output": "classes"})
    model = load_model(ModelSource(checkpoint=path))
    assert model.decoding is not None
    assert (model.decoding.task, model.decoding.outputs) == ("segment", {"classes": "classes"})
    assert model.labels == ("ant", "bee", "cat")
    scores = load_model(ModelSource(checkpoint=path, settings={"output": "scores"}))
    assert scores.output_names == ("scores",)
    assert len(load_model(ModelSource(checkpoint=path, task="features")).output_names) == 4
    shown = run("export", "--checkpoint", path, "--task", "classify", "-o", tmp_path, "--engine", "none")
    shown.explain(4, "does not fit", "head.weight")


def test_accuracy_in_export_is_for_classifiers(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "seg.safetensors", "segment", {"width": "32"})
    call = ("export", "--checkpoint", path, "-o", tmp_path, "--engine", "none", "--eval", tmp_path)
    run(*call).explain(2, "of a classifier", "linglos-deploy eval")


@pytest.mark.slow
@pytest.mark.parametrize("output", ["scores", "classes"])
def test_a_segmenter_goes_through_export_predict_and_eval(tmp_path: Path, output: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "seg.safetensors", "segment", {"width": "32", "output": output})
    scenes = write_scenes(tmp_path / "scenes")
    options = ("--int8", "--data", scenes / "images", "--engine", "none", "--no-latency", "-o", tmp_path, "-q")
    run("export", "--checkpoint", checkpoint, *options, "--name", "seg").expect(0)
    bundle = open_bundle(tmp_path / "seg")
    plan = {decision.node: decision.quantize for decision in QuantPlan.load(bundle.path / "plan.json").nodes}
    assert [node for node in plan if node.startswith("head.") and not plan[node]] == ["head.predict/Conv"]
    assert not {"NonZero", "Unique", "Compress", "NonMaxSuppression"} & {
        node.op_type for node in load_onnx(bundle.path / bundle.manifest.graphs[-1].file).graph.node
    }
    assert bundle.manifest.graphs[-1].signature.outputs[0].dtype == {"scores": "float32", "classes": "uint8"}[output]
    picture = scenes / "images/0.png"
    facts = run("predict", bundle.path, picture, "--draw", tmp_path / "drawn", "--json", "-q").expect(0).json[0]
    with Image.open(picture) as image, Image.open(facts["drawn"]) as drawn:
        assert (facts["width"], facts["height"]) == image.size == drawn.size
    assert sum(entry["share"] for entry in facts["classes"]) == pytest.approx(1)
    report = run("eval", bundle.path, "--data", scenes, "--json", "-q").expect(0).json
    assert report["metric"] == "mIoU"
    assert abs(report["scores"][1]["change"]["value"]) < 0.05
    run("eval", bundle.path, "--data", scenes / "images").explain(4, "no folder 'images'")
    run("parity", bundle.path, "-q").expect(0)
