"""Checkpoints: safetensors with the configuration in its metadata; ``.pt`` and ``.pth`` without running their code.

A pickle is only ever read through ``torch.load(weights_only=True)``, which refuses whatever is neither a tensor nor a
plain container. The usual wrappers are opened: a state dict under ``model_ema``, ``ema``, ``state_dict`` or ``model``,
and names that begin with ``module.`` or ``_orig_mod.``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from linglos_deploy.errors import CheckpointError, UsageError
from linglos_deploy.files import atomic_file, sha256_file
from linglos_deploy.models.metadata import CheckpointMetadata, format_metadata, parse_metadata
from linglos_deploy.models.pickles import RESAVE, damaged, read_pickle
from linglos_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".ckpt")
WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights; averages first, as they are what gets evaluated."""

METADATA = ("metadata", "config")
"""Keys of a pickled dictionary under which it may describe its model."""

AVERAGE_COUNT = "n_averaged"
"""What ``torch.optim.swa_utils.AveragedModel`` keeps beside the weights."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What wrapping modules put before every name: data parallelism, ``torch.compile``, Lightning modules."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        path: The file.
        tensors: Weights on the CPU, names and element types as in the file; see :func:`strip_prefixes`.
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
    content: Mapping[Any, Any]
    entries: Mapping[Any, Any]
    if path.suffix.lower() == SAFETENSORS:
        content, entries = _read_safetensors(path)
    elif path.suffix.lower() in PICKLES:
        content = read_pickle(path)
        entries = next((content[key] for key in METADATA if isinstance(content.get(key), Mapping)), {})
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
        tensors=tensors,
        metadata=parse_metadata({str(key): value for key, value in entries.items()}, source=str(path)),
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
        UsageError: The name ends in something else.
        OutputError: The file cannot be written.
    """
    if path.suffix.lower() != SAFETENSORS:
        raise UsageError(
            f"Checkpoints are saved as {SAFETENSORS}.",
            found=str(path),
            expected=str(path.with_suffix(SAFETENSORS)),
            next_step=f"name it {path.with_suffix(SAFETENSORS).name}",
        )
    from safetensors.torch import save_file

    # save_file refuses views and shared memory, both of which are common in state dicts
    values = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as partial:
        save_file(values, partial, metadata=format_metadata(metadata))
        _sort_header(partial)


def strip_prefixes(tensors: Mapping[str, T], *, expected: Collection[str] = ()) -> dict[str, T]:
    """Remove what wrapping modules put before every name.

    Args:
        tensors: Weights by name.
        expected: Names that stay as they are, because the model has them.

    >>> list(strip_prefixes({"module._orig_mod.head.bias": 0, "module._orig_mod.head.weight": 0}))
    ['head.bias', 'head.weight']
    """
    named = {name: tensor for name, tensor in tensors.items() if name != AVERAGE_COUNT or name in expected}
    while not any(name in expected for name in named):
        prefix = next((prefix for prefix in PREFIXES if named and all(map(_starts(prefix), named))), None)
        if prefix is None:
            break
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return {name.replace("._orig_mod.", "."): tensor for name, tensor in named.items()}  # a compiled submodule


def _starts(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


def _check_file(path: Path) -> None:
    expected = ", ".join((SAFETENSORS, *PICKLES)) + " files"
    try:
        if path.is_file():
            with path.open("rb") as file:
                empty = not file.read(1)
        else:
            raise FileNotFoundError(None, "a directory" if path.is_dir() else "nothing")
    except OSError as error:
        raise CheckpointError(
            f"There is no checkpoint to read at '{path}'.",
            found=error.strerror,
            expected=expected,
            next_step="check the path, or leave --checkpoint out to try a variant with random weights",
        ) from error
    if empty:
        raise CheckpointError(
            f"The checkpoint '{path}' is empty.",
            found="0 bytes",
            expected="saved weights",
            next_step="copy the file again, or save it again where it was trained",
        )


def _read_safetensors(path: Path) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        raise damaged(path, expected="a complete safetensors file", error=error) from error


def _unwrap(content: Mapping[Any, Any], *, path: Path, progress: Progress) -> tuple[str, dict[str, torch.Tensor]]:
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


def _state_dicts(content: Mapping[Any, Any], *, where: str = "") -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    import torch

    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    inside = [
        found
        for key in WRAPPERS
        if isinstance(inner := content.get(key), Mapping) and where.count(".") < 2
        for found in _state_dicts(inner, where=f"{where}{key}.")
    ]
    yield from inside
    if not inside and tensors and all(isinstance(name, str) for name in tensors):
        yield where.rstrip("."), tensors


def _sort_header(path: Path) -> None:
    """Order the header's keys. safetensors writes its metadata in the order of a hash table, new in every process."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        metadata = header.pop("__metadata__")
        ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # the tensors' offsets count from the end of the header, which must keep its size
            file.seek(8)
            file.write(text.ljust(size))
