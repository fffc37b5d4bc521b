"""The composite action and the GitLab job of the documentation, run step by step."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml

from tests.ci.steps import run_action, with_program
from tests.conftest import Shipped

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
PAGE = (ROOT / "docs" / "ci.md").read_text()

shipped_only = pytest.mark.xdist_group("shipped")


def example(heading: str) -> dict[str, Any]:
    """Return the YAML of a section of the page."""
    found = re.search(rf"## {heading}\n.*?```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    loaded: dict[str, Any] = yaml.safe_load(found.group(1))
    return loaded


@shipped_only
def test_a_good_bundle_passes_and_leaves_reports_and_a_summary(shipped: Shipped, tmp_path: Path) -> None:
    given = {"candidate": str(shipped.bundle), "baseline": str(shipped.bundle), "install": "false"}
    job = run_action(ACTION, given, tmp_path)
    assert not job.failed, job.log
    assert job.ran == ["Parity", "Comparison with the baseline", "Verdict"]
    assert job.outputs["verdict"] == {"passed": "true"}
    for name in ("junit", "html"):
        assert (tmp_path / job.outputs["parity"][name]).is_file()
    assert job.summary.count("# linglos-deploy report: ✓ passed") == 2
    assert "::error" not in job.log


@shipped_only
def test_a_bundle_that_drifted_fails_the_job_with_annotations_and_all_reports(shipped: Shipped, tmp_path: Path) -> None:
    given = {
        "candidate": str(shipped.bundle),
        "data": str(shipped.images),
        "images": "2",
        "precision": "int8",
        "limits": "sqnr_db=290 cosine=off",
        "install": "false",
    }
    job = run_action(ACTION, given, tmp_path)
    assert job.failed
    assert job.ran == ["Parity", "Verdict"]
    assert job.outputs["verdict"] == {"passed": "false"}
    expected = f"::error file={shipped.bundle},title=Parity of model.int8.onnx::logits, data: SQNR in dB: found "
    assert expected in job.log
    assert "What fails" in job.summary
    cases = [
        case for suite in junitparser.JUnitXml.fromfile(str(tmp_path / "parity-reports/parity.xml")) for case in suite
    ]
    assert any(case.is_failure for case in cases)
    assert not any(case.name.endswith(": cosine") for case in cases)


def test_what_cannot_be_checked_fails_with_its_own_code_and_no_verdict(tmp_path: Path) -> None:
    job = run_action(ACTION, {"candidate": "nowhere", "install": "false"}, tmp_path)
    assert job.failed
    assert job.ran == ["Parity"]
    assert "There is nothing at 'nowhere'" in job.log


def test_text_of_a_pull_request_is_never_run(tmp_path: Path) -> None:
    given = {
        "candidate": "$(touch candidate)",
        "limits": "`touch limits`",
        "data": '"; touch data; "',
        "install": "false",
    }
    run_action(ACTION, given, tmp_path)
    assert {path.name for path in tmp_path.iterdir()}.isdisjoint({"candidate", "limits", "data"})


def test_the_workflow_of_the_page_uses_what_the_action_has() -> None:
    (job,) = example("GitHub")["jobs"].values()
    (step,) = [step for step in job["steps"] if step.get("id") == "parity"]
    assert step["with"].keys() <= ACTION["inputs"].keys()
    required = {name for name, entry in ACTION["inputs"].items() if entry.get("required")}
    assert required <= step["with"].keys()
    assert all(f"`{name}`" in PAGE for name in ACTION["outputs"])
    (upload,) = [step for step in job["steps"] if "upload" in step.get("uses", "")]
    assert upload["with"]["path"] == ACTION["inputs"]["reports"]["default"]


@shipped_only
def test_the_gitlab_job_of_the_page_runs_and_leaves_its_artifacts(shipped: Shipped, tmp_path: Path) -> None:
    job = example("GitLab")["parity"]
    install, *script = job["script"]
    assert install.startswith("pip install")
    variables = {"BUNDLE": str(shipped.bundle), "BASELINE": str(shipped.bundle)}
    assert variables.keys() == job["variables"].keys()
    environment = {**with_program(tmp_path), **variables}
    subprocess.run(["bash", "-eo", "pipefail", "-c", "\n".join(script)], cwd=tmp_path, env=environment, check=True)
    found = sorted(tmp_path.glob(job["artifacts"]["reports"]["junit"]))
    assert [path.name for path in found] == ["compare.xml", "parity.xml"]
    assert all(len(list(junitparser.JUnitXml.fromfile(str(path)))) for path in found)
