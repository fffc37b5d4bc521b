"""The Python blocks of docs/profiling.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.backends.graphs import saturating_graph

DOCS = Path(__file__).parents[2] / "docs" / "profiling.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_blocks_to_run() -> None:
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS)
def test_the_guide_s_python_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saturating_graph(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(DOCS), "exec"), {"__name__": "__main__"})
    assert "within the budget" in (printed := capsys.readouterr().out) or "Flashed board 7: ✓ passed" in printed
