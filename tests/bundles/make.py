"""Small bundles, made without the pipeline, so that a test knows every part of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from linglos_deploy.artifacts import TorchModel
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.bundle import GOLDEN, SCHEMA, Golden, GraphEntry, InputKind, Manifest, seal_bundle
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.export import export_onnx
from linglos_deploy.golden_tensors import golden_images, preprocess_golden, write_golden


def write_bundle(
    folder: Path,
    model: TorchModel,
    config: ExportConfig = ExportConfig(),  # noqa: B008 - frozen
    *,
    real: Sequence[np.ndarray] = (),
    tolerance: float = 1e-4,
) -> Manifest:
    """Export a model into ``folder`` and seal it; ``real`` images (uint8 H x W x 3) join the golden ones."""
    folder.mkdir(parents=True)
    graph = export_onnx(model, config, out=folder / "model.onnx")
    tensors = preprocess_golden(golden_images(model.preprocess, real), model.preprocess)
    kind = InputKind.PIXELS if config.embed_preprocessing else InputKind.TENSOR
    images = tensors["pixels" if config.embed_preprocessing else "image"]
    step = config.batch or len(images)
    whole = np.concatenate([images, np.repeat(images[-1:], -len(images) % step, axis=0)])  # a fixed batch is full
    with OnnxRuntime(threads=1).open(graph) as runner:
        parts = [dict(runner.run({"image": whole[at : at + step]})) for at in range(0, len(images), step)]
    answers = {f"model.onnx:{name}": np.concatenate([part[name] for part in parts])[: len(images)] for name in parts[0]}
    (folder / GOLDEN).parent.mkdir()
    write_golden({**tensors, **answers}, folder / GOLDEN)
    (folder / "reports").mkdir()
    (folder / "reports" / "note.txt").write_text("a file that no loader needs\n")
    manifest = Manifest(
        schema=SCHEMA,
        name=model.name,
        passed=True,
        warnings=(),
        weights=model.weights,
        synthetic_calibration=None,
        preprocessing=model.preprocess,
        labels=model.labels,
        graphs=(GraphEntry("model.onnx", "fp32", kind, graph.signature, lineage=graph.lineage),),
        engines=(),
        golden=Golden(GOLDEN, len(images), {"model.onnx": tolerance}),
        files={},
        tools={},
    )
    return seal_bundle(folder, manifest)
