from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linglos_deploy.bundle import GOLDEN, SCHEMA, Golden, GraphEntry, InputKind, Manifest, open_bundle, seal_bundle
from linglos_deploy.choices import Weights
from linglos_deploy.errors import ArtifactError
from linglos_deploy.golden_tensors import golden_images, preprocess_golden, write_golden
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.signature import ModelSignature, TensorSpec
from tests.bundles.tamper import Case, load_cases, tamper

CASES = load_cases()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    (path / "golden").mkdir(parents=True)
    (path / "reports").mkdir()
    (path / "model.onnx").write_bytes(b"graph")
    (path / "reports" / "note.txt").write_text("a file that no loader needs\n")
    spec = PreprocessSpec(input_size=(8, 8))
    images = [np.zeros((9, 7, 3), np.uint8)]
    write_golden(preprocess_golden(golden_images(spec, images), spec), path / GOLDEN)
    shape = ("batch", 3, 8, 8)
    signature = ModelSignature((TensorSpec("image", "float32", shape),), (TensorSpec("y", "float32", ("batch", 2)),))
    manifest = Manifest(
        schema=SCHEMA,
        name="tiny",
        passed=True,
        warnings=(),
        weights=Weights.RANDOM,
        synthetic_calibration=None,
        preprocessing=spec,
        labels=("a", "b"),
        graphs=(GraphEntry("model.onnx", "fp32", InputKind.TENSOR, signature),),
        engines=(),
        golden=Golden(GOLDEN, 5),
        files={},
        tools={},
    )
    seal_bundle(path, manifest)
    open_bundle(path)
    return path


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_python_refuses_a_bundle_with(case: Case, bundle: Path) -> None:
    tamper(bundle, case)
    with pytest.raises(ArtifactError) as refusal:
        open_bundle(bundle)
    assert case.says in str(refusal.value)


def test_every_kind_of_attack_is_in_the_shared_list() -> None:
    verbs = {next(iter(edit)) for case in CASES for edit in case.edits}
    files = {"flip", "append", "truncate", "delete", "mkdir", "fifo", "move", "link"}
    assert verbs == files | {"set", "remove", "rename_key", "write"}
    assert len({case.name for case in CASES}) == len(CASES)
