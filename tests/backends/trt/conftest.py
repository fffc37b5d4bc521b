from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.spec import BuildSpec
from tests.backends.trt.trt_graphs import save_linear


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the engines of one test out of the next one, and out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "linglos-deploy"


@pytest.fixture
def linear(tmp_path: Path) -> OnnxArtifact:
    return save_linear(tmp_path / "graph")


@pytest.fixture
def spec(linear: OnnxArtifact) -> BuildSpec:
    return BuildSpec(profiles=(make_profile(linear.signature, {"batch": (1, 2, 4)}),))


@pytest.fixture(scope="session")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'linglos-deploy[tensorrt-rtx]'")
