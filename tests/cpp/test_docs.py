from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cpp.toolchain import ROOT, SOURCE, run

FRAME = """
void block_{number}(linglos::Bundle& bundle, linglos::Session& session, const std::vector<linglos::ImageView>& images,
                    linglos::Outputs& outputs) {{
  (void)bundle, (void)session, (void)images, (void)outputs;
  {{
{block}
  }}
}}
"""


@pytest.mark.parametrize("name", ["embedding.md", "cpp-api.md"])
def test_every_block_of_the_documentation_compiles(name: str, toolchain: tuple[str, ...], tmp_path: Path) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```cpp\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    programs = [block for block in blocks if "int main" in block]
    parts = [block for block in blocks if "int main" not in block]
    framed = "".join(FRAME.format(number=number, block=block) for number, block in enumerate(parts))
    sources = [*programs, f"#include <iostream>\n#include <linglos/linglos.hpp>\n{framed}"]
    for number, source in enumerate(sources):
        file = tmp_path / f"{number}.cpp"
        file.write_text(source, encoding="utf-8")
        flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE / 'include'}"]
        run(["g++", *flags, file])


def test_the_documented_options_exist() -> None:
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    files = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.cmake"))
    lists = (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8") + files
    lists += "".join(path.read_text(encoding="utf-8") for path in (SOURCE / "src").glob("*.cpp"))  # of the environment
    for option in re.findall(r"`((?:LINGLOS|ONNXRUNTIME|TENSORRT|BUILD)_[A-Z_]+)`", text):
        assert option in lists
