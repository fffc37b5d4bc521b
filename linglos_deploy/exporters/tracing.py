"""A PyTorch module becomes a raw ONNX graph: capture with ``torch.export``, translate with PyTorch's exporter."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any, TextIO, cast

import onnx
import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.optimizer import fold_constants_ir
from torch import Tensor, nn
from torch.fx import config as fx_config
from torch.nn.modules import transformer

from linglos_deploy.artifacts import BATCH_AXIS, TorchModel
from linglos_deploy.backends.calling import Flat
from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.exporters.folding import FoldBatchNorms
from linglos_deploy.signature import Dim
from linglos_deploy.tasks.translations import TRANSLATIONS

Axis = tuple[str, int]
"""An input and one of its axes."""

TRACED_BATCH = 2
"""Samples that an open batch is captured with: PyTorch takes a size of one for a fixed one."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What came out of PyTorch.

    Attributes:
        model: The graph, as PyTorch's exporter leaves it.
        input_shapes: One shape per input.
        output_shapes: One shape per output; dynamic sizes are named after the inputs', such as ``"height_div_32"``
            or ``"height_times_2"``.
        parameter_names: What PyTorch calls each weight, by its name in the graph.
        warnings: Which axes became fixed, or which sizes the graph is limited to.
    """

    model: onnx.ModelProto
    input_shapes: tuple[tuple[Dim, ...], ...]
    output_shapes: tuple[tuple[Dim, ...], ...]
    parameter_names: Mapping[str, str]
    warnings: tuple[str, ...]


def trace(model: TorchModel, module: nn.Module, config: ExportConfig) -> Trace:
    """Capture and translate a module with as many open axes as it allows.

    A batch that the module fixes becomes one sample, and the warnings say so; other axes are open only where they were
    asked for, so there it is an error.

    Args:
        model: What it takes and returns.
        module: In evaluation mode; ``model``'s own, or what it was rewritten to.
        config: Which axes are dynamic, and the opset.

    Raises:
        ExportError: PyTorch cannot capture or translate the module, it fixes an axis that should stay open, or it
            returns another number of tensors than there are output names.
    """
    flat = Flat(module, [spec.name for spec in model.inputs])
    with quiet_exporter():
        captured = _capture_open(flat, model, config)
        outputs = [node.meta["val"] for node in captured.program.graph.output_node().args[0]]
        if len(outputs) != len(model.output_names):
            raise ExportError(
                "The module does not return what its output names promise.",
                found=f"{len(outputs)} tensors",
                expected=f"{len(model.output_names)}: {', '.join(model.output_names)}",
            )
        graph = _translate(captured.program, config.opset, list(flat.input_names), list(model.output_names))
    sizes = captured.sizes([spec.name for spec in model.inputs])
    symbols = {size.node.expr: captured.named[axis] for axis, size in sizes.items() if not isinstance(size, int)}
    return Trace(
        model=graph,
        input_shapes=_input_shapes(model, captured),
        output_shapes=tuple(
            tuple(_dim(size, symbols, model.size_divisor, f"{name}_{axis}") for axis, size in enumerate(value.shape))
            for name, value in zip(model.output_names, outputs, strict=True)
        ),
        parameter_names={name: name.removeprefix(f"{Flat.PREFIX}.") for name in captured.program.state_dict},
        warnings=captured.warnings,
    )


def capture_and_translate(module: nn.Module, sample: Tensor, *, opset: int) -> onnx.ModelProto:
    """Return the raw graph of a module with one input ``image`` and one output ``result``, all sizes fixed.

    Raises:
        ExportError: PyTorch cannot capture or translate the module.
    """
    with quiet_exporter():
        try:
            program = _export(module, (sample,), None)
        except Exception as error:  # what the user's module raises, and torch's own dozen kinds
            raise _cannot_capture(module, error) from error
        return _translate(program, opset, ["image"], ["result"])


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hold back the exporter's remarks about itself: optional packages, captured graphs, its own deprecated calls.

    Nor does it note for each node where in Python it was made, which the graph does not keep, and which takes half of
    the time of a large capture.
    """
    before, traces = logging.root.manager.disable, fx_config.do_not_emit_stack_traces
    logging.disable(max(before, logging.WARNING))
    fx_config.do_not_emit_stack_traces = True
    try:
        with warnings.catch_warnings(), redirect_stderr(cast(TextIO, _WithoutGraphs())):
            warnings.simplefilter("ignore")
            yield
    finally:
        fx_config.do_not_emit_stack_traces = traces
        logging.disable(before)


class _WithoutGraphs:
    """Standard error without the graph of what was captured so far, which PyTorch prints when it gives up."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._dropped = False

    def write(self, text: str) -> int:
        """Write what is no graph, nor the end of its line."""
        graph = "def forward(self" in text
        drop = graph or (self._dropped and text == "\n")
        self._dropped = graph
        return len(text) if drop else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass(frozen=True, slots=True)
class _Captured:
    """A captured program and what its capture cost.

    Attributes:
        program: The program of :class:`Flat`.
        named: The input axes that have names and were meant to stay open.
        warnings: Which of them did not, and which sizes the others are limited to.
    """

    program: torch.export.ExportedProgram
    named: Mapping[Axis, str]
    warnings: tuple[str, ...] = ()

    def values(self) -> dict[str, Tensor]:
        """Return the symbolic tensor of each input that the program reads, by the program's own name."""
        wanted = self.program.graph_signature.user_inputs
        return {node.name: node.meta["val"] for node in self.program.graph.nodes if node.name in wanted}

    def sizes(self, inputs: Sequence[str]) -> dict[Axis, int | torch.SymInt]:
        """Return the size of each named axis: a number where the capture fixed it."""
        values = dict(zip(inputs, self.values().values(), strict=True))
        return {axis: _plain(values[axis[0]].shape[axis[1]]) for axis in self.named}


def _plain(size: int | torch.SymInt) -> int | torch.SymInt:
    """Return a number where a symbol was found to be one."""
    return int(size) if isinstance(size, torch.SymInt) and size.node.expr.is_number else size


def _capture_open(flat: Flat, model: TorchModel, config: ExportConfig) -> _Captured:
    """Capture with open axes, or with those of them that the module leaves open."""
    named = _open_axes(model, config)
    if not named:
        return _capture_fixed(flat, model, batch=config.batch or 1)
    sample = _sample(model, batch=config.batch or TRACED_BATCH)
    try:
        program = _export(flat, sample, _dynamic_shapes(model, named, torch.export.Dim.DYNAMIC))
        return _Captured(program, named, _limits(program, model, named))
    except Exception as error:  # what the user's module raises, and torch's own dozen kinds
        reason = error
    try:
        captured = _Captured(_export(flat, sample, _dynamic_shapes(model, named, torch.export.Dim.AUTO)), named)
    except Exception as error:
        if config.dynamic:
            raise _cannot_capture(flat.module, reason, named) from error
        captured = None
    fixed = dict(named) if captured is None else _fixed(captured, model)
    asked = sorted({name for name in fixed.values() if name != BATCH_AXIS})
    if asked:
        raise _cannot_stay_open(flat.module, captured, model, asked) from reason
    if captured is not None and not fixed:
        return _Captured(captured.program, named, _limits(captured.program, model, named))
    rest = {axis: name for axis, name in named.items() if name != BATCH_AXIS}
    found = "it computes with the batch as a number" if captured is not None else _first_sentence(reason)
    why = f"The module fixes the batch, so the graph takes 1 sample at a time ({found})."
    again = _capture_rest(flat, model, rest)
    return _Captured(again.program, again.named, (why, *again.warnings))


def _capture_rest(flat: Flat, model: TorchModel, named: Mapping[Axis, str]) -> _Captured:
    """Capture one sample with the other axes open."""
    if not named:
        return _capture_fixed(flat, model, batch=1)
    try:
        program = _export(flat, _sample(model, batch=1), _dynamic_shapes(model, named, torch.export.Dim.DYNAMIC))
    except Exception as error:
        raise _cannot_capture(flat.module, error, named) from error
    return _Captured(program, named, _limits(program, model, named))


def _capture_fixed(flat: Flat, model: TorchModel, *, batch: int) -> _Captured:
    try:
        return _Captured(_export(flat, _sample(model, batch=batch), None), {})
    except Exception as error:
        raise _cannot_capture(flat.module, error) from error


def _open_axes(model: TorchModel, config: ExportConfig) -> dict[Axis, str]:
    return {
        (spec.name, axis): dim
        for spec in model.inputs
        for axis, dim in enumerate(spec.dims)
        if isinstance(dim, str) and (config.batch is None if dim == BATCH_AXIS else config.dynamic)
    }


def _sample(model: TorchModel, *, batch: int) -> tuple[Tensor, ...]:
    shapes = model.input_shapes(batch=batch)
    return tuple(torch.zeros(shapes[spec.name], dtype=getattr(torch, spec.dtype)) for spec in model.inputs)


def _dynamic_shapes(model: TorchModel, named: Mapping[Axis, str], hint: object) -> tuple[tuple[dict[int, object], ...]]:
    return (
        tuple({axis: hint for axis in range(len(spec.dims)) if (spec.name, axis) in named} for spec in model.inputs),
    )


def _export(module: nn.Module, sample: tuple[Tensor, ...], dynamic: object) -> torch.export.ExportedProgram:
    with torch.no_grad(), _masks_taken_as_given():
        return torch.export.export(module, sample, dynamic_shapes=dynamic, strict=False)  # type: ignore[arg-type]


@contextmanager
def _masks_taken_as_given() -> Iterator[None]:
    """Keep PyTorch's transformer from looking into its masks, whether they are causal: a capture cannot answer.

    It asks only to leave such a mask out where a kernel knows it already; a mask that stays in says the same.
    """
    before = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = before


def _fixed(captured: _Captured, model: TorchModel) -> dict[Axis, str]:
    """Return the axes that should have stayed open and did not."""
    sizes = captured.sizes([spec.name for spec in model.inputs])
    return {axis: name for axis, name in captured.named.items() if isinstance(sizes[axis], int)}


SIZE = re.compile(r"L\['inputs'\]\[(\d+)\]\.size\(\)\[(\d+)\]")
"""How a guard of torch.export spells the size of an axis of one of :class:`Flat`'s inputs."""


def _guards(program: torch.export.ExportedProgram, model: TorchModel) -> tuple[str, ...]:
    """Return what the capture took for granted about sizes, such as ``"height % 8 == 0"``."""
    names = [spec.name for spec in model.inputs]

    def readable(match: re.Match[str]) -> str:
        position, axis = int(match[1]), int(match[2])
        dim = model.inputs[position].dims[axis]
        return dim if isinstance(dim, str) else f"{names[position]}.shape[{axis}]"

    found = [SIZE.sub(readable, guard) for guard in getattr(program, "_guards_code", ())]
    return tuple(dict.fromkeys(re.sub(r"^\(([^()]*)\)(?= ==)", r"\1", guard) for guard in found))


def _limits(program: torch.export.ExportedProgram, model: TorchModel, named: Mapping[Axis, str]) -> tuple[str, ...]:
    """Return a warning for what limits the open axes beyond the model's own divisor.

    The capture notes dozens of conditions that hold for every size one would use; what is told is what fails for some.
    """
    sizes = [{name: _probe_size(model, name, step) for name in set(named.values())} for step in range(len(PROBES))]
    limits = [guard for guard in _guards(program, model) if not all(_holds(guard, probe) for probe in sizes)]
    open_names = ", ".join(dict.fromkeys(named.values()))
    return (f"The graph is right only where {' and '.join(limits[:4])} (open: {open_names}).",) if limits else ()


PROBES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Shares of the nominal size at which conditions on sizes are tried."""


def _probe_size(model: TorchModel, name: str, step: int) -> int:
    """Return one of the sizes that an axis should take: a batch from 2, and multiples of what an image needs."""
    if name == BATCH_AXIS:
        return TRACED_BATCH + step
    unit = model.size_divisor if name in ("height", "width") else 1
    return max(int(model.sizes[name] * PROBES[step]) // unit, 2) * unit


def _holds(guard: str, sizes: Mapping[str, int]) -> bool:
    try:
        return bool(eval(guard, {"__builtins__": {}, "Max": max, "Min": min, "Mod": int.__mod__}, dict(sizes)))
    except Exception:  # a condition on something else than named sizes
        return True


def _cannot_capture(module: nn.Module, error: BaseException, named: Mapping[Axis, str] | None = None) -> ExportError:
    asked = ", ".join(dict.fromkeys((named or {}).values()))
    return ExportError(
        f"PyTorch cannot capture '{type(module).__name__}'.",
        found=useful_part(error),
        expected="a module whose path through 'forward' does not depend on tensor values or on dynamic sizes",
        next_step=f"dynamic here: {asked}; try a fixed --batch or leave --dynamic out"
        if asked
        else "write a branch on values with torch.where or torch.cond; see docs/models.md",
    )


def _cannot_stay_open(
    module: nn.Module, captured: _Captured | None, model: TorchModel, asked: Sequence[str]
) -> ExportError:
    guards = _guards(captured.program, model) if captured is not None else ()
    concerned = [guard for guard in guards if any(re.search(rf"\b{name}\b", guard) for name in asked)]
    reasons = [guard for guard in concerned if re.fullmatch(r"\w+ == \d+", guard)] or concerned[:4]
    sizes = ", ".join(f"{name} {model.sizes[name]}" for name in asked)
    other = "--imgsz" if {"height", "width"}.issuperset(asked) else "size"
    return ExportError(
        f"'{type(module).__name__}' takes one {' and one '.join(asked)} only, so that cannot be dynamic.",
        found="; ".join(reasons) or "the module computes with these sizes as numbers",
        expected="a module that derives its sizes from the input",
        next_step=f"leave --dynamic out: the graph then takes {sizes}; export one graph for each other {other}",
    )


def _first_sentence(error: BaseException) -> str:
    return useful_part(error).split(". ")[0].rstrip(".")


def _translate(
    program: torch.export.ExportedProgram, opset: int, input_names: list[str], output_names: list[str]
) -> onnx.ModelProto:
    try:
        translated = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=opset,
            optimize=False,
            verbose=False,
            custom_translation_table={torch.ops.aten._is_all_true.default: _is_all_true, **TRANSLATIONS},
        )
        if translated is None:
            raise AssertionError("torch.onnx.export returns a program when it is not given a file")
        fold_constants_ir(translated.model)  # what the exporter computes in the graph, such as a bias of zeros
        FoldBatchNorms()(translated.model)  # while every layer still has its own name
        translated.optimize()
        _name(translated.model.graph, input_names, output_names)
    except Exception as error:  # the exporter raises what its translators raise
        raise ExportError(
            "PyTorch cannot translate the captured module to ONNX.",
            found=useful_part(error),
            expected="operators that have a translation in torch.onnx",
        ) from error
    graph = translated.model_proto
    versions = {entry.domain: entry.version for entry in graph.opset_import}
    if versions.get("") != opset:
        raise ExportError(
            f"PyTorch's exporter wrote another opset than {opset}.",
            found=str(versions.get("")),
            expected=str(opset),
            next_step="ask for the default opset",
        )
    return graph


def _is_all_true(self: Any) -> Any:
    """Translate ``aten._is_all_true``, which PyTorch's exporter does not know: the least of zeros and ones."""
    numbers: Any = op.Cast(self, to=onnx.TensorProto.INT32)
    least: Any = op.ReduceMin(numbers, keepdims=False)
    return op.Cast(least, to=onnx.TensorProto.BOOL)


def _name(graph: ir.Graph, input_names: list[str], output_names: list[str]) -> None:
    """Name inputs and outputs; whatever else has one of these names gives way."""
    wanted = dict(zip((*graph.inputs, *graph.outputs), (*input_names, *output_names), strict=True))
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.outputs:
            if value.name in wanted.values():
                value.name = f"{value.name}_inside"
    for value in list(graph.initializers.values()):
        if value.name in wanted.values():
            value.name = f"{value.name}_inside"
    for value, name in wanted.items():
        value.name = name


def useful_part(error: BaseException) -> str:
    """Return the sentences of the innermost error, without PyTorch's advice, captured graphs and stack traces."""
    while (inner := error.__cause__) is not None:
        error = inner
    lines = []
    for line in str(error).strip().splitlines():
        if line.startswith(
            ("from user code", "The following call", "Traceback", "For more information", "Exported program")
        ):
            break
        if line.strip():
            lines.append(line.strip())
        if len(lines) == 4:
            break
    return f"{type(error).__name__}: {' '.join(lines)}"[:600]


def _input_shapes(model: TorchModel, captured: _Captured) -> tuple[tuple[Dim, ...], ...]:
    values = captured.values().values()
    return tuple(
        tuple(
            size if isinstance(size, int) else captured.named.get((spec.name, axis), f"{spec.name}_{axis}")
            for axis, size in enumerate(map(_plain, value.shape))
        )
        for spec, value in zip(model.inputs, values, strict=True)
    )


def _dim(size: int | torch.SymInt, symbols: dict[object, str], divisor: int, fallback: str) -> Dim:
    size = _plain(size)
    if isinstance(size, int):
        return size
    expression = size.node.expr
    if expression in symbols:
        return symbols[expression]
    for symbol, name in symbols.items():
        if expression.free_symbols == {symbol}:
            given = [scale * divisor for scale in (2, 3, 5, 7)]
            sizes = [int(expression.subs(symbol, size)) for size in given]
            if sizes == given:
                return name
            ratio, factor = given[0] // max(sizes[0], 1), sizes[0] // given[0]
            if ratio > 1 and divisor % ratio == 0 and [size // ratio for size in given] == sizes:
                return f"{name}_div_{ratio}"
            if factor > 1 and [size * factor for size in given] == sizes:  # what is sampled up
                return f"{name}_times_{factor}"
    return fallback
