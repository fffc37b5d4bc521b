"""Runs the steps of a composite action as GitHub's runner does, as far as ours need it."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
CONDITION = re.compile(r"([\w.-]+) (==|!=) '([^']*)'")


@dataclass
class Job:
    """A job that one action runs in.

    Attributes:
        folder: Its working directory.
        summary: What the steps added to the job's summary.
        log: What they printed, stdout and stderr.
        failed: Whether a step failed.
        ran: The names of the steps that ran.
        outputs: Of each step by id.
    """

    folder: Path
    summary: str = ""
    log: str = ""
    failed: bool = False
    ran: list[str] = field(default_factory=list)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)


def run_action(action: Mapping[str, Any], given: Mapping[str, str], folder: Path) -> Job:
    """Run the steps of an action; the first that fails is the last."""
    unknown = given.keys() - action["inputs"].keys()
    assert not unknown, f"no inputs of the action: {unknown}"
    inputs = {name: given.get(name, str(entry.get("default", ""))) for name, entry in action["inputs"].items()}
    job = Job(folder)
    summary = folder / "summary.md"
    for number, step in enumerate(action["runs"]["steps"]):
        assert step["shell"] == "bash", "a composite action's step names its shell"
        if "if" in step and not _holds(step["if"], inputs, job):
            continue
        output = folder / f"output-{number}"
        output.touch()
        environment = {name: _filled(text, inputs, job) for name, text in step.get("env", {}).items()}
        assert "${{" not in step["run"], "inputs must reach the shell as variables"
        script = folder / f"step-{number}.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=folder,
            env={
                **with_program(folder),
                **environment,
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_OUTPUT": str(output),
            },
            capture_output=True,
            text=True,
        )
        job.ran.append(step["name"])
        job.log += done.stdout + done.stderr
        job.outputs[step.get("id", "")] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        if done.returncode:
            job.failed = True
            break
    job.summary = summary.read_text() if summary.exists() else ""
    return job


def with_program(folder: Path) -> dict[str, str]:
    """Return an environment in which ``linglos-deploy`` is this tree's."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    program = bin_folder / "linglos-deploy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from linglos_deploy.cli import main; main()" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    root = str(Path(__file__).parents[2])
    paths = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": root}
    return {**os.environ, **paths, "OMP_NUM_THREADS": "1"}


def _filled(text: str, inputs: Mapping[str, str], job: Job) -> str:
    return EXPRESSION.sub(lambda found: _value(found.group(1), inputs, job), str(text))


def _holds(condition: str, inputs: Mapping[str, str], job: Job) -> bool:
    found = CONDITION.fullmatch(condition)
    assert found is not None, condition
    name, sign, text = found.groups()
    return (_value(name, inputs, job) == text) is (sign == "==")


def _value(name: str, inputs: Mapping[str, str], job: Job) -> str:
    context, _, rest = name.partition(".")
    if context == "inputs":
        return inputs[rest]
    if context == "steps":
        step, _, output = rest.partition(".outputs.")
        return job.outputs.get(step, {}).get(output, "")
    assert name == "github.action_path", name
    return str(Path(__file__).parents[2])
