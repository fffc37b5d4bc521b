"""What an interrupted calibration leaves behind, and how the next one takes it up.

A checkpoint is a calibration table with a position. It is renamed into place after every batch, but not flushed to the
disk: it outlives the death of the process, which is common, and perhaps not that of the machine.
"""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.calibration import container
from linglos_deploy.calibration.table import CalibrationTable, differences, load_table
from linglos_deploy.errors import CalibrationError
from linglos_deploy.files import output_errors

_FASTEST = 0


def write_checkpoint(table: CalibrationTable, path: Path) -> None:
    """Replace the checkpoint in one step.

    Raises:
        OutputError: The place cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(container.encode(table, level=_FASTEST))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint that is no longer needed."""
    path.unlink(missing_ok=True)
    path.with_name(f".{path.name}.partial").unlink(missing_ok=True)


def take_up(path: Path | None, empty: CalibrationTable, *, resume: bool) -> CalibrationTable:
    """Return what was seen before, or ``empty`` where there is nothing to take up.

    Args:
        path: The checkpoint.
        empty: The table of the calibration that is about to start.
        resume: Whether to look for a checkpoint at all.

    Raises:
        ArtifactError: The checkpoint is damaged.
        CalibrationError: It is of another calibration; the message names what differs.
    """
    if path is None or not resume or not path.exists():
        return empty
    found = load_table(path)
    names = [name for name, _, _ in differences(empty, found)]
    names += ["images"] if found.coverage != empty.coverage else []
    names += ["tool versions"] if dict(found.tools) != dict(empty.tools) else []
    if found.position is None or names:
        raise CalibrationError(
            f"The checkpoint '{path}' is of another calibration: " + (", ".join(names) or "it is finished") + ".",
            found=f"{found.image_count} images seen",
            expected="a checkpoint of the same graph, images and options",
            next_step="repeat the interrupted command as it was, or start over without --resume",
        )
    return found
