from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.codec import write_json
from linglos_deploy.descriptions.engine import engine_sections
from linglos_deploy.engines.compiler import Host
from linglos_deploy.engines.preflight import check_engine, require_loadable
from linglos_deploy.engines.rebuild import rebuild_command
from linglos_deploy.engines.record import (
    SCHEMA,
    UNKNOWN,
    EngineRecord,
    LayerProof,
    PrecisionProof,
    Target,
    open_engine,
    read_record,
    sidecar_path,
)
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.errors import ArtifactError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.options import parse_bytes
from linglos_deploy.reports.doctor import EngineCheck, Gpu, Machine
from linglos_deploy.signature import ModelSignature, TensorSpec

PLAN = b"ftrt" + bytes(range(200))
ADA = Gpu(0, "NVIDIA L4", "8.9", 24 << 30)
MACHINE = Machine(
    system="Linux 6.8",
    platform="linux-x86_64",
    python="3.12.3",
    cpu="cpu",
    cpu_count=8,
    memory_bytes=32 << 30,
    gpus=(ADA,),
    driver="580.65.06",
    cuda="13.0",
)
HOST = Host(machine=MACHINE, versions={"tensorrt": "10.16.1.11", "tensorrt-rtx": "1.7.1.116"})
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, linear: OnnxArtifact, spec: BuildSpec) -> Write:
    def write_engine(plan: bytes = PLAN, **changes: Any) -> Path:
        record = EngineRecord(
            schema=SCHEMA,
            backend="tensorrt",
            version="10.16.1.11",
            digest=sha256_bytes(PLAN),
            bytes=len(PLAN),
            onnx_digest=linear.digest,
            onnx_name="model.int8.onnx",
            target=Target(("8.9",), gpu="NVIDIA L4", driver="570.10", platform="linux-x86_64"),
            spec=spec,
            flags=(),
            strongly_typed=True,
            host_code=False,
            precision=UNKNOWN,
            signature=linear.signature,
            lineage=(),
        )
        path = tmp_path / "m.engine"
        path.write_bytes(plan)
        write_json(replace(record, **changes), sidecar_path(path))
        return path

    return write_engine


def failed(check: EngineCheck) -> list[str]:
    return [condition.name for condition in check.conditions if condition.passed is False]


def test_an_engine_that_fits_passes_every_condition(write: Write):
    plan = write()
    check = check_engine(plan, HOST)
    assert check.passed
    assert not check.refused
    assert [condition.reason for condition in check.conditions] == [""] * len(check.conditions)
    assert require_loadable(plan, HOST) == read_record(plan)


FLIPPED = bytearray(PLAN)
FLIPPED[100] ^= 1
FOREIGN = b'{"names": ["a"]}'

REFUSALS = {
    "truncated": ({"plan": PLAN[:-50]}, HOST, ["size"]),
    "bit-flipped": ({"plan": bytes(FLIPPED)}, HOST, ["digest"]),
    "a foreign header in front": ({"plan": FOREIGN + PLAN}, HOST, ["size", "header"]),
    "a foreign header with a sidecar of its own": (
        {"plan": FOREIGN + PLAN, "digest": sha256_bytes(FOREIGN + PLAN), "bytes": len(FOREIGN + PLAN)},
        HOST,
        ["header"],
    ),
    "the other flavour": ({}, replace(HOST, backend="tensorrt-rtx"), ["backend"]),
    "another version": ({"version": "10.3.0.30"}, HOST, ["version"]),
    "another build of the version": ({"version": "10.16.1.12"}, HOST, ["version"]),
    "a missing library": ({}, replace(HOST, versions={}), ["version"]),
    "another compute capability": ({"target": Target(("8.6",))}, HOST, ["compute capability"]),
    "a GPU that is too old": ({"target": Target(minimum_compute_capability="9.0")}, HOST, ["compute capability"]),
    "another platform": ({"target": Target(("8.9",), platform="linux-aarch64")}, HOST, ["platform"]),
    "no GPU": (
        {},
        replace(HOST, machine=replace(MACHINE, gpus=(), driver=None, cuda=None)),
        ["compute capability", "driver", "memory"],
    ),
    "too little memory": (
        {},
        replace(HOST, machine=replace(MACHINE, gpus=(replace(ADA, free_bytes=100),))),
        ["memory"],
    ),
    "host code": ({"host_code": True}, HOST, ["host code"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_engine_or_machine_is_refused_with_its_reason_and_the_rebuild_command(write: Write, case: str):
    changes, host, expected = REFUSALS[case]
    plan = write(**changes)
    check = check_engine(plan, host)
    assert failed(check) == expected
    assert all(condition.reason for condition in check.conditions if condition.passed is False)
    with pytest.raises(ArtifactError) as caught:
        require_loadable(plan, host)
    assert caught.value.next_step == check.rebuild
    for condition in check.conditions:
        assert (condition.passed is not False) or condition.reason in str(caught.value)


def test_a_missing_plan_is_said(write: Write):
    plan = write()
    plan.unlink()
    assert failed(check_engine(plan, HOST)) == ["file"]
    with pytest.raises(ArtifactError, match="no engine"):
        open_engine(plan)


@pytest.mark.parametrize("text", [None, "", "{", '{"schema": "linglos.engine/2"}', "[1]"])
def test_a_plan_without_a_readable_sidecar_is_refused(write: Write, text: str | None):
    plan = write()
    sidecar_path(plan).unlink() if text is None else sidecar_path(plan).write_text(text)
    assert failed(check_engine(plan, HOST)) == ["sidecar"]
    with pytest.raises(ArtifactError):
        require_loadable(plan, HOST)


def test_an_unknown_schema_or_backend_is_refused(write: Write):
    assert failed(check_engine(write(schema="linglos.engine/9"), HOST)) == ["sidecar"]
    assert failed(check_engine(write(backend="tensorflow"), HOST)) == ["compiler"]


@pytest.mark.parametrize(("minimum", "loads"), [("8.0", True), ("8.9", True), ("9.0", False), ("10.0", False)])
def test_an_engine_for_a_gpu_or_later_ones_loads_on_it_and_on_later_ones(write: Write, minimum: str, loads: bool):
    assert check_engine(write(target=Target(minimum_compute_capability=minimum)), HOST).passed is loads


def test_version_compatible_engines_load_in_later_releases_of_the_same_major(write: Write, spec: BuildSpec):
    plan = write(version="10.3.0.30", spec=replace(spec, version_compatible=True))
    assert check_engine(plan, HOST).passed
    older = replace(HOST, versions={"tensorrt": "10.2.0.19"})
    next_major = replace(HOST, versions={"tensorrt": "11.4.0.106"})
    assert failed(check_engine(plan, older)) == ["version"]
    assert failed(check_engine(plan, next_major)) == ["version"]


def test_what_cannot_be_told_is_neither_passed_nor_refused(write: Write):
    plan = write(target=Target(("8.9",), driver="590.1"))
    check = check_engine(plan, replace(HOST, versions={"tensorrt": "unknown"}))
    unknown = [condition.name for condition in check.conditions if condition.passed is None]
    assert unknown == ["version", "driver"]
    assert not check.passed
    assert not check.refused
    require_loadable(plan, HOST)


def test_host_code_loads_once_it_is_allowed(write: Write):
    assert check_engine(write(host_code=True), replace(HOST, allow_host_code=True)).passed


def test_the_rebuild_command_repeats_every_choice_and_adds_the_gpu_at_hand(write: Write, spec: BuildSpec):
    asked = replace(
        spec,
        compute_capabilities=("12.0", "8.6"),
        workspace_bytes=1 << 30,
        optimization_level=5,
        hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
        tf32=True,
    )
    record = read_record(write(spec=asked))
    words = shlex.split(rebuild_command(record, HOST, plan=Path("dir with space/m.engine")))
    assert words[:3] == ["linglos-deploy", "build", "MODEL.onnx"]
    options = dict(pairwise(words))
    assert options["--sm"] == "86,89,120"
    assert options["--shape"] == "image=1x4:2x4:4x4"
    assert options["--workspace"] == "1G"
    assert options["--output"] == "dir with space"
    assert {"--tf32", "--optimization-level", "--workspace", "--hardware-compatibility"} <= set(words)


@pytest.mark.parametrize(
    ("shape", "ranges", "expected"),
    [
        (("batch", 3, "height"), [(1, 3, 32), (2, 3, 64), (8, 3, 128)], ["image=1x3x32:2x3x64:8x3x128"]),
        ((4, "?image.1"), [(4, 7), (4, 7), (4, 7)], ["image=4x7"]),
        ((4, 3), [(4, 3), (4, 3), (4, 3)], []),
    ],
    ids=["named", "unnamed", "fixed"],
)
def test_the_rebuild_command_has_the_shapes_of_every_input_that_is_open(
    write: Write, shape: tuple[int | str, ...], ranges: list[tuple[int, ...]], expected: list[str]
):
    signature = ModelSignature((TensorSpec("image", "float32", shape),), ())
    record = read_record(write(signature=signature, spec=BuildSpec(profiles=({"image": ShapeRange(*ranges)},))))
    words = shlex.split(rebuild_command(record, HOST, plan=Path("m.engine")))
    assert [words[at + 1] for at, word in enumerate(words) if word == "--shape"] == expected


def test_profiles_of_different_sizes_are_rebuilt_as_they_were(write: Write):
    signature = ModelSignature((TensorSpec("image", "float32", (1, 3, "height", "width")),), ())
    sizes = [((32, 64), (64, 64), (96, 96)), ((64, 32), (96, 48), (128, 64))]
    profiles = tuple({"image": ShapeRange(*((1, 3, *size) for size in profile))} for profile in sizes)
    record = read_record(write(signature=signature, spec=BuildSpec(profiles=profiles)))
    command = rebuild_command(record, HOST, plan=Path("m.engine"))
    assert "--shape image=1x3x32x64:1x3x64x64:1x3x96x96 --shape image=1x3x64x32:1x3x96x48:1x3x128x64" in command


@pytest.mark.parametrize("place", ["beside", "noted", "above", "in a folder beside"])
def test_the_rebuild_command_finds_the_graph_by_its_digest(write: Write, linear: OnnxArtifact, place: str):
    plan = write(onnx_path="../far/away/g.onnx")
    folder = plan.parent
    target = {
        "beside": folder / "model.int8.onnx",
        "noted": folder.parent / "far" / "away" / "g.onnx",
        "above": folder.parent / "model.int8.onnx",
        "in a folder beside": folder.parent / "other" / "model.int8.onnx",
    }[place]
    target.parent.mkdir(parents=True, exist_ok=True)
    content = linear.path.read_bytes()
    linear.path.unlink()
    assert "MODEL.onnx" in check_engine(plan, HOST).rebuild
    target.write_bytes(content[:-1])
    assert linear.digest in check_engine(plan, HOST).rebuild, "another graph of that name is not the one"
    target.write_bytes(content)
    named = Path(shlex.split(check_engine(plan, HOST).rebuild)[2])
    assert named.resolve() == target.resolve()
    target.unlink()


@given(st.integers(1, 1 << 44))
def test_the_rebuild_command_writes_memory_sizes_without_loss(size: int):
    record = EngineRecord(
        schema=SCHEMA,
        backend="tensorrt",
        version="10.16.1.11",
        digest="",
        bytes=0,
        onnx_digest="",
        onnx_name="model.onnx",
        target=Target(),
        spec=BuildSpec(profiles=(), workspace_bytes=size),
        flags=(),
        strongly_typed=True,
        host_code=False,
        precision=UNKNOWN,
        signature=ModelSignature((), ()),
        lineage=(),
    )
    words = shlex.split(rebuild_command(record, HOST, plan=Path("m.engine")))
    assert parse_bytes(words[words.index("--workspace") + 1], option="--workspace") == size


def test_the_engine_of_a_bundle_is_rebuilt_beside_the_bundle_not_into_it(write: Write):
    plan = write()
    plan.with_name("manifest.json").write_text("{}")
    assert "--output engines" in check_engine(plan, HOST).rebuild


def test_an_engine_is_described_with_the_layers_that_lack_their_precision(write: Write):
    nodes = (
        LayerProof("stem/Conv", "Conv", "int8", "int8"),
        LayerProof("head/Gemm", "Gemm", "int8", "float32", "'head' (gemm) reads float32"),
        LayerProof("tail/MatMul", "MatMul", "int8", "", "no layer of the engine names it"),
    )
    proof = PrecisionProof(True, "int8 was asked for 3 layers, 1 have it", expected=("int8",), nodes=nodes)
    (section,) = engine_sections(read_record(write(precision=proof)))
    rows = [[cell.text for cell in row] for row in section.tables[-1].rows]
    assert rows == [
        ["head/Gemm", "Gemm", "int8", "float32", "'head' (gemm) reads float32"],
        ["tail/MatMul", "MatMul", "int8", "unknown", "no layer of the engine names it"],
    ]
    (section,) = engine_sections(read_record(write(precision=replace(proof, nodes=nodes[:1]))))
    assert len(section.tables) == 1
