"""Replaces attentions that named their tensors by the chosen form, each one only after it was checked.

before: stages.0.1 (AttentionLayer as trained)
after:  stages.0.1 (TokenLayer with the reassociated form), and a record that says so
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from linglos_deploy.backends.calling import call
from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.decompositions.channels_last import OnTokens
from linglos_deploy.exporters.decompositions.costs import choose, macs
from linglos_deploy.exporters.decompositions.form import AttentionSize
from linglos_deploy.exporters.decompositions.gate import read_gate
from linglos_deploy.exporters.decompositions.layer import MapLayer, TokenLayer, read_layer
from linglos_deploy.exporters.decompositions.records import AttentionRecord
from linglos_deploy.exporters.decompositions.registry import (
    AUTO,
    MEASURED,
    REFERENCE,
    check_decomposition,
    form_names,
    load_form,
)
from linglos_deploy.models.attention import HasSaliencyGate, HasSaliencyLayer, SaliencyGate

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference, relative to the largest output, at which two forms count as the same function."""

Answer = TypeVar("Answer")
Build = Callable[[str, torch.dtype], nn.Module]
Timer = Callable[[dict[str, nn.Module], Tensor], dict[str, float]]
"""Times interchangeable modules on one input, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the rewrite is asked for.

    Attributes:
        decomposition: The form, or how to choose it.
        int8: Whether constant weights must stay in layers that INT8 can take.
        sixteen_bit: Whether the graph will be computed in 16 bits.
        timer: Times the candidates for ``measured``.

    Raises:
        UsageError: There is no such decomposition.
    """

    decomposition: str
    int8: bool = False
    sixteen_bit: bool = False
    timer: Timer | None = None

    def __post_init__(self) -> None:
        check_decomposition(self.decomposition)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A module that can be replaced.

    Attributes:
        path: Path of the attention itself.
        size: C, h and N.
        folded: What is folded besides the attention's own products.
        build: Makes the replacement in a form and an element type.
        sample: What the module read in a run at the nominal resolution.
    """

    path: str
    size: AttentionSize
    folded: tuple[str, ...]
    build: Build
    sample: Tensor


def rewrite_attention(module: nn.Module, inputs: Mapping[str, Tensor], request: Request) -> tuple[AttentionRecord, ...]:
    """Rewrite every attention in ``module``, in place, and say what was decided for each.

    A layer is tried as a whole first (:class:`HasSaliencyLayer`), then the attention inside it
    (:class:`HasSaliencyGate`). One that cannot be rewritten stays as it is; its record says why.

    Args:
        module: In evaluation mode.
        inputs: The module's inputs at their nominal sizes.
        request: The form, and what the graph is for.
    """
    parts = {path: part for path, part in module.named_modules(remove_duplicate=False) if _takes_part(part)}
    if not parts:
        return ()
    samples = _record_inputs(module, parts, inputs)
    records: list[AttentionRecord] = []
    done: list[str] = []
    for path, part in parts.items():
        if any(path.startswith(f"{outer}.") for outer in done):
            continue
        record, replacement = _decide(path, part, samples.get(path), request)
        if record is None:  # a layer that is left alone: the attention inside it has its turn
            continue
        records.append(record)
        if replacement is not None:
            _replace(module, path, replacement)
            done.append(path)
    return tuple(records)


def _takes_part(part: nn.Module) -> bool:
    return isinstance(part, HasSaliencyLayer | HasSaliencyGate)


def _record_inputs(module: nn.Module, parts: dict[str, nn.Module], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run the module once and return what each part read, for those that read exactly one tensor."""
    samples: dict[str, Tensor] = {}
    handles = []
    for path, part in parts.items():

        def keep(_: nn.Module, inputs: tuple[object, ...], *, path: str = path) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor):
                samples[path] = inputs[0].detach().clone()

        handles.append(part.register_forward_pre_hook(keep))
    try:
        with torch.no_grad():
            call(module, inputs)
    except Exception:
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return samples


def _decide(
    path: str, part: nn.Module, sample: Tensor | None, request: Request
) -> tuple[AttentionRecord | None, nn.Module | None]:
    whole_layer = isinstance(part, HasSaliencyLayer)
    try:
        candidate = _candidate(path, part, sample, request)
        form, reason, times = _choose(candidate, request)
        if form == REFERENCE:
            return (None if whole_layer else _record(candidate, form, reason, times, folded=()), None)
        _check_equal(part, candidate, form)
        return _record(candidate, form, reason, times, folded=candidate.folded), candidate.build(form, torch.float32)
    except ExportError as error:
        if whole_layer:
            return None, None
        size = _size_of(part, sample)
        return (
            AttentionRecord(
                path=path,
                form=REFERENCE,
                channels=size.channels,
                heads=size.heads,
                positions=size.positions,
                macs_before=macs(REFERENCE, size),
                macs_after=macs(REFERENCE, size),
                folded=(),
                reason=f"left as it is: {error.message}",
            ),
            None,
        )


def _candidate(path: str, part: nn.Module, sample: Tensor | None, request: Request) -> Candidate:
    if sample is None:
        raise ExportError("it was not run, or not with one tensor")
    if part._forward_hooks or part._forward_pre_hooks:
        raise ExportError("it has forward hooks, which a rewrite would lose")
    if isinstance(part, HasSaliencyLayer):
        stated = _ask(part.saliency_layer)
        layer = _ask(lambda: read_layer(stated))
        size = _size(layer.gate.channels, layer.gate.heads, sample, channels_last=stated.attention.channels_last)

        def build_layer(form: str, dtype: torch.dtype) -> nn.Module:
            if request.int8:
                return MapLayer(layer, load_form(form), dtype=dtype)
            return TokenLayer(layer, load_form(form), dtype=dtype, sums_to_one=not request.sixteen_bit)

        return Candidate(f"{path}.attention", size, ("norm1", "norm2"), build_layer, sample)
    if not isinstance(part, HasSaliencyGate):
        raise AssertionError("only modules with a protocol are looked at")
    named = _ask(part.saliency_gate)
    gate = _ask(lambda: read_gate(named))
    channels_last = getattr(named, "channels_last", False)  # any object with the attributes will do
    size = _size(gate.channels, gate.heads, sample, channels_last=channels_last)

    def build_attention(form: str, dtype: torch.dtype) -> nn.Module:
        if channels_last:
            return OnTokens(load_form(form).on_tokens(gate, dtype=dtype))
        return load_form(form).on_maps(gate, dtype=dtype)

    return Candidate(path, size, (), build_attention, sample)


def _ask(method: Callable[[], Answer]) -> Answer:
    """Ask a module about itself; whatever goes wrong in its answer only costs it the rewrite."""
    try:
        return method()
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"it cannot name its tensors: {type(error).__name__}: {error}") from error


def _choose(candidate: Candidate, request: Request) -> tuple[str, str, dict[str, float]]:
    if request.decomposition == AUTO or (request.decomposition == MEASURED and request.int8):
        return (*choose(candidate.size, int8=request.int8), {})
    if request.decomposition != MEASURED:
        return request.decomposition, "asked for", {}
    if request.timer is None:
        raise AssertionError("a measured choice comes with a timer")
    times = request.timer({form: candidate.build(form, torch.float32) for form in form_names()}, candidate.sample[:1])
    best = min(times, key=lambda form: times[form])
    return best, "measured as the fastest", {form: round(time, 4) for form, time in times.items()}


@torch.no_grad()
def _check_equal(part: nn.Module, candidate: Candidate, form: str) -> None:
    """Run the module and its replacement side by side, on what it really read and on wilder numbers.

    Raises:
        ExportError: They differ.
    """
    generator = torch.Generator().manual_seed(0)
    wild = torch.randn(candidate.sample.shape, generator=generator) * (1 + 3 * candidate.sample.std())
    dtype = _widest(part, candidate.sample)
    original = copy.deepcopy(part).to(dtype)
    replacement = candidate.build(form, dtype)
    for sample in (candidate.sample, wild):
        expected = original(sample.to(dtype))
        found = replacement(sample.to(dtype))
        if not isinstance(expected, Tensor) or expected.shape != found.shape:
            raise ExportError("it does not return one tensor of its input's shape")
        difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        if not difference <= TOLERANCE[dtype]:
            raise ExportError(f"the tensors it names do not reproduce it: relative difference {difference:.1e}")


def _widest(part: nn.Module, sample: Tensor) -> torch.dtype:
    """Return float64 where the module can be run in it: there, only a wrong function differs."""
    try:
        copy.deepcopy(part).double()(sample[:1].double())
    except Exception:
        return torch.float32
    return torch.float64


def _record(
    candidate: Candidate, form: str, reason: str, times: dict[str, float], *, folded: tuple[str, ...]
) -> AttentionRecord:
    return AttentionRecord(
        path=candidate.path,
        form=form,
        channels=candidate.size.channels,
        heads=candidate.size.heads,
        positions=candidate.size.positions,
        macs_before=macs(REFERENCE, candidate.size),
        macs_after=macs(form, candidate.size),
        folded=folded,
        reason=reason,
        milliseconds=times,
    )


def _size_of(part: nn.Module, sample: Tensor | None) -> AttentionSize:
    """Return the size of an attention whose tensors may be wrong."""
    channels = heads = 0
    if isinstance(part, HasSaliencyGate):
        named = part.saliency_gate
        with suppress(ExportError):
            channels, heads = _ask(lambda: _stated_size(named()))
    if sample is None or not channels:
        return AttentionSize(channels, heads, 0)
    return AttentionSize(channels, heads, sample[0].numel() // channels)


def _stated_size(gate: SaliencyGate) -> tuple[int, int]:
    return len(gate.key), int(gate.heads)


def _size(channels: int, heads: int, sample: Tensor, *, channels_last: bool) -> AttentionSize:
    axis = -1 if channels_last else 1
    if sample.dim() not in ((3, 4) if channels_last else (4,)) or sample.shape[axis] != channels:
        raise ExportError(f"it reads {tuple(sample.shape)}, which does not have {channels} channels on axis {axis}")
    return AttentionSize(channels, heads, sample[0].numel() // channels)


def _replace(module: nn.Module, path: str, replacement: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, replacement.eval())
