"""Options from a TOML file and back: ``--config``, ``--save-config`` and ``[tool.linglos-deploy]`` in pyproject.toml.

A file has one table a command, keys named like the long options without their dashes:

    [export]
    variant = "s"
    int8 = true
    max-accuracy-drop = 0.5
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from linglos_deploy.compat import tomllib
from linglos_deploy.discovery import suggest
from linglos_deploy.errors import UsageError
from linglos_deploy.files import atomic_file

PYPROJECT = Path("pyproject.toml")
PYPROJECT_TABLE = "linglos-deploy"


def read_options(
    file: Path | None, command: str, known: Collection[str], *, commands: Collection[str]
) -> dict[str, Any]:
    """Return the options of ``command`` by parameter name.

    Args:
        file: The TOML file; ``None`` reads ``[tool.linglos-deploy]`` of ``pyproject.toml`` in this directory, if any.
        command: Name of the command, the table to read.
        known: The command's parameter names.
        commands: Names of all commands; each may have a table.

    Raises:
        UsageError: The file is missing or not TOML, a table is no command, or a key no option of this one.
    """
    if file is None:
        if not PYPROJECT.is_file():
            return {}
        tables = _parse(PYPROJECT).get("tool", {}).get(PYPROJECT_TABLE, {})
        source = f"{PYPROJECT} [tool.{PYPROJECT_TABLE}.{command}]"
    else:
        tables = _parse(file)
        source = f"{file} [{command}]"
    _check_tables(tables, commands, source=str(file or f"{PYPROJECT} [tool.{PYPROJECT_TABLE}]"))
    table = tables.get(command, {})
    if not isinstance(table, dict):
        raise UsageError(
            f"'{source}' must be a table.",
            found=repr(table),
            expected=f"[{command}] and a line for each option",
            next_step="write one with --save-config",
        )
    options = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            spelled = sorted(option.replace("_", "-") for option in known)
            raise UsageError(
                f"'{key}' in {source} is not an option of '{command}'.",
                found=f"{key} = {value!r}",
                expected=", ".join(spelled),
                next_step=suggest(key, spelled, otherwise="remove the line"),
            )
        options[name] = value
    return options


def _check_tables(tables: Mapping[str, Any], commands: Collection[str], *, source: str) -> None:
    for name, table in tables.items():
        if name not in commands:
            raise UsageError(
                f"'{name}' in {source} is not a command.",
                found=f"[{name}]" if isinstance(table, dict) else f"{name} = {table!r} outside of every table",
                expected=", ".join(map(_heading, commands)),
                next_step=suggest(name, commands, typed=_heading, otherwise="put options into their command's table"),
            )


def _heading(command: str) -> str:
    return f"[{command}]"


def write_options(options: Mapping[str, Any], command: str, file: Path) -> None:
    """Write resolved options so that ``--config`` reads them back; options without a value are left out."""
    import tomli_w

    table = {name.replace("_", "-"): _plain(value) for name, value in options.items() if value is not None}
    with atomic_file(file) as partial:
        partial.write_text(tomli_w.dumps({command: table}), encoding="utf-8")


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"'{file}' cannot be read as configuration.",
            found=str(error),
            expected="a TOML file with one table a command, such as [export]",
            next_step="write one with --save-config",
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
