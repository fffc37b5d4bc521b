from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.bundle import (
    MANIFEST,
    MANIFEST_DIGEST,
    Bundle,
    GraphEntry,
    InputKind,
    Manifest,
    open_bundle,
    seal_bundle,
)
from linglos_deploy.choices import Weights
from linglos_deploy.errors import ArtifactError, UsageError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.golden_tensors import golden_images, preprocess_golden, read_golden, write_golden
from linglos_deploy.images.preprocessing import PreprocessSpec, normalize
from linglos_deploy.signature import ModelSignature, TensorSpec

SIGNATURE = ModelSignature((TensorSpec("image", "float32", ("batch", 3, 8, 8)),), (TensorSpec("y", "float32", (1,)),))


def manifest() -> Manifest:
    return Manifest(
        schema="linglos.bundle/1",
        name="tiny",
        passed=True,
        warnings=(),
        weights=Weights.TRAINED,
        synthetic_calibration=None,
        preprocessing=PreprocessSpec(input_size=(8, 8)),
        labels=("a", "b"),
        graphs=(GraphEntry("model.onnx", "fp32", InputKind.TENSOR, SIGNATURE),),
        engines=(),
        golden=None,
        files={},
        tools={},
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    (path / "reports").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"graph")
    (path / "reports" / "parity.json").write_text("{}")
    seal_bundle(path, manifest())
    return path


def reseal(bundle: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the manifest and its digest, as somebody who wants to be believed would."""
    content = json.loads((bundle / MANIFEST).read_text())
    change(content)
    text = json.dumps(content).encode()
    (bundle / MANIFEST).write_bytes(text)
    (bundle / MANIFEST_DIGEST).write_text(f"{sha256_bytes(text)}  {MANIFEST}\n")


def test_a_sealed_bundle_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert set(opened.manifest.files) == {"model.onnx", "reports/parity.json"}
    assert opened.graph(opened.find_graph("fp32")).path == bundle / "model.onnx"
    with pytest.raises(UsageError, match="no int8 graph"):
        opened.find_graph("int8")


def test_every_byte_of_every_file_counts(bundle: Path) -> None:
    for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 40)):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            file.write_bytes(damaged)
            with pytest.raises(ArtifactError):
                open_bundle(bundle)
        file.write_bytes(whole)
    open_bundle(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "reports/parity.json", MANIFEST, MANIFEST_DIGEST])
def test_a_missing_or_longer_file_is_named(bundle: Path, name: str) -> None:
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes(whole + b" ")
    with pytest.raises(ArtifactError):
        open_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(ArtifactError, match=r"missing|not a bundle|manifest's digest"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "a\\..\\secret", "./model.onnx", ""])
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_bytes(b"graph")

    def change(content: dict[str, object]) -> None:
        files = content["files"]
        assert isinstance(files, dict)
        files[name] = files["model.onnx"]

    reseal(bundle, change)
    with pytest.raises(ArtifactError, match="leaves the bundle"):
        open_bundle(bundle)


def test_symbolic_links_are_refused(bundle: Path) -> None:
    elsewhere = bundle.parent / "elsewhere"
    shutil.move(bundle / "model.onnx", elsewhere)
    (bundle / "model.onnx").symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match="symbolic link"):
        open_bundle(bundle)


def test_a_linked_manifest_is_refused(bundle: Path) -> None:
    shutil.move(bundle / MANIFEST, bundle.parent / MANIFEST)
    (bundle / MANIFEST).symlink_to(bundle.parent / MANIFEST)
    with pytest.raises(ArtifactError, match="symbolic link"):
        open_bundle(bundle)


def test_a_pipe_in_place_of_a_file_does_not_hang(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")
    with pytest.raises(ArtifactError, match="not a regular file"):
        open_bundle(bundle)


def test_sizes_in_the_manifest_are_not_believed(bundle: Path) -> None:
    def change(content: dict[str, object]) -> None:
        files = content["files"]
        assert isinstance(files, dict)
        files["model.onnx"]["bytes"] = 1 << 62

    reseal(bundle, change)
    with pytest.raises(ArtifactError, match=str(1 << 62)):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", "linglos.bundle/9", "another schema"),
        ("graphs", [], "lists no graph"),
        ("golden", {"file": "nowhere", "count": 1, "max_abs": {}}, "without listing it"),
        ("labels", 7, "cannot be read as Manifest"),
        ("files", {f"f{i}": {"bytes": 1, "sha256": "0"} for i in range(10_001)}, "too many files"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(bundle: Path, key: str, value: object, message: str) -> None:
    reseal(bundle, lambda content: content.update({key: value}))
    with pytest.raises(ArtifactError, match=message):
        open_bundle(bundle)


def test_a_huge_manifest_is_not_read(bundle: Path) -> None:
    with (bundle / MANIFEST).open("r+b") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(ArtifactError, match="not a manifest"):
        open_bundle(bundle)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a bundle") as caught:
        open_bundle(tmp_path / "nothing")
    assert "linglos-deploy export" in str(caught.value)


def test_golden_tensors_survive_a_round_trip(tmp_path: Path) -> None:
    spec = PreprocessSpec(input_size=(16, 24), crop_pct=1.0)
    images = golden_images(spec, [np.full((9, 5, 3), 7, np.uint8)])
    tensors = preprocess_golden(images, spec)
    write_golden(tensors, tmp_path / "golden.safetensors")
    again = read_golden(tmp_path / "golden.safetensors")
    assert set(again) == set(tensors)
    assert all(np.array_equal(again[name], tensors[name]) for name in tensors)
    assert again["pixels"].shape == (5, 16, 24, 3)
    assert np.array_equal(again["image"], normalize(again["pixels"], spec))
    assert np.array_equal(again["pixels.4"], again["pixels"][4])


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64])
def test_damaged_golden_tensors_are_our_error(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "golden.safetensors").write_bytes(damage)
    with pytest.raises(ArtifactError, match="does not hold golden tensors"):
        read_golden(tmp_path / "golden.safetensors")


def test_the_graph_that_is_made_for_a_runtime_and_processor_goes_before_others_of_its_precision(
    tmp_path: Path,
) -> None:
    graphs = tuple(
        GraphEntry(
            f"{placement}.onnx",
            precision,
            InputKind.TENSOR,
            SIGNATURE,
            placement=placement,
            runtimes=runtimes,
            machines=machines,
        )
        for placement, precision, runtimes, machines in (
            ("float", "fp32", (), ()),
            ("tensorrt", "int8", ("tensorrt",), ()),
            ("x86", "int8", ("onnxruntime",), ("x86_64",)),
            ("arm", "int8", ("onnxruntime",), ("aarch64",)),
        )
    )
    bundle = Bundle(tmp_path, replace(manifest(), graphs=graphs))
    assert bundle.find_graph("int8").placement == "tensorrt"
    assert bundle.find_graph("int8", runtime="onnxruntime", machine="aarch64").placement == "arm"
    assert bundle.find_graph("int8", runtime="onnxruntime", machine="x86_64").placement == "x86"
    assert bundle.find_graph("int8", runtime="onnxruntime", machine="riscv64").placement == "tensorrt"
    assert bundle.find_graph(runtime="onnxruntime", machine="x86_64").precision == "fp32"
