from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from linglos_deploy.artifacts import OnnxArtifact, Step
from linglos_deploy.backends.compilers.tensorrt_rtx import tensorrt_rtx
from linglos_deploy.engines.cache import EngineCache, cache_key, locked, read_blob, user_cache_dir, write_blob
from linglos_deploy.engines.record import read_record
from linglos_deploy.engines.spec import BuildSpec, ShapeRange


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert user_cache_dir() == Path("/var/cache/me/linglos-deploy")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache_dir() == Path.home() / ".cache" / "linglos-deploy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_dir() == Path.home() / ".cache" / "linglos-deploy"


def test_everything_that_decides_a_plan_is_in_its_key(spec: BuildSpec):
    base = {"graph": "a" * 64, "spec": spec, "backend": "tensorrt", "version": "10.3", "machine": {"gpu": "L4"}}
    changes = [
        {"graph": "b" * 64},
        {"spec": replace(spec, tf32=True)},
        {"spec": replace(spec, profiles=({"image": ShapeRange((1, 4), (2, 4), (8, 4))},))},
        {"backend": "tensorrt-rtx"},
        {"version": "10.4"},
        {"machine": {"gpu": "A100"}},
    ]
    keys = {cache_key(**{**base, **change}) for change in changes}  # type: ignore[arg-type]
    assert len(keys | {cache_key(**base)}) == 7  # type: ignore[arg-type]
    assert cache_key(**base) == cache_key(**base)  # type: ignore[arg-type]


@pytest.mark.usefixtures("rtx")
def test_a_second_build_takes_the_stored_plan_and_its_log_without_the_builder(
    linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    backend = tensorrt_rtx()
    first = backend.compile(linear, spec, out=tmp_path / "a.engine")
    monkeypatch.setattr(backend, "_load", None)  # building again would call it
    story = replace(linear, lineage=(Step(stage="export"),))
    second = backend.compile(story, spec, out=tmp_path / "b.engine")
    assert second.digest == first.digest
    assert (tmp_path / "b.log").read_bytes() == (tmp_path / "a.log").read_bytes()
    assert [step.stage for step in second.lineage] == ["export", "build"]
    assert read_record(second.path).precision.detail == "not inspected, no GPU"


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("damage", ["plan", "sidecar", "gone"])
def test_a_damaged_entry_counts_as_absent(
    linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path, own_cache: Path, damage: str
):
    first = tensorrt_rtx().compile(linear, spec, out=tmp_path / "a.engine")
    (entry,) = (own_cache / "engines").glob("*/model.engine")
    if damage == "plan":
        entry.write_bytes(entry.read_bytes()[:-1])
    elif damage == "sidecar":
        entry.with_suffix(".json").write_text("{")
    else:
        entry.unlink()
    assert tensorrt_rtx().compile(linear, spec, out=tmp_path / "b.engine").digest == first.digest
    assert entry.stat().st_size == first.path.stat().st_size


@pytest.mark.usefixtures("rtx")
def test_a_cache_that_cannot_be_written_does_not_fail_a_build(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    engine = tensorrt_rtx(cache_dir=tmp_path / "file").compile(linear, spec, out=tmp_path / "m.engine")
    assert engine.path.is_file()


@pytest.mark.usefixtures("rtx")
def test_the_least_recently_used_engines_are_dropped_beyond_the_limit(
    linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path
):
    engine = tensorrt_rtx(cache=False).compile(linear, spec, out=tmp_path / "m.engine")
    size = engine.path.stat().st_size
    cache = EngineCache(tmp_path / "small", limit_bytes=2 * size)
    for age, key in ((3, "old"), (2, "used"), (1, "new")):
        cache.store(key, plan=engine.path)
        plan = tmp_path / "small" / "engines" / key / "model.engine"
        os.utime(plan, (plan.stat().st_mtime - 100 * age,) * 2)
    assert cache.find("old") is None
    assert cache.find("used") is not None
    cache.store("newest", plan=engine.path)
    assert cache.find("new") is None
    assert cache.find("used") is not None


def test_a_lock_makes_the_second_wait_for_the_first(tmp_path: Path):
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "a.lock"):
            order.append("second")

    with locked(tmp_path / "a.lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_blobs_of_a_vendor_are_kept_where_possible(tmp_path: Path):
    write_blob(tmp_path / "a" / "b.cache", b"timings")
    assert read_blob(tmp_path / "a" / "b.cache") == b"timings"
    assert read_blob(tmp_path / "none") == b""
    (tmp_path / "file").write_text("in the way")
    write_blob(tmp_path / "file" / "b.cache", b"timings")
