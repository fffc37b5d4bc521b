"""What profile measures of a path: graphs as they are deployed."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

from linglos_deploy.bundle import GraphEntry, InputKind, seal_bundle
from linglos_deploy.kinds import candidates_by_path
from linglos_deploy.progress import Silent
from tests.test_bundle import SIGNATURE, manifest

GRAPHS = {
    "model.onnx": ((), ()),
    "model.int8.onnx": (("tensorrt",), ()),
    "model.int8.x86.onnx": (("onnxruntime",), (platform.machine(),)),
    "model.int8.other.onnx": (("onnxruntime",), ("pdp11",)),
    "model.int8.openvino.onnx": (("openvino",), ()),
}


class Heard(Silent):
    """A progress that keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def bundle_of(path: Path) -> Path:
    path.mkdir()
    entries = []
    for name, (runtimes, machines) in GRAPHS.items():
        (path / name).write_bytes(b"graph")
        precision = "int8" if runtimes else "fp32"
        entries.append(GraphEntry(name, precision, InputKind.TENSOR, SIGNATURE, runtimes=runtimes, machines=machines))
    seal_bundle(path, replace(manifest(), graphs=tuple(entries)))
    return path


def test_a_graph_of_a_bundle_is_measured_where_it_is_made_for_and_the_others_are_named(tmp_path: Path) -> None:
    bundle, heard = bundle_of(tmp_path / "bundle"), Heard()
    (group,) = candidates_by_path([bundle], ["onnxruntime", "openvino"], progress=heard)
    assert [candidate.label for candidate in group] == [
        "model.onnx · onnxruntime",
        "model.onnx · openvino",
        "model.int8.x86.onnx · onnxruntime",
        "model.int8.openvino.onnx · openvino",
    ]
    (warning,) = heard.warnings
    assert "model.int8.onnx (tensorrt); model.int8.other.onnx (onnxruntime)" in warning
    assert str(bundle / "model.int8.onnx") in warning


def test_a_graph_that_is_named_by_itself_is_measured_on_every_backend(tmp_path: Path) -> None:
    bundle, heard = bundle_of(tmp_path / "bundle"), Heard()
    (group,) = candidates_by_path([bundle / "model.int8.onnx"], ["onnxruntime", "openvino"], progress=heard)
    assert [candidate.backend for candidate in group] == ["onnxruntime", "openvino"]
    assert heard.warnings == []


def test_int8_is_measured_with_the_kernels_of_a_deployment_where_a_backend_lets_choose(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle")
    (group,) = candidates_by_path([bundle / "model.onnx"], ["onnxruntime", "openvino", "torch"])
    assert [dict(candidate.options) for candidate in group] == [{"int8": "safe"}, {"int8": "safe"}, {}]
