from __future__ import annotations

import os
import re
import sys
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


def commands(heading: str) -> str:
    """The first block of shell commands under a heading of embedding.md, without what installs packages."""
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^#+ {heading}$.*?^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    kept = [line for line in block.splitlines() if not line.startswith("apt-get ")]
    assert len(kept) < len(block.splitlines())
    return "\n".join(kept)


@pytest.mark.slow
def test_the_documented_commands_build_and_install_what_runs(
    toolchain: tuple[str, ...], bundles: Path, tmp_path: Path
) -> None:
    script = commands("Build").replace("build/cpp", f"{tmp_path}/build")
    for folder in ("/tmp/ort", "/opt/linglos"):
        assert folder in script
        script = script.replace(folder, f"{tmp_path}{folder}")
    python = Path(sys.executable).parent  # its package onnxruntime has the library, as a user's would
    run(
        ["sh", "-euc", f"cd {ROOT}\n{script}"],
        PATH=f"{python}{os.pathsep}{os.environ['PATH']}",
        CMAKE_BUILD_PARALLEL_LEVEL="1",
    )
    tool = tmp_path / "opt" / "linglos" / "bin" / "linglos-selftest"
    assert b"passed: preprocessing and outputs" in run([tool, bundles / "digits"], LD_LIBRARY_PATH="")
