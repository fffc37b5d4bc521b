"""The documentation builds without a warning, leads nowhere that is not there, and leaves nothing out."""

from __future__ import annotations

import ast
import html
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

import linglos_deploy
from linglos_deploy.cli import app
from tests.browser import needs_chromium, opened

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as ``make docs`` does; a warning, such as of a link that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_the_reference_has_every_public_name_with_its_text(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in set(linglos_deploy.__all__) - {"__version__"}:
        home = linglos_deploy._HOME[name]
        assert f'id="{home}.{name}"' in page, name


def test_the_reference_has_every_command_and_every_option(site: Path) -> None:
    page = text_of(site / "reference" / "commands.html")
    program: Any = typer.main.get_command(app)
    assert len(program.commands) >= 9
    for name, command in program.commands.items():
        section = page.split(f"Usage: linglos-deploy {name}", 1)[1].split("Usage: ", 1)[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in section, (name, option)


def test_nothing_is_fetched_when_a_page_is_read(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = re.findall(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text("utf-8"))
        assert not [address for address in found if "canonical" not in address], page


def test_every_page_is_in_the_navigation_and_every_decision_too(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]
    assert not [page for page in pages if f'href="{page}"' not in start and str(page) != "index.html"]


def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "linglos_deploy").rglob("*.py"))


def test_the_messages_of_the_help_page_are_the_programs_own() -> None:
    code = re.sub("…+", "…", re.sub(r"\{[^{}\"]*\}", "…", sources()))
    headings = re.findall(r"^### (.+\.)$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) > 15
    assert not [heading for heading in headings if f'"{heading}"' not in code]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_python_on_a_page_is_python_and_takes_names_that_there_are(page: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("linglos_deploy"):
                module = __import__(str(node.module), fromlist=[alias.name for alias in node.names])
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "linglos_deploy":
                assert node.attr in linglos_deploy.__all__, node.attr


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_commands_on_a_page_have_the_options_that_they_use(page: Path) -> None:
    program: Any = typer.main.get_command(app)
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    blocks = re.findall(r"```(?:sh|bash|)\n(.*?)```", text, re.DOTALL)
    for line in "\n".join(blocks).splitlines():
        used = re.match(r"\s*(?:\S+/)?linglos-deploy ([a-z-]+)(.*)", line.partition(" #")[0])
        if not used or used[1] not in program.commands:
            continue
        parameters = program.commands[used[1]].params
        known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
        options = set(re.findall(r"(?<!\S)--[a-z0-9-]+", used[2])) - {"--help"}
        assert options <= known, (line, options - known)


class Quiet(SimpleHTTPRequestHandler):
    """A web server that does not talk."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Serve the site, as a browser lets no page search files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_chromium
@pytest.mark.parametrize("name", ["index.html", "reference/python.html", "reference/commands.html", "parity.html"])
def test_a_page_fits_a_desk_and_a_phone_in_a_browser_and_asks_for_nothing(
    name: str, served: str, tmp_path: Path
) -> None:
    with opened(f"{served}/{name}", profile=tmp_path) as page:
        for width in (1280, 400):
            page.resize(width)
            assert page.evaluate("document.querySelector('.md-content').scrollWidth") <= width
        assert not page.complaints
        assert not [address for address in page.requests if not address.startswith((served, "blob:"))]
