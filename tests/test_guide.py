"""The guide's commands work, in the order of the page, in an empty folder."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- needs: (?P<needs>\w+) -->\n)?```bash\n(?P<code>.*?)```", re.DOTALL)


def blocks() -> list[tuple[str | None, str]]:
    """Return what each block needs, and its commands."""
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    return [(found["needs"], found["code"]) for found in BLOCK.finditer(text)]


@pytest.mark.xdist_group("guide")
def test_the_commands_of_the_guide_run_in_an_empty_folder(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": f"{tmp_path}.cache",
    }
    for needs, code in blocks():
        if needs is not None and importlib.util.find_spec(needs) is None:
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    expected = ("build/linglo_digits/manifest.json", "linglos.toml", "both.table", "careful.onnx", "parity.xml")
    assert all((tmp_path / name).is_file() for name in expected)


def test_the_guide_goes_from_export_to_embedding() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "guide.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == ["Export", "Calibrate", "Quantize", "Build", "Check", "Embed"]
    assert len(blocks()) >= len(headings)
