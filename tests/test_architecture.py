"""The tree on the architecture page is the tree, in the order of imports."""

from __future__ import annotations

import re
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "linglos_deploy"


def listed() -> list[str]:
    page = (ROOT / "docs/architecture.md").read_text()
    tree = page.split("```\nlinglos_deploy/\n")[1].split("\ncpp/")[0]
    return re.findall(r"^  ([a-z_]+(?:\.py|/))", tree, re.MULTILINE)


def test_every_module_and_folder_of_the_package_is_on_the_page_and_none_besides() -> None:
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert sorted(listed()) == sorted(folders | modules)


def test_the_page_lists_them_in_the_order_of_the_import_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    rank = {
        name.strip().removeprefix("linglos_deploy."): level
        for level, names in enumerate(contract["layers"])
        for name in names.split("|")
    }
    ranks = [rank[name] for name in (entry.removesuffix(".py").rstrip("/") for entry in listed()) if name in rank]
    assert ranks == sorted(ranks)
