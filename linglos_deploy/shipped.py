"""What comes with the package beside its modules: C++ sources, examples, schemas.

They lie inside an installed package, and beside it in a checkout.
"""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.errors import MissingDependencyError, UsageError


def cmake_dir() -> Path:
    """Return the folder to give to CMake as ``linglos_DIR``.

    ``find_package(linglos CONFIG REQUIRED)`` then builds the library from its sources, as a part of the project that
    asked.

    Raises:
        MissingDependencyError: This installation has no C++ sources.
    """
    return _find("cpp", "C++ sources") / "cmake" / "package"


def examples() -> dict[str, Path]:
    """Return the folder of each example by its name.

    Raises:
        MissingDependencyError: This installation has no examples.
    """
    return {folder.name: folder for folder in sorted(_find("examples", "examples").iterdir()) if _is_example(folder)}


def example(name: str) -> Path:
    """Return the folder of an example.

    Raises:
        UsageError: There is none of that name; the message lists those there are.
        MissingDependencyError: This installation has no examples.
    """
    known = examples()
    if name not in known:
        raise UsageError(
            f"There is no example '{name}'.",
            found=name,
            expected=", ".join(known),
            next_step=f"linglos-deploy example {next(iter(known))}",
        )
    return known[name]


def schemas() -> Path:
    """Return the folder of the JSON Schemas of every file that the package writes.

    Raises:
        MissingDependencyError: This installation has no schemas.
    """
    return _find("schemas_json", "schemas", "docs/schemas")


def _find(name: str, what: str, in_checkout: str | None = None) -> Path:
    package = Path(__file__).resolve().parent
    for folder in (package / name, package.parent / (in_checkout or name)):
        if folder.is_dir():
            return folder
    raise MissingDependencyError(
        f"This installation of linglos-deploy has no {what}.",
        found=f"no {package / name}",
        next_step="pip install --force-reinstall linglos-deploy",
    )


def _is_example(folder: Path) -> bool:
    return (folder / "README.md").is_file()
