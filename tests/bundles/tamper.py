"""The attacks on a bundle that every loader must refuse, in Python and C++ alike: ``tampering.json``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linglos_deploy.bundle import MANIFEST, MANIFEST_DIGEST


@dataclass(frozen=True, slots=True)
class Case:
    """One attack.

    Attributes:
        name: What was done, in words.
        edits: How: each has one verb (see :func:`tamper`) and perhaps ``to`` or ``times``.
        says: What the refusal must say.
    """

    name: str
    edits: tuple[dict[str, Any], ...]
    says: str


def load_cases() -> list[Case]:
    """Read the shared list."""
    cases = json.loads((Path(__file__).parent / "tampering.json").read_text(encoding="utf-8"))
    return [Case(case["name"], tuple(case["edits"]), case["says"]) for case in cases]


def tamper(bundle: Path, case: Case) -> None:
    """Change a bundle in place.

    Edits of files leave the manifest as it was. Edits of the manifest (``set``, ``remove``, ``rename_key``, ``write``)
    also write a digest that fits, as somebody would who wants to be believed.
    """
    for edit in case.edits:
        verb, target = next(iter(edit.items()))
        if verb in {"set", "remove", "rename_key", "write"}:
            _edit_manifest(bundle, verb, target, edit)
        else:
            _edit_file(bundle, verb, bundle / target, edit)


def _edit_file(bundle: Path, verb: str, file: Path, edit: dict[str, Any]) -> None:
    match verb:
        case "flip":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "append":
            file.write_bytes(file.read_bytes() + b"\0")
        case "truncate":
            file.write_bytes(b"")
        case "delete":
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        case "mkdir":
            file.mkdir()
        case "fifo":
            os.mkfifo(file)
        case "move":
            file.rename(bundle / edit["to"])
        case "link":
            if file.exists():
                file.rename(bundle.parent / "outside.onnx")
            file.symlink_to(edit["to"])
        case _:
            raise AssertionError(verb)


def _edit_manifest(bundle: Path, verb: str, target: str, edit: dict[str, Any]) -> None:
    if verb == "write":
        text = target * edit.get("times", 1)
    else:
        content = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        *path, last = (part.replace("~1", "/") for part in target.split("/")[1:])
        holder = content
        for part in path:
            holder = holder[int(part) if isinstance(holder, list) else part]
        if verb == "set":
            holder[last] = edit["to"]
        elif verb == "remove":
            del holder[last]
        else:
            holder[edit["to"]] = holder.pop(last)
        text = json.dumps(content)
    (bundle / MANIFEST).write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    (bundle / MANIFEST_DIGEST).write_text(f"{digest}  {MANIFEST}\n", encoding="ascii")
