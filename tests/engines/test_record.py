from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.compilers.tensorrt_rtx import tensorrt_rtx
from linglos_deploy.codec import schema
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.preflight import check_engine
from linglos_deploy.engines.record import EngineRecord, Target, read_record, sidecar_path
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.files import atomic_file
from linglos_deploy.reports.doctor import Machine

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas" / "engine.schema.json"
HOST = Host(Machine("Linux", "linux-x86_64", "3.12", "cpu", 1, None))


def schema_text() -> str:
    return json.dumps(schema(EngineRecord), indent=2, ensure_ascii=False) + "\n"


def test_the_published_schema_is_up_to_date():
    hint = f"python {Path(__file__).relative_to(Path(__file__).parents[2])}"
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), f"{PUBLISHED.name} is stale: {hint}"


@pytest.mark.usefixtures("rtx")
def test_a_real_sidecar_follows_the_published_schema(linear: OnnxArtifact, spec: BuildSpec, tmp_path: Path):
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    tensorrt_rtx().compile(linear, spec, out=tmp_path / "m.engine")
    jsonschema.validate(json.loads(sidecar_path(tmp_path / "m.engine").read_text()), json.loads(schema_text()))


def test_targets_are_described_as_loaders_read_them():
    assert Target(("8.6", "8.9")).describe() == "8.6, 8.9"
    assert Target(minimum_compute_capability="8.0", gpu="A100").describe() == "8.0 or later"


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@pytest.fixture
def engine(tmp_path: Path, linear: OnnxArtifact, spec: BuildSpec, rtx: object) -> Path:
    return tensorrt_rtx(cache=False).compile(linear, spec, out=tmp_path / "m.engine").path


@FUZZ
@given(data=st.data())
def test_one_changed_or_missing_piece_of_a_plan_is_always_noticed(engine: Path, data: st.DataObject):
    plan = bytearray(read_original(engine))
    position = data.draw(st.integers(0, len(plan) - 1))
    if data.draw(st.booleans()):
        plan[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del plan[position : position + data.draw(st.integers(1, 4096))]
    engine.write_bytes(plan)
    failed = {condition.name for condition in check_engine(engine, HOST).conditions if condition.passed is False}
    assert failed & {"header", "size", "digest"}


@FUZZ
@given(data=st.data())
def test_no_sidecar_makes_the_preflight_raise(engine: Path, data: st.DataObject):
    path = sidecar_path(engine)
    kept = path.with_suffix(".kept")
    if not kept.exists():
        kept.write_bytes(path.read_bytes())
    text = bytearray(kept.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(text)
    assert check_engine(engine, HOST).conditions


def read_original(engine: Path) -> bytes:
    kept = engine.with_suffix(".original")
    if not kept.exists():
        kept.write_bytes(engine.read_bytes())
    return kept.read_bytes()


def test_reading_a_record_gives_what_was_written(engine: Path):
    assert read_record(engine).backend == "tensorrt-rtx"


if __name__ == "__main__":
    with atomic_file(PUBLISHED) as partial:
        partial.write_text(schema_text(), encoding="utf-8")
