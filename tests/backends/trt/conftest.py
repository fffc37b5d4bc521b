from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trt_graphs import save_linear

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.base import BuildSpec
from linglos_deploy.backends.trt.profiles import make_profile


@pytest.fixture
def linear(tmp_path: Path) -> OnnxArtifact:
    return save_linear(tmp_path / "graph")


@pytest.fixture
def spec(linear: OnnxArtifact) -> BuildSpec:
    return BuildSpec(profiles=(make_profile(linear.signature, {"batch": (1, 2, 4)}),))


@pytest.fixture(scope="session")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'linglos-deploy[tensorrt-rtx]'")
