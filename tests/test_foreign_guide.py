"""The commands of docs/foreign-onnx.md work, in the order of the page."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from tests.commandline import run
from tests.verbs.graphs import grey_net, voice, voice_data
from tests.verbs.test_foreign_graphs import pictures

PAGE = (Path(__file__).parents[1] / "docs" / "foreign-onnx.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- needs: (?P<needs>\w+) -->\n)?```bash\n(?P<code>.*?)```", re.DOTALL)


def test_the_page_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey_net(tmp_path / "theirs.onnx")
    pictures(tmp_path / "images", 32)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/foreign-onnx.md", "exec"), {"__name__": "__main__"})
    assert Path("python.table").is_file()


def test_the_commands_of_the_page_run_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey_net(tmp_path / "theirs.onnx")
    pictures(tmp_path / "images", 32)
    voice(tmp_path / "voice.onnx")
    voice_data(tmp_path / "voice.npz")
    monkeypatch.chdir(tmp_path)
    said = ""
    for found in BLOCK.finditer(PAGE):
        if found["needs"] is not None and importlib.util.find_spec(found["needs"]) is None:
            continue
        for line in found["code"].strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "linglos-deploy"
            said += run(*arguments).expect(0).stderr
    for quoted in re.findall(r"^    warning: (.+)$", PAGE, re.MULTILINE):
        assert quoted in " ".join(said.split()), quoted
    assert Path("theirs.int8.onnx").is_file()
