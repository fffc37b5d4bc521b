"""A PyTorch module becomes a raw ONNX graph: capture with ``torch.export``, translate with PyTorch's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
import torch

from linglos_deploy.errors import ExportError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.signature import Dim

AXES = ("batch", "channels", "height", "width")


@dataclass(frozen=True, slots=True)
class Trace:
    """What came out of PyTorch.

    Attributes:
        model: The graph, as PyTorch's exporter leaves it.
        output_shapes: One shape per output; dynamic sizes are named after the input's, such as ``"height_div_32"``.
        parameter_names: Names that PyTorch gives to the weights.
    """

    model: onnx.ModelProto
    output_shapes: tuple[tuple[Dim, ...], ...]
    parameter_names: frozenset[str]


def trace(
    module: torch.nn.Module,
    config: ExportConfig,
    *,
    image_size: tuple[int, int],
    size_divisor: int,
    output_names: tuple[str, ...],
) -> Trace:
    """Capture and translate a module.

    Args:
        module: In evaluation mode; takes float32 N x 3 x H x W.
        config: Which axes are dynamic, and the opset.
        image_size: Nominal height and width, in pixels.
        size_divisor: Height and width are multiples of this.
        output_names: One name per tensor that the module returns.

    Raises:
        ExportError: PyTorch cannot capture or translate the module, or it returns another number of tensors.
    """
    dynamic = ((0,) if config.batch is None else ()) + ((2, 3) if config.dynamic else ())
    image = torch.zeros(2 if config.batch is None else config.batch, 3, *image_size)
    with quiet_exporter():
        program = _capture(module, image, dynamic)
        outputs = [node.meta["val"] for node in program.graph.output_node().args[0]]
        if len(outputs) != len(output_names):
            raise ExportError(
                "The module does not return what its output names promise.",
                found=f"{len(outputs)} tensors",
                expected=f"{len(output_names)}: {', '.join(output_names)}",
            )
        model = _translate(program, config.opset, output_names)
    symbols = _symbols(program, dynamic)
    return Trace(
        model=model,
        output_shapes=tuple(
            tuple(_dim(size, symbols, size_divisor, f"{name}_{axis}") for axis, size in enumerate(value.shape))
            for name, value in zip(output_names, outputs, strict=True)
        ),
        parameter_names=frozenset(program.state_dict),
    )


def capture_and_translate(module: torch.nn.Module, sample: torch.Tensor, *, opset: int) -> onnx.ModelProto:
    """Return the raw graph of a module with one input ``image`` and one output ``result``, all sizes fixed.

    Raises:
        ExportError: PyTorch cannot capture or translate the module.
    """
    with quiet_exporter():
        return _translate(_capture(module, sample, ()), opset, ("result",))


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hold back the exporter's remarks about itself: optional packages and its own deprecated calls."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")
    ]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _capture(module: torch.nn.Module, image: torch.Tensor, dynamic: tuple[int, ...]) -> torch.export.ExportedProgram:
    spec = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    try:
        with torch.no_grad():
            return torch.export.export(module, (image,), dynamic_shapes=(spec,), strict=False)
    except Exception as error:  # whatever the user's module raises, and torch's own dozen kinds
        asked = ", ".join(AXES[axis] for axis in dynamic)
        raise ExportError(
            f"PyTorch cannot capture '{type(module).__name__}'.",
            found=useful_part(error),
            expected="a module whose path through 'forward' does not depend on tensor values or on dynamic sizes",
            next_step=f"dynamic here: {asked}; try a fixed --batch or leave --dynamic out" if dynamic else None,
        ) from error


def _translate(program: torch.export.ExportedProgram, opset: int, output_names: tuple[str, ...]) -> onnx.ModelProto:
    try:
        translated = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=list(output_names),
            optimize=True,
            verbose=False,
        )
    except Exception as error:  # the exporter raises what its translators raise
        raise ExportError(
            "PyTorch cannot translate the captured module to ONNX.",
            found=useful_part(error),
            expected="operators that have a translation in torch.onnx",
        ) from error
    if translated is None:
        raise AssertionError("torch.onnx.export returns a program when it is not given a file")
    return translated.model_proto


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


def _symbols(program: torch.export.ExportedProgram, dynamic: tuple[int, ...]) -> dict[object, str]:
    (name,) = program.graph_signature.user_inputs
    image = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    return {image.shape[axis].node.expr: AXES[axis] for axis in dynamic}


def _dim(size: int | torch.SymInt, symbols: dict[object, str], divisor: int, fallback: str) -> Dim:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    if expression in symbols:
        return symbols[expression]
    for symbol, name in symbols.items():
        if expression.free_symbols == {symbol}:
            sizes = [int(expression.subs(symbol, scale * divisor)) for scale in (2, 3, 5, 7)]
            ratio = 2 * divisor // max(1, sizes[0])
            if [scale * divisor // ratio for scale in (2, 3, 5, 7)] == sizes and (divisor % ratio == 0):
                return f"{name}_div_{ratio}" if ratio > 1 else name
    return fallback
