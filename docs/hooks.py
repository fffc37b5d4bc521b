"""What the site takes from the program itself: its commands, its schemas, its decisions, its changelog."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent
ROOT = DOCS.parent


def on_config(config: Any) -> Any:
    """Put a page for each decision into the navigation."""
    pages = sorted((DOCS / "decisions").glob("*.md"))
    config.nav.append({"Decisions": [{_title(page): f"decisions/{page.name}"} for page in pages]})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the changelog, which lies beside ``docs``."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=changes))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Fill the pages that are made from the program."""
    if "<!-- commands -->" in markdown:
        return markdown.replace("<!-- commands -->", commands())
    if "<!-- names -->" in markdown:
        return markdown.replace("<!-- names -->", names())
    if "<!-- schemas -->" in markdown:
        return markdown.replace("<!-- schemas -->", schemas())
    return markdown


def on_page_content(html: str, *, page: Any, config: Any, files: Files) -> str:
    """Show a docstring's ``:class:`~package.Name``` as the name."""
    return re.sub(r":\w+:<code>(?:~[\w.]*?)?([\w. ]+?)</code>", r"<code>\1</code>", html)


def commands() -> str:
    """Return every command with its usage, text and options, as ``--help`` shows them."""
    import typer

    from linglos_deploy.cli import app

    program: Any = typer.main.get_command(app)
    parts = []
    for name, command in program.commands.items():
        context = typer.Context(command, info_name=f"linglos-deploy {name}", max_content_width=96, terminal_width=96)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(parts)


def names() -> str:
    """Return a place for the documentation of every public name: verbs first, then values."""
    import linglos_deploy

    home = linglos_deploy._HOME
    public = sorted(home, key=lambda name: (home[name] != "linglos_deploy.api", name))
    verbs = [name for name in public if home[name] == "linglos_deploy.api"]
    values = [name for name in public if name not in verbs]
    parts = ["## Verbs\n", *(f"::: {home[name]}.{name}\n" for name in verbs)]
    return "\n".join([*parts, "## Values\n", *(f"::: {home[name]}.{name}\n" for name in values)])


def schemas() -> str:
    """Return a table of the schemas' titles and files."""
    rows = []
    for file in sorted((DOCS / "schemas").glob("*.json")):
        title = json.loads(file.read_text(encoding="utf-8")).get("title", file.name.partition(".")[0])
        rows.append(f"| [{file.name}](../schemas/{file.name}) | {title} |")
    return "\n".join(["| file | describes |", "|---|---|", *rows])


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
