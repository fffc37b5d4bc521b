"""A bundle is asked about pictures, and judged on pictures of which the truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import linglos_deploy
from linglos_deploy.bundle import open_bundle
from linglos_deploy.verbs.predict import choose_graph, decoding_of, predict
from tests.commandline import run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    values = np.random.default_rng(5).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "odd.png")
    return tmp_path / "odd.png"


def test_a_picture_is_named_by_the_models_classes(shipped: Shipped, picture: Path) -> None:
    shown = run("predict", shipped.bundle, picture).expect(0).stdout
    assert shown.splitlines()[0] == str(picture)
    assert {line.split(":")[0].strip() for line in shown.splitlines()[1:]} == {"ant", "bee", "cat"}


def test_json_and_python_say_the_same_and_so_does_every_batch_size(shipped: Shipped, picture: Path) -> None:
    images = sorted(shipped.images.rglob("*.png"))
    pictures = [picture, *images, *images[:3]]
    said = run("predict", shipped.bundle, *pictures, "--json", "-q").expect(0).json
    found = linglos_deploy.open_bundle(shipped.bundle).predict(*pictures)
    assert [entry["image"] for entry in said] == [str(path) for path in pictures]
    assert [prediction.facts() for prediction in found] == said
    bundle = linglos_deploy.open_bundle(shipped.bundle)
    (alone,) = bundle.predict(Image.open(picture), precision="fp32")
    among = bundle.predict(*pictures, precision="fp32")[0]
    for one, other in zip(alone.facts()["classes"], among.facts()["classes"], strict=True):
        assert one == {**other, "probability": pytest.approx(other["probability"], rel=1e-4)}


def test_the_deployed_graph_answers_unless_another_is_asked_for(shipped: Shipped, picture: Path) -> None:
    bundle = linglos_deploy.open_bundle(shipped.bundle)
    deployed, int8, float32 = (bundle.predict(picture, precision=it)[0].facts() for it in (None, "int8", "fp32"))
    assert deployed == int8
    assert deployed != float32
    run("predict", shipped.bundle, picture, "--precision", "fp16").explain(2, "no fp16 graph")


def test_drawn_pictures_are_written_and_never_over_others(shipped: Shipped, picture: Path, tmp_path: Path) -> None:
    run("predict", shipped.bundle, picture, "--draw", tmp_path / "drawn").expect(0)
    with Image.open(tmp_path / "drawn/odd.png") as drawn:
        assert drawn.size == (70, 45)
    run("predict", shipped.bundle, picture, "--draw", tmp_path / "drawn").explain(4, "write over", "odd.png")
    again = tmp_path / "again"
    again.mkdir()
    (again / "odd.jpg").write_bytes(picture.read_bytes())
    run("predict", shipped.bundle, picture, again / "odd.jpg", "--draw", tmp_path / "new").explain(4, "write over")
    assert not (tmp_path / "new").exists()


def test_what_is_no_picture_is_named(shipped: Shipped, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    run("predict", shipped.bundle, tmp_path / "text.png").explain(4, "text.png", "no usable picture")
    run("predict", shipped.bundle, tmp_path / "none.png").expect(2, "none.png")
    run("predict", shipped.bundle, tmp_path).explain(4, "no picture at")


def test_the_manifest_says_what_the_outputs_mean_and_older_bundles_are_classifiers(shipped: Shipped) -> None:
    bundle = open_bundle(shipped.bundle)
    assert bundle.manifest.decoding is not None
    assert bundle.manifest.decoding.outputs == {"logits": "logits"}
    older = replace(bundle, manifest=replace(bundle.manifest, decoding=None))
    assert decoding_of(older).task == "classify"
    assert predict(older, [next(shipped.images.rglob("*.png"))])[0].labels == ("ant", "bee", "cat")


def test_every_graph_is_judged_with_an_interval_against_the_float32_one(shipped: Shipped) -> None:
    report = run("eval", shipped.bundle, "--data", shipped.images, "--json", "-q").expect(0).json
    assert (report["task"], report["metric"], report["count"]) == ("classify", "top-1", 9)
    reference, *deployed = report["scores"]
    assert [score["graph"] for score in report["scores"]] == [
        it.file for it in open_bundle(shipped.bundle).manifest.graphs
    ]
    assert (reference["graph"], reference["change"]) == ("model.onnx", None)
    for score in report["scores"]:
        assert score["score"]["low"] <= score["score"]["value"] <= score["score"]["high"]
    truth = {name: index for index, name in enumerate(("ant", "bee", "cat"))}
    images = sorted(shipped.images.rglob("*.png"))
    picked = {choose_graph(open_bundle(shipped.bundle), precision).file for precision in ("fp32", "int8")}
    for score in (score for score in report["scores"] if score["graph"] in picked):
        found = linglos_deploy.open_bundle(shipped.bundle).predict(*images, precision=score["precision"])
        best = [prediction.facts()["classes"][0]["index"] for prediction in found]
        right = [index == truth[path.parent.name] for index, path in zip(best, images, strict=True)]
        assert score["score"]["value"] == pytest.approx(np.mean(right))
    for score in deployed:
        assert score["change"]["value"] == pytest.approx(score["score"]["value"] - reference["score"]["value"])
        assert 0 < score["mcnemar"] <= 1


def test_a_loss_beyond_what_is_accepted_fails(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    from linglos_deploy.tasks.kinds import classify as module

    call = ("eval", shipped.bundle, "--data", shipped.images, "--max-drop", "10")
    shown = run(*call, "-q").expect(0).stdout
    assert "top-1" in shown
    seen: list[int] = []

    def record(self: object, result: object, truth: int) -> bool:
        seen.append(truth)
        return len(seen) <= 9  # all right in the float32 graph, all wrong in the other

    monkeypatch.setattr(module.Top1, "record", record)
    failed = run(*call, "--json", "-q").expect(1).json
    assert failed["passed"] is False
    assert failed["scores"][1]["change"]["value"] == -1.0
    assert failed["scores"][1]["mcnemar"] == pytest.approx(2 / 2**9)


def test_images_without_labels_are_refused(shipped: Shipped, picture: Path) -> None:
    run("eval", shipped.bundle, "--data", picture.parent).explain(2, "no labels")
