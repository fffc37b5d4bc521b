from __future__ import annotations

import re
from pathlib import Path

import pytest

from linglos_deploy.engines.targets import PRESETS
from tests.backends.trt.trt_graphs import save_linear

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.usefixtures("rtx")
def test_the_build_on_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    first, *_ = re.findall(r"```python\n(.*?)```", (DOCS / "tensorrt.md").read_text(), re.DOTALL)
    save_linear(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(first, "tensorrt.md", "exec"), {})
    assert (tmp_path / "model.engine").is_file()
    assert "8.6, 8.9, 12.0" in capsys.readouterr().out


def test_every_target_is_on_the_page():
    page = (DOCS / "tensorrt.md").read_text()
    assert all(f"`{name}`" in page for name in PRESETS)


@pytest.mark.parametrize("name", ["tensorrt.md", "jetson.md"])
def test_links_of_the_page_lead_somewhere(name: str):
    for target in re.findall(r"\]\(([^)#]+)\)", (DOCS / name).read_text()):
        assert (DOCS / target).exists(), target
