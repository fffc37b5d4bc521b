"""Where CMake finds the C++ library."""

from __future__ import annotations

import typer


def cmake_dir() -> bool:
    """Print the folder for CMake's find_package(linglos CONFIG).

    \b
    Example:
      cmake -S . -B build -Dlinglos_DIR="$(linglos-deploy cmake-dir)"
    """
    from linglos_deploy.shipped import cmake_dir as folder

    typer.echo(folder())
    return True
