"""Where the C++ library lives, for programs that embed a bundle."""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.errors import MissingDependencyError


def cmake_dir() -> Path:
    """Return the folder to give to CMake as ``linglos_DIR``.

    ``find_package(linglos CONFIG REQUIRED)`` then builds the library from its sources, as a part of the project that
    asked. The sources lie inside an installed package, and beside it in a checkout.

    Raises:
        MissingDependencyError: This installation has no C++ sources.
    """
    package = Path(__file__).resolve().parent
    for sources in (package / "cpp", package.parent / "cpp"):
        folder = sources / "cmake" / "package"
        if (folder / "linglosConfig.cmake").is_file():
            return folder
    raise MissingDependencyError(
        "This installation of linglos-deploy has no C++ sources.",
        found=f"no {package / 'cpp'}",
        next_step="pip install --force-reinstall linglos-deploy",
    )
