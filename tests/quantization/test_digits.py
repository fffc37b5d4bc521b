"""INT8 on a trained model and real images: what it costs in accuracy, through every stage."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.calibration.calibrate import calibrate
from linglos_deploy.calibration.registry import builtin_methods
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.images.dataset import open_dataset
from linglos_deploy.images.preprocessing import normalize, to_pixels
from linglos_deploy.models.loading import ModelSource, load_model
from linglos_deploy.quantization.apply import apply_plan
from linglos_deploy.quantization.plan import plan_quantization
from linglos_deploy.quantization.scheme import QuantScheme

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
ALLOWED_POINTS = 0.5


@pytest.mark.skipif(not (DIGITS / "digits.py").exists(), reason="examples/digits is not in this distribution")
def test_int8_costs_at_most_half_a_point_on_digits_whichever_the_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn: pip install scikit-learn")
    monkeypatch.syspath_prepend(str(DIGITS))
    from digits import load_split

    source = load_model(ModelSource(checkpoint=DIGITS / "linglo_digits.safetensors"))
    graph = export_onnx(source, ExportConfig(), out=tmp_path / "model.onnx")
    train, heldout = (
        normalize(np.stack([to_pixels(image, source.preprocess) for image in images]), source.preprocess)
        for images in (load_split()[0].images[:128], load_split()[1].images)
    )
    targets = load_split()[1].targets
    np.save(tmp_path / "train.npy", train)
    images = open_dataset(tmp_path / "train.npy", source.preprocess)
    table = calibrate(graph, images, runtime=OnnxRuntime(threads=1, reuse_outputs=True))

    def top1(scheme: QuantScheme | None) -> float:
        artifact = graph
        if scheme is not None:
            plan = plan_quantization(graph, table, scheme)
            assert len(plan.quantized_nodes) >= 0.75 * len(plan.nodes)
            artifact = apply_plan(graph, plan, out=tmp_path / "model.int8.onnx")
        with OnnxRuntime(threads=1).open(artifact) as runner:
            logits = np.concatenate(
                [np.array(runner.run({"image": heldout[at : at + 50]})["logits"]) for at in range(0, len(heldout), 50)]
            )
        return 100 * float((logits.argmax(axis=1) == targets).mean())

    floating = top1(None)
    for scheme in (*(QuantScheme(method=method) for method in builtin_methods()), QuantScheme(weight_bits=7)):
        assert top1(scheme) >= floating - ALLOWED_POINTS, scheme
    sys.modules.pop("digits", None)
