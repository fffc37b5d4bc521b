"""The pytest plugin as others use it: a test of theirs passes over a good bundle and fails with the reasons."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import tomllib

from linglos_deploy.reports import sections
from tests.comparing.examples import output, report, write
from tests.conftest import Shipped

pytest_plugins = ["pytester"]

assert sections  # an inner run forgets what it imported first; report types must stay those that are registered

MODULE = "linglos_deploy.pytest_plugin"


def run(pytester: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    """Run one test of somebody's; where this package is not installed, its plugin is named."""
    pytester.makepyfile(body)
    installed = any(point.value == MODULE for point in entry_points(group="pytest11"))
    named = () if installed else ("-p", MODULE)
    return pytester.runpytest_inprocess(*named, "-p", "no:cacheprovider", *arguments)


def test_the_plugin_is_an_entry_point_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"linglos-deploy": MODULE}


def test_a_run_that_does_not_use_it_pays_for_nothing() -> None:
    code = (
        f"import sys, {MODULE}\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'rich', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.xdist_group("shipped")
def test_a_good_bundle_passes_and_its_verdicts_go_into_the_report(shipped: Shipped, pytester: pytest.Pytester) -> None:
    body = f"""
        def test_parity(linglos_parity):
            outcome = linglos_parity.check({str(shipped.bundle)!r}, data={str(shipped.images)!r}, images=4, threads=1)
            assert [report.candidate for report in outcome.reports][:2] == ["model.onnx", "model.int8.onnx"]
    """
    done = run(pytester, body, "--junitxml=tests.xml")
    done.assert_outcomes(passed=1)
    assert 'name="Parity of model.int8.onnx" value="Compared with' in (pytester.path / "tests.xml").read_text()


@pytest.mark.xdist_group("shipped")
def test_a_bundle_that_drifted_fails_with_what_was_found_and_no_traceback(
    shipped: Shipped, pytester: pytest.Pytester
) -> None:
    body = f"""
        def test_parity(linglos_parity):
            linglos_parity.check({str(shipped.bundle)!r}, precision="int8", limits={{"sqnr_db": 290}}, threads=1)
    """
    done = run(pytester, body)
    done.assert_outcomes(failed=1)
    text = done.stdout.str()
    assert "Parity of model.int8.onnx: Compared with PyTorch (golden)" in text
    assert "SQNR in dB: found" in text
    assert "expected ≥ 290.0" in text
    assert "linglos_parity.check(" not in text  # the reasons stand alone


def test_a_regression_fails_too(tmp_path: Path, pytester: pytest.Pytester) -> None:
    old, bad = write(tmp_path, "old"), write(tmp_path, "bad", report(output(sample_db_mean=10)))
    body = f"""
        def test_same(linglos_parity):
            assert linglos_parity.compare({str(old)!r}, {str(old)!r}).passed

        def test_worse(linglos_parity):
            linglos_parity.compare({str(old)!r}, {str(bad)!r})

        def test_accepted(linglos_parity):
            linglos_parity.compare({str(old)!r}, {str(bad)!r}, max_drop={{"sqnr_db": 40}})
    """
    done = run(pytester, body)
    done.assert_outcomes(passed=2, failed=1)
    assert "SQNR, mean over images: found 10.0 dB, was 40.0 dB, expected at least 38.5 dB" in done.stdout.str()


def test_what_the_figures_cannot_tell_does_not_pass(pytester: pytest.Pytester) -> None:
    body = """
        from linglos_deploy import api
        from linglos_deploy.reports.comparison import Change, ComparisonReport

        def test_untold(linglos_parity, monkeypatch):
            change = Change("model.onnx", "median", "10 ms", "11 ms", "at most 10.5 ms", undecided=True)
            monkeypatch.setattr(api, "compare", lambda old, new: ComparisonReport.of("profile", old, new, (change,)))
            linglos_parity.compare("old", "new")
    """
    done = run(pytester, body)
    done.assert_outcomes(failed=1)
    assert "It cannot be told whether this is good" in done.stdout.str()
    assert "model.onnx: median: 11 ms, was 10 ms" in done.stdout.str()


def test_what_cannot_be_checked_is_an_error_with_a_next_step(pytester: pytest.Pytester) -> None:
    done = run(pytester, 'def test_parity(linglos_parity):\n    linglos_parity.check("nowhere")\n')
    done.assert_outcomes(failed=1)
    assert "nowhere" in done.stdout.str()
