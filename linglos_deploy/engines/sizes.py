"""Which heights and widths an engine serves, for graphs with dynamic resolution."""

from __future__ import annotations

import re

from linglos_deploy.errors import UsageError

Size = tuple[int, int]
"""Height and width in pixels."""

SizeProfile = tuple[Size, Size, Size]
"""Smallest, best and largest size; height and width are ranges of their own."""

EXAMPLE = "--size-profile 160,224,512, or 160x192,224x256,512x512 (height x width)"


def parse_size_profile(text: str) -> SizeProfile:
    """Parse ``224`` (that size only) or ``160,224,512`` (smallest, best, largest); each is a side or ``HEIGHTxWIDTH``.

    >>> parse_size_profile("160,224x256,512")
    ((160, 160), (224, 256), (512, 512))

    Raises:
        UsageError: The text is something else, or the sizes fall.
    """
    matches = [
        re.fullmatch(r"0*([1-9]\d{0,5})(?:x0*([1-9]\d{0,5}))?", part.strip().lower()) for part in text.split(",")
    ]
    sizes = [(int(match[1]), int(match[2] or match[1])) for match in matches if match is not None]
    if len(sizes) != len(matches) or len(sizes) not in {1, 3}:
        raise UsageError(
            "A size profile is an image size, or the smallest, best and largest one.",
            found=text,
            expected="one size or three with commas between them, each a side or HEIGHTxWIDTH in pixels",
            next_step=EXAMPLE,
        )
    profile = (sizes[0], sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1], sizes[2])
    check_order(profile)
    return profile


def format_size_profile(profile: SizeProfile) -> str:
    """Write a profile as :func:`parse_size_profile` reads it.

    >>> format_size_profile(((160, 160), (224, 256), (512, 512)))
    '160x160,224x256,512x512'
    """
    return ",".join(f"{height}x{width}" for height, width in profile)


def check_order(profile: SizeProfile) -> None:
    """Check that neither height nor width falls from smallest over best to largest.

    Raises:
        UsageError: One of them does; the message says which and how.
    """
    for axis, (smallest, best, largest) in zip(("height", "width"), zip(*profile, strict=True), strict=True):
        if smallest <= best <= largest:
            continue
        if smallest > largest:
            wrong = f"the smallest {axis}, {smallest}, is above the largest, {largest}"
        else:
            side, bound = ("below the smallest", smallest) if best < smallest else ("above the largest", largest)
            wrong = f"the best {axis}, {best}, is {side}, {bound}"
        raise UsageError(
            "A size profile rises from the smallest over the best to the largest size.",
            found=f"{format_size_profile(profile)}: {wrong}",
            expected="smallest <= best <= largest, for height and for width",
            next_step=EXAMPLE,
        )


def check_fit(profile: SizeProfile, *, dynamic: bool, divisor: int) -> None:
    """Check that a graph can serve a profile.

    Args:
        profile: What was asked for.
        dynamic: Whether height and width of the graph are open.
        divisor: Heights and widths are multiples of this.

    Raises:
        UsageError: The sizes are fixed in the graph, or a side of the profile is no multiple of ``divisor``.
    """
    asked = format_size_profile(profile)
    if not dynamic:
        raise UsageError(
            "A size profile needs a graph with dynamic resolution.",
            found=f"--size-profile {asked}, and a graph whose height and width are fixed",
            expected="a graph that was exported with --dynamic",
            next_step="export with --dynamic, or leave out --size-profile",
        )
    odd = sorted({side for size in profile for side in size if side % divisor})
    if odd:
        smallest, best, largest = profile
        nearest = (_down(smallest, divisor), _nearest(best, divisor), _up(largest, divisor))
        raise UsageError(
            "The size profile does not fit the model.",
            found=f"{asked}: {', '.join(map(str, odd))}",
            expected=f"heights and widths divisible by {divisor}",
            next_step=f"--size-profile {format_size_profile(nearest)}",
        )


def check_covers(profile: SizeProfile, size: Size) -> None:
    """Check that the size to which a bundle resizes its images is one that its engine serves.

    Raises:
        UsageError: It is not.
    """
    if covers(profile, size):
        return
    raise UsageError(
        "The size profile leaves out the size to which the bundle resizes images.",
        found=f"{format_size_profile(profile)} (height x width), and images of {size[0]}x{size[1]}",
        expected=f"a range that holds {size[0]}x{size[1]}",
        next_step="widen --size-profile or --shape, or say with --imgsz which size images are resized to",
    )


def covers(profile: SizeProfile, size: Size) -> bool:
    """Return whether a size lies between the smallest and the largest of a profile."""
    smallest, _, largest = profile
    return all(low <= side <= high for low, side, high in zip(smallest, size, largest, strict=True))


def around(size: Size, divisor: int) -> SizeProfile:
    """Return the profile from half to twice of a size, which is the best one.

    Its smallest sides are multiples of ``divisor``, or those of ``size`` where that is smaller:

    >>> around((224, 20), 32)
    ((96, 20), (224, 20), (448, 40))
    """
    height, width = size
    low, narrow = _down((height // 2, width // 2), divisor)
    return (min(low, height), min(narrow, width)), size, (2 * height, 2 * width)


def _down(size: Size, divisor: int) -> Size:
    height, width = (max(divisor, side // divisor * divisor) for side in size)
    return height, width


def _nearest(size: Size, divisor: int) -> Size:
    return _down((size[0] + divisor // 2, size[1] + divisor // 2), divisor)


def _up(size: Size, divisor: int) -> Size:
    return _down((size[0] + divisor - 1, size[1] + divisor - 1), divisor)
