"""Checkpoints: safetensors with the configuration in its metadata; ``.pt`` and ``.pth`` without running their code.

A pickle is only ever read through ``torch.load(weights_only=True)``, which refuses everything that is not a tensor or
a plain container. The usual wrappers are opened: a state dict under ``model_ema``, ``ema``, ``state_dict`` or ``model``,
and names that begin with ``module.`` or ``_orig_mod.``.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linglos_deploy.errors import CheckpointError
from linglos_deploy.files import atomic_file, sha256_file
from linglos_deploy.models.metadata import CheckpointMetadata, format_metadata, parse_metadata
from linglos_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".ckpt")
WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights; averaged weights first, as they are the ones that get evaluated."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What wrapping modules put before every name: data parallelism, ``torch.compile``, Lightning modules."""

RESAVE = "save plain weights: torch.save(model.state_dict(), 'weights.pt'), or linglos_deploy.models.save_checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        path: The file.
        tensors: Weights by name, wrappers and prefixes removed, on the CPU, in the file's element types.
        metadata: What the file says about its model.
        entry: The wrapper key that the weights were found under, empty if at the top.
        digest: SHA-256 of the file.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    metadata: CheckpointMetadata
    entry: str
    digest: str


def read_checkpoint(path: Path, *, progress: Progress = SILENT) -> Checkpoint:
    """Read a checkpoint file. Tensors are mapped from the file where its format allows it, so reading is lazy.

    Raises:
        CheckpointError: The file is missing, empty, damaged, not a checkpoint, or would need to run code.
    """
    _check_file(path)
    if path.suffix.lower() == SAFETENSORS:
        content, entries = _read_safetensors(path)
    elif path.suffix.lower() in PICKLES:
        content, entries = _read_pickle(path)
    else:
        raise CheckpointError(
            f"'{path}' does not look like a checkpoint.",
            found=f"a '{path.suffix}' file" if path.suffix else "a file name without an ending",
            expected=", ".join((SAFETENSORS, *PICKLES)),
            next_step=RESAVE,
        )
    entry, tensors = _unwrap(content, path=path, progress=progress)
    return Checkpoint(
        path=path,
        tensors=strip_prefixes(tensors),
        metadata=parse_metadata(entries, source=str(path)),
        entry=entry,
        digest=sha256_file(path),
    )


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], *, metadata: CheckpointMetadata) -> None:
    """Write weights and configuration as safetensors; equal input gives equal bytes.

    Args:
        path: The file, ending in ``.safetensors``.
        tensors: The state dict.
        metadata: What the file shall say about its model, see :mod:`linglos_deploy.models.metadata`.

    Raises:
        OutputError: The file cannot be written.
    """
    from safetensors.torch import save_file

    # save_file refuses views and shared memory, both of which are common in state dicts
    values = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as partial:
        save_file(values, partial, metadata=format_metadata(metadata))
        _sort_header(partial)


def strip_prefixes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove what wrapping modules put before every name.

    >>> list(strip_prefixes({"module._orig_mod.head.bias": 0, "module._orig_mod.head.weight": 0}))
    ['head.bias', 'head.weight']
    """
    named = {name: tensor for name, tensor in tensors.items() if name != "n_averaged"}  # swa_utils.AveragedModel
    while prefix := next((p for p in PREFIXES if named and all(name.startswith(p) for name in named)), None):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return {name.replace("._orig_mod.", "."): tensor for name, tensor in named.items()}  # a compiled submodule


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint at '{path}'.",
            found="a directory" if path.is_dir() else "nothing",
            expected="a .safetensors, .pt or .pth file",
            next_step="check the path, or leave --checkpoint out to try the pipeline with random weights",
        )
    if path.stat().st_size == 0:
        raise CheckpointError(
            f"The checkpoint '{path}' is empty.",
            found="0 bytes",
            expected="saved weights",
            next_step="copy or save the file again",
        )


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, "a complete safetensors file", str(error)) from error


def _read_pickle(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    import torch

    try:
        # Only the zip format, which torch.save writes since 1.6, can be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PermissionError as error:
        raise CheckpointError(f"'{path}' cannot be read.", found=error.strerror) from error
    except Exception as error:  # damaged bytes make the unpickler fail in any way it can
        refused = re.search(r"(?:GLOBAL |Can only (?:create|build) \w+ for )(\S+)", str(error))
        if refused or "weights_only" in str(error).lower() and "unsupported" in str(error).lower():
            raise CheckpointError(
                f"'{path}' holds more than weights; its code was not run.",
                found=f"a pickle that needs {refused[1]}" if refused else "a pickle with instructions",
                expected="tensors in plain dictionaries and lists",
                next_step=f"where you trust the file, {RESAVE}",
            ) from error
        raise _damaged(path, "a file written by torch.save", f"{type(error).__name__}: {error}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"'{path}' holds no state dict.",
            found=f"a {type(content).__name__}",
            expected="a dictionary from names to tensors",
            next_step=RESAVE,
        )
    said = next((content[key] for key in ("metadata", "config") if isinstance(content.get(key), Mapping)), {})
    return content, {str(key): value for key, value in said.items()}


def _unwrap(content: Mapping[str, Any], *, path: Path, progress: Progress) -> tuple[str, dict[str, torch.Tensor]]:
    """Find the state dict: the content itself, or what lies under a wrapper key, at most two levels down."""
    found = list(_state_dicts(content))
    if not found:
        raise CheckpointError(
            f"'{path}' holds no weights.",
            found=f"the entries {', '.join(sorted(map(str, content))[:6])}" if content else "an empty dictionary",
            expected=f"tensors by name, at the top or under one of {', '.join(WRAPPERS)}",
            next_step=RESAVE,
        )
    entry, tensors = found[0]
    if len(found) > 1:
        progress.warn(f"{path.name} holds several sets of weights; '{entry}' is used, not '{found[1][0]}'.")
    return entry, tensors


def _state_dicts(content: Mapping[str, Any], *, where: str = "") -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    import torch

    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping) and where.count(".") < 2:
            yield from _state_dicts(inner, where=f"{where}{key}.")
    if tensors and all(isinstance(name, str) for name in tensors):
        yield where.rstrip("."), tensors


def _damaged(path: Path, expected: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"'{path}' is damaged or not a checkpoint.",
        found=f"{path.stat().st_size} bytes; {reason.strip().splitlines()[0][:200] if reason.strip() else 'no reason'}",
        expected=expected,
        next_step="copy the file again, or save it again where it was trained",
    )


def _sort_header(path: Path) -> None:
    """Order the header's keys. safetensors writes its metadata in the order of a hash table, new in every process."""
    import json

    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        metadata = header.pop("__metadata__")
        ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # the tensors' offsets count from the end of the header, which must keep its size
            file.seek(8)
            file.write(text.ljust(size))
