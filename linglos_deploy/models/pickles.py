"""Files written by ``torch.save``, read without running the code that a pickle can carry."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linglos_deploy.errors import CheckpointError

RESAVE = "save plain weights: torch.save(model.state_dict(), 'weights.pt')"


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """Read a dictionary of tensors and plain values through ``torch.load(weights_only=True)``.

    Tensors are mapped from the file if it has the zip format, which ``torch.save`` writes since version 1.6.

    Raises:
        CheckpointError: The file is damaged, holds something else, or could only be read by running its code.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused just below, with a reason of our own
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged bytes make an unpickler fail in any way it can
        raise _explain(path, error) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"'{path}' holds no state dict.",
            found=f"a {type(content).__name__}",
            expected="a dictionary from names to tensors",
            next_step=RESAVE,
        )
    return content


def _explain(path: Path, error: Exception) -> CheckpointError:
    """Say what torch.load found, without its advice to switch the protection off."""
    needed = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
        archive = "a TorchScript archive" if "TorchScript" in str(error) else "a pickle of something else"
        return CheckpointError(
            f"'{path}' holds more than weights; its code was not run.",
            found=f"a pickle that needs {needed[1]}" if needed else archive,
            expected="tensors in plain dictionaries and lists",
            next_step=f"where the file comes from, {RESAVE}",
        )
    return damaged(path, expected="a file written by torch.save", error=error)


def damaged(path: Path, *, expected: str, error: Exception) -> CheckpointError:
    """Return the error for a file that cannot be parsed."""
    reason = re.split(r"\. |\n", str(error).strip())[0]
    return CheckpointError(
        f"'{path}' is damaged or not a checkpoint.",
        found=f"{path.stat().st_size} bytes; {type(error).__name__}: {reason[:160]}",
        expected=expected,
        next_step="copy the file again, or save it again where it was trained",
    )
