"""Option types that several commands share, and what turns their text into values. Imports only Typer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from linglos_deploy.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr; warnings and errors stay.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of a run; 0 leaves the choice to the backend.", min=0)]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N or N.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML file.", metavar="FILE")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse ``--imgsz``: one number for a square, ``HEIGHTxWIDTH`` or ``HEIGHT,WIDTH``.

    Raises:
        UsageError: The text is none of these.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text.strip().lower())
    if match is None:
        raise UsageError(
            f"'{text}' is not an image size.",
            found=text,
            expected="pixels such as 224, or 160x224 (height x width)",
            next_step="--imgsz 224",
        )
    height = int(match.group(1))
    return height, int(match.group(2) or height)


def parse_numbers(text: str, *, option: str, least: int = 1) -> tuple[int, ...]:
    """Parse a comma-separated list of whole numbers, none below ``least``.

    Raises:
        UsageError: The text is something else.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise UsageError(
            f"{option} takes whole numbers from {least}.",
            found=text,
            expected="one, or several with commas between them",
            next_step=f"{option} 1,8,32",
        )
    return numbers


def parse_bytes(text: str | None, *, option: str) -> int | None:
    """Parse a memory size: a number of GiB, or a number with K, M or G behind it.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None or float(match.group(1)) <= 0:
        raise UsageError(
            f"{option} takes a memory size.",
            found=text,
            expected="GiB, or a number with K, M or G behind it",
            next_step=f"{option} 512M",
        )
    unit = {"K": 10, "M": 20, "G": 30, "": 30}[match.group(2).upper()]
    return int(float(match.group(1)) * (1 << unit))


def parse_capabilities(text: str | None) -> tuple[str, ...]:
    """Parse ``--sm``: ``86,89,120`` or ``8.6,8.9,12.0`` to ``("8.6", "8.9", "12.0")``.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-9]\d?)\.?(\d)", part.strip())
        if match is None:
            raise UsageError(
                "--sm takes compute capabilities.",
                found=text,
                expected="numbers such as 86 or 8.6, with commas between them",
                next_step="--sm 86,89,120",
            )
        found.append(f"{match.group(1)}.{match.group(2)}")
    return tuple(found)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Parse ``--shard``: ``3/16`` is the third of sixteen.

    Raises:
        UsageError: The text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match.group(1)) <= int(match.group(2)):
        raise UsageError("--shard takes one of several equal shares.", found=text, expected="such as 3/16, from 1/16")
    return int(match.group(1)), int(match.group(2))
