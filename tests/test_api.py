"""The public functions: typed, cheap to import, and the same that the commands call."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import linglos_deploy
from linglos_deploy.errors import UsageError
from tests.commandline import run
from tests.conftest import Shipped

VERBS = (
    "export",
    "calibrate",
    "calibrate_criteria",
    "quantize",
    "build",
    "check_parity",
    "compare",
    "evaluate",
    "profile",
    "open_bundle",
)


class Net(torch.nn.Module):
    """A small classifier in training mode, with a layer that behaves otherwise there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=4)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(image)).relu().mean((2, 3)))


def test_a_few_lines_lead_from_a_module_to_a_bundle_and_leave_the_module_alone(tmp_path: Path) -> None:
    net = Net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    report = linglos_deploy.export(
        net, tmp_path, image_size=32, labels=("a", "b", "c"), precision="int8", engine="none", measure_latency=False
    )
    assert report.passed, report
    bundle = linglos_deploy.open_bundle(report.bundle)
    assert bundle.manifest.labels == ("a", "b", "c")
    assert [graph.placement for graph in bundle.manifest.graphs] == ["", "tensorrt", "openvino", "onnxruntime-x86"]
    assert [graph.precision for graph in bundle.manifest.graphs] == ["fp32", "int8", "int8", "int8"]
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.xdist_group("shipped")
def test_every_stage_is_a_function_that_takes_paths_as_text(shipped: Shipped, tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    shutil.copyfile(shipped.bundle / "model.onnx", graph)
    table = linglos_deploy.calibrate(str(graph), str(shipped.images), str(tmp_path / "seen.table"))
    assert table.image_count == 9
    made = linglos_deploy.quantize(str(graph), table=str(tmp_path / "seen.table"))
    assert made.graph is not None
    assert made.graph.path == tmp_path / "model.int8.onnx"
    outcome = linglos_deploy.check_parity(
        str(made.graph.path), reference=str(graph), data=str(shipped.images), precision="int8"
    )
    assert outcome.reports[0].samples == 9
    assert linglos_deploy.check_parity(shipped.bundle).passed
    quick = linglos_deploy.MeasurementPlan(processes=1, rounds=1, min_runs=2, min_seconds=0, warmup_seconds=0)
    assert linglos_deploy.profile(graph, plan=quick).rows[0].outcome == "measured"


@pytest.mark.xdist_group("shipped")
def test_a_command_and_its_function_make_the_same_bytes(shipped: Shipped, tmp_path: Path) -> None:
    graph = shipped.bundle / "model.onnx"
    linglos_deploy.calibrate(graph, shipped.images, tmp_path / "called.table")
    run("calibrate", graph, "--data", shipped.images, "-o", tmp_path / "commanded.table", "-q").expect(0)
    assert (tmp_path / "called.table").read_bytes() == (tmp_path / "commanded.table").read_bytes()


@pytest.mark.parametrize("option", ["precision", "engine"])
def test_text_that_is_no_choice_is_refused_with_the_choices(option: str) -> None:
    with pytest.raises(UsageError, match=f"There is no {option} 'int4'") as caught:
        linglos_deploy.export("s", **{option: "int4"})  # type: ignore[arg-type]
    assert "int8" in str(caught.value.expected) or "auto" in str(caught.value.expected)


def test_preprocessing_beside_a_checkpoint_is_refused_instead_of_ignored() -> None:
    with pytest.raises(UsageError, match="modules of your own"):
        linglos_deploy.export("best.safetensors", labels=("cat", "dog"))


def examples() -> str:
    """Return the examples of all docstrings, each in a function of its own."""
    made = ["import torch", "import linglos_deploy", "net: torch.nn.Module"]
    for verb in VERBS:
        text = inspect.getdoc(getattr(linglos_deploy, verb)) or ""
        lines = [line for line in text.split("\nArgs:")[0].splitlines() if line.startswith("    ")]
        assert lines, f"{verb} has no example"
        made += [f"def use_{verb}() -> None:", *lines]
    return "\n".join(made) + "\n"


@pytest.mark.slow  # mypy reads torch
def test_the_example_of_every_verb_passes_a_strict_type_checker_without_an_any(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(examples())
    (tmp_path / "wrong.py").write_text("import linglos_deploy\nlinglos_deploy.open_bundle('x').no_such_thing\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--disallow-any-expr"),
            *("--follow-imports=silent", "--config-file=", "user.py", "wrong.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(Path(linglos_deploy.__file__).parents[1])},
    )
    problems = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line.split(":")[0] for line in problems] == ["wrong.py"], done.stdout + done.stderr
    assert '"ReadyBundle" has no attribute "no_such_thing"' in problems[0]


@pytest.mark.slow  # another type checker, which infers otherwise
def test_the_examples_pass_pyright_too(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(examples())
    (tmp_path / "wrong.py").write_text("import linglos_deploy\nlinglos_deploy.open_bundle('x').no_such_thing\n")
    settings = {
        "typeCheckingMode": "strict",
        "reportUnusedVariable": False,
        "extraPaths": [str(Path(linglos_deploy.__file__).parents[1])],
        "include": ["user.py", "wrong.py"],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = [entry for entry in json.loads(done.stdout)["generalDiagnostics"] if entry["severity"] == "error"]
    assert {Path(entry["file"]).name for entry in found} == {"wrong.py"}, found
    assert any('"no_such_thing"' in entry["message"] for entry in found)


@pytest.mark.parametrize("model", [5, torch.nn.Conv2d, None])
def test_what_is_no_model_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model"):
        linglos_deploy.export(model, output=tmp_path, engine="none")


def test_a_text_is_no_sequence_of_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one name a letter"):
        linglos_deploy.export(torch.nn.Conv2d(3, 3, 1), labels="cat", output=tmp_path, engine="none")
    assert not list(tmp_path.iterdir())
