"""Compilers by name: a third party's takes part in build, doctor and profile like ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from linglos_deploy.engines import registry
from linglos_deploy.errors import UsageError
from tests.backends.trt.trt_graphs import save_linear
from tests.commandline import enter, run

ACME = '''
"""A compiler of another house: its plan is the graph's own bytes."""

import pathlib

from linglos_deploy.engines.compiler import Host, condition
from linglos_deploy.engines.record import (
    SCHEMA, UNKNOWN, EngineRecord, Target, build_step, open_engine, path_from, write_engine,
)
from linglos_deploy.files import sha256_bytes
from linglos_deploy.progress import SILENT


class Acme:
    name = "acme"

    def compile(self, model, spec, *, out, progress=SILENT):
        plan = b"ACME" + model.path.read_bytes()
        record = EngineRecord(
            schema=SCHEMA, backend="acme", version="3", digest=sha256_bytes(plan), bytes=len(plan),
            onnx_digest=model.digest, onnx_name=model.path.name, target=Target(), spec=spec, flags=(),
            strongly_typed=True, host_code=False, precision=UNKNOWN, signature=model.signature,
            lineage=(build_step("acme", "3", model=model, spec=spec),), onnx_path=path_from(out.parent, model.path),
        )
        write_engine(record, plan, log="hello", out=out)
        return open_engine(out)

    def conditions(self, plan, record, host: Host):
        starts = plan.read_bytes()[:4]
        return (condition("anvil", starts == b"ACME", repr(starts), "b'ACME'", "not an anvil"),)
'''


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution that adds a compiler, and work in a folder with a graph."""
    site = tmp_path / "site"
    info = site / "acme_engines-3.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_engines.py").write_text(ACME)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-engines\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[linglos_deploy.compilers]\nacme = acme_engines:Acme\n")
    monkeypatch.syspath_prepend(site)
    save_linear(tmp_path / "work")
    return enter(tmp_path / "work", monkeypatch)


def test_a_compiler_of_another_distribution_builds_and_its_engine_is_examined(acme: Path) -> None:
    assert "acme" in registry.available()
    outcome = run("build", "model.onnx", "--engine", "acme", "-o", "engines", "-q", "--json").expect(0).json[0]
    assert outcome["backend"] == "acme"
    plan = acme / "engines" / outcome["file"]
    assert plan.read_bytes().startswith(b"ACME")
    report = run("doctor", plan, "--json").expect(0).json
    (check,) = report["engines"]
    assert {condition["name"]: condition["passed"] for condition in check["conditions"]} == {
        "backend": True,
        "size": True,
        "digest": True,
        "host code": True,
        "anvil": True,
    }
    assert "acme" in {backend["name"] for backend in report["backends"]}
    assert "--engine acme --shape image=1x4:1x4:8x4" in check["rebuild"]
    plan.write_bytes(b"EMCA" + plan.read_bytes()[4:])
    (check,) = run("doctor", plan, "--json").expect(1).json["engines"]
    assert [condition["name"] for condition in check["conditions"] if condition["passed"] is False] == [
        "digest",
        "anvil",
    ]


def test_an_engine_whose_compiler_has_gone_says_so(acme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("build", "model.onnx", "--engine", "acme", "-o", "engines", "-q").expect(0)
    monkeypatch.setattr(registry, "available", lambda: dict(registry.BUILTIN))
    plan = next((acme / "engines").glob("*.engine"))
    (check,) = run("doctor", plan, "--json").expect(1).json["engines"]
    assert check["conditions"][-1]["found"] == "There is no compiler 'acme'."


def test_a_compiler_that_breaks_is_said_and_does_not_hide_the_rest(acme: Path, tmp_path: Path) -> None:
    run("build", "model.onnx", "--engine", "acme", "-o", "engines", "-q").expect(0)
    plan = next((acme / "engines").glob("*.engine"))
    module = sys.modules["acme_engines"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    module.Acme.conditions = broken
    (check,) = run("doctor", plan, "--json").expect(1).json["engines"]
    assert [condition["name"] for condition in check["conditions"]][-2:] == ["host code", "compiler"]
    assert "ZeroDivisionError: oops" in check["conditions"][-1]["found"]


def test_an_engine_that_nobody_compiles_is_refused_before_any_work(acme: Path) -> None:
    run("build", "model.onnx", "--engine", "tensorrtx", "-o", "engines").explain(2, "no engine 'tensorrtx'")
    run("build", "model.onnx", "--engine", "none", "-o", "engines").explain(2, "nothing to build")
    assert not (acme / "engines").exists()


def test_a_factory_that_makes_no_compiler_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILTIN, "list", "builtins:list")
    with pytest.raises(UsageError, match="does not compile engines"):
        registry.compiler("list")


def test_choices_are_told_without_importing_anything_heavy() -> None:
    code = (
        "import sys; from linglos_deploy.engines.registry import choices; found = choices();"
        "assert {'auto', 'none', 'tensorrt', 'tensorrt-rtx', 'openvino'} <= set(found), found;"
        "assert not {'torch', 'onnx', 'openvino', 'tensorrt_rtx', 'linglos_deploy.backends'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_openvino_builds_through_the_same_command_and_what_it_built_can_be_run(acme: Path) -> None:
    pytest.importorskip("openvino", reason="pip install 'linglos-deploy[openvino]'")
    flags = ("--shape", "image=1x4:2x4:4x4", "-o", "engines", "-q", "--json")
    outcome = run("build", "model.onnx", "--engine", "openvino", *flags).expect(0).json[0]
    assert outcome["file"].startswith("model.openvino")
    assert "compute capability" not in outcome["detail"]
    plan = acme / "engines" / outcome["file"]
    (check,) = run("doctor", plan, "--json").expect(0).json["engines"]
    assert [condition["name"] for condition in check["conditions"]][-3:] == ["version", "platform", "instructions"]
    report = (
        run("profile", plan, "--processes", "1", "--rounds", "1", "--seconds", "0.01", "-q", "--json").expect(0).json
    )
    assert report["rows"][0]["outcome"] == "measured"
    run("build", "model.onnx", "--engine", "openvino", "--tf32", "-o", "engines").explain(2, "no --tf32")


def test_profiling_a_graph_with_tensorrt_says_what_doctor_says(acme: Path) -> None:
    state = next(b for b in run("doctor", "model.onnx", "--json").json["backends"] if b["name"] == "tensorrt")
    if state["installed"]:
        pytest.skip("TensorRT is installed here")
    flags = ("--processes", "1", "--rounds", "1", "--seconds", "0.01", "-q", "--json")
    (row,) = run("profile", "model.onnx", "--backend", "tensorrt", *flags).json["rows"]
    assert row["outcome"] == "not-run"
    assert state["detail"] in row["reason"]
    assert state["how_to_get"] in row["reason"]


def test_doctor_of_a_graph_says_how_to_run_and_build_it_and_what_it_says_works(acme: Path) -> None:
    pytest.importorskip("openvino", reason="pip install 'linglos-deploy[openvino]'")
    outcome = run("doctor", "model.onnx").expect(0)
    assert "linglos-deploy build model.onnx --output engines --engine openvino" in outcome.stdout
    (use,) = run("doctor", "model.onnx", "--json").json["graphs"]
    command = next(offer["command"] for offer in use["builds"] if offer["backend"] == "openvino")
    run(*command.split()[1:], "-q").expect(0)
    assert list((acme / "engines").glob("*.engine"))


def test_what_no_engine_has_a_use_for_is_refused_by_profile(acme: Path) -> None:
    run("profile", "model.onnx", "--allow-host-code").explain(2, "None of the models has a use for --allow-host-code")


def test_inspect_says_what_an_engine_for_a_cpu_needs(acme: Path) -> None:
    pytest.importorskip("openvino", reason="pip install 'linglos-deploy[openvino]'")
    run("build", "model.onnx", "--engine", "openvino", "-o", "engines", "-q").expect(0)
    screen = run("inspect", next((acme / "engines").glob("*.engine"))).expect(0).stdout
    assert "linux-" in screen
    assert "compute capability" not in screen
