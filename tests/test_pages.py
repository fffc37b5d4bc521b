"""'open' finds a bundle's page and makes that of any other file."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest

from tests.commandline import nothing_changes, run
from tests.conftest import Shipped

pytestmark = pytest.mark.xdist_group("shipped")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the pages that a browser was asked for."""
    pages: list[Path] = []

    def browse(address: str) -> bool:
        pages.append(Path(url2pathname(urlparse(address).path)))
        return True

    monkeypatch.setattr(webbrowser, "open", browse)
    return pages


def test_a_bundle_opens_on_its_own_page(shipped: Shipped, opened: list[Path]) -> None:
    for subject in (shipped.bundle, shipped.bundle / "manifest.json"):
        done = run("open", subject).expect(0)
        assert done.stdout.strip() == str(opened.pop().resolve())
        assert done.stdout.strip() == str((shipped.bundle / "reports" / "report.html").resolve())


@pytest.mark.parametrize("name", ["model.onnx", "calibration.table", "plan.json"])
def test_another_file_opens_on_a_page_that_is_made_and_changes_nothing(
    name: str, shipped: Shipped, opened: list[Path]
) -> None:
    with nothing_changes(shipped.bundle):
        run("open", shipped.bundle / name).expect(0)
    page = opened.pop().read_text(encoding="utf-8")
    assert name in page
    assert "</html>" in page


def test_print_opens_nothing_and_a_missing_browser_is_no_failure(
    shipped: Shipped, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("open", shipped.bundle, "--print").expect(0)
    assert not opened
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert "No browser was found here" in run("open", shipped.bundle).expect(0).stderr
    run("open", shipped.bundle / "no.onnx").expect(2)
