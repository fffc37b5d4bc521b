from __future__ import annotations

import sys
from typing import Any

import pytest

from linglos_deploy.backends import machine
from linglos_deploy.backends.compilers.tensorrt import tensorrt
from linglos_deploy.backends.compilers.tensorrt_rtx import tensorrt_rtx
from linglos_deploy.backends.registry import probe
from linglos_deploy.backends.trt import cuda, flavour
from linglos_deploy.backends.trt.flavour import TENSORRT, TENSORRT_RTX, installed_version, load, version_tuple
from linglos_deploy.errors import MissingDependencyError
from linglos_deploy.reports.doctor import Gpu


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise flavour.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(flavour.importlib.metadata, "version", missing)
    monkeypatch.setattr(flavour.importlib.util, "find_spec", lambda name: None)
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(("chosen", "extra"), [(TENSORRT, "[tensorrt]"), (TENSORRT_RTX, "[tensorrt-rtx]")])
def test_a_missing_package_says_how_to_get_it(chosen: Any, extra: str):
    assert installed_version(chosen) is None
    with pytest.raises(MissingDependencyError, match="is not installed") as caught:
        load(chosen)
    assert extra in str(caught.value)
    answer = probe(chosen.name)
    assert (answer.installed, answer.runs, answer.compiles) == (False, False, False)
    assert extra in answer.how_to_get


@pytest.mark.usefixtures("nothing_installed")
def test_a_module_without_distribution_is_found_with_unknown_version(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flavour.importlib.util, "find_spec", lambda name: object())
    assert installed_version(TENSORRT) == "unknown"

    def broken(name: str) -> Any:
        raise ValueError("no __spec__")

    monkeypatch.setattr(flavour.importlib.util, "find_spec", broken)
    assert installed_version(TENSORRT) is None


def test_libraries_that_do_not_load_are_told_apart_from_a_missing_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flavour, "installed_version", lambda chosen: "10.3")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="cannot be loaded"):
        load(TENSORRT)


def test_versions_are_compared_by_their_numbers():
    assert version_tuple("10.3.0.26") == (10, 3, 0, 26)
    assert version_tuple("10.16.1rc1") == (10, 16)
    assert version_tuple("10.16") > version_tuple("10.3")


def test_probes_follow_the_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flavour.importlib.metadata, "version", lambda name: "11.4.0")
    monkeypatch.setattr(machine, "find_gpus", lambda: ((Gpu(0, "NVIDIA L4", "8.9", 1),), "13.0", ""))
    assert tensorrt().probe().detail == "builds and runs engines on NVIDIA L4"
    assert tensorrt().probe().runs
    monkeypatch.setattr(machine, "find_gpus", lambda: ((), None, "no driver"))
    assert not tensorrt().probe().compiles
    assert "on a GPU only (no driver)" in tensorrt().probe().detail
    assert tensorrt_rtx().probe().compiles
    assert not tensorrt_rtx().probe().runs


def test_cuda_bindings_are_found_under_either_name_or_asked_for(monkeypatch: pytest.MonkeyPatch):
    names: list[str] = []

    def only_old(name: str) -> str:
        names.append(name)
        if name != "cuda.cudart":
            raise ImportError(name)
        return name

    monkeypatch.setattr(cuda.importlib, "import_module", only_old)
    assert cuda.load_cuda() == "cuda.cudart"
    assert names == ["cuda.bindings.runtime", "cuda.cudart"]

    def none(name: str) -> str:
        raise ImportError(name)

    monkeypatch.setattr(cuda.importlib, "import_module", none)
    with pytest.raises(MissingDependencyError, match="cuda-python"):
        cuda.load_cuda()
