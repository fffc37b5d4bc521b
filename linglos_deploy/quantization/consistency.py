"""Holds a quantization plan against its graph and against itself: whatever it says is carried out, or refused here.

A plan is a file that people edit. A field that says one thing while another says the opposite has no meaning, and is
refused by the name of both, rather than one of them being ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from linglos_deploy.errors import QuantizationError
from linglos_deploy.quantization.candidates import Candidate, candidates_of
from linglos_deploy.quantization.plan import (
    WEIGHT_BITS,
    NodeDecision,
    QuantPlan,
    TensorDecision,
    scale_of,
)
from linglos_deploy.quantization.ranges import LEAST_ERROR
from linglos_deploy.quantization.rounding import scale_type, scales_for

_OF_THE_GRAPH = ("node", "op_type", "output", "data", "weight", "weight_axis")


def check_plan(plan: QuantPlan, graph: ir.Graph) -> None:
    """Check that every decision of a plan can be carried out on ``graph``, and that none contradicts another.

    Raises:
        QuantizationError: A decision is missing, given twice, about something else than the graph holds, or
            contradicts another one. Names it.
    """
    candidates = candidates_of(graph)
    _check_nodes(plan, candidates)
    _check_tensors(plan, candidates)
    _check_results(plan, candidates)
    tensors = {decision.tensor: decision for decision in plan.tensors}
    for node in plan.nodes:
        _check_input(node, tensors[node.data])
    for tensor in plan.tensors:
        _check_consumers(tensor, [decision for decision in plan.nodes if decision.data == tensor.tensor])


def _check_nodes(plan: QuantPlan, candidates: tuple[Candidate, ...]) -> None:
    known = {candidate.identity: candidate for candidate in candidates}
    alike = {name: candidate for candidate in reversed(candidates) for name in (candidate.node, candidate.output)}
    decided = set()
    for decision in plan.nodes:
        candidate = known.get((decision.output, decision.node))
        candidate = candidate or alike.get(decision.output) or alike.get(decision.node)
        if candidate is None:
            raise QuantizationError(
                f"The graph has no node '{decision.node}' that the quantization plan names.",
                found=f"output '{decision.output}'",
                expected="the node and output of a convolution or linear layer of this graph",
                next_step=_AGAIN,
            )
        decided.add(candidate.identity)
        _check_node(decision, candidate, plan)
    _once("node", (decision.node for decision in plan.nodes), Counter(candidate.node for candidate in candidates))
    for candidate in candidates:
        if candidate.identity not in decided:
            raise QuantizationError(
                f"The quantization plan decides nothing about node '{candidate.node}'.",
                expected="a decision for every convolution and linear layer",
                next_step=f'give it one with "quantize": false, or {_AGAIN}',
            )


def _check_node(decision: NodeDecision, candidate: Candidate, plan: QuantPlan) -> None:
    for field in _OF_THE_GRAPH:
        _same(f"'{field}' of node '{candidate.node}'", getattr(decision, field), getattr(candidate, field))
    if not decision.quantize:
        if decision.weight_bits is not None:
            _refuse(
                f"Node '{decision.node}' stays in floating point, but its weight has bits.",
                found=f"weight_bits {decision.weight_bits}",
                expected="null",
            )
        return
    if not candidate.possible:
        _refuse(
            f"Node '{decision.node}' cannot run in INT8: {candidate.obstacle}.",
            found='"quantize": true',
            expected='"quantize": false',
        )
    if reason := plan.scheme.pattern_against(decision.node):
        _refuse(
            f"Node '{decision.node}' is to be INT8, but the plan's scheme keeps it in floating point.",
            found=reason,
            expected="one or the other",
        )
    if decision.weight_bits not in WEIGHT_BITS:
        _refuse(
            f"The weight of node '{decision.node}' has no width that can be made.",
            found=f"weight_bits {decision.weight_bits}",
            expected="8 or 7",
        )


def _check_tensors(plan: QuantPlan, candidates: tuple[Candidate, ...]) -> None:
    types = {candidate.data: scale_type(candidate.dtype, plan.scheme.floating) for candidate in candidates}
    for name in types.keys() - {decision.tensor for decision in plan.tensors}:
        raise QuantizationError(
            f"The quantization plan decides nothing about tensor '{name}'.",
            expected="a decision for every tensor that a convolution or linear layer reads",
            next_step=f'give it one with "quantize": false, or {_AGAIN}',
        )
    _once("tensor", (decision.tensor for decision in plan.tensors), Counter(types.keys()))
    for decision in plan.tensors:
        if decision.tensor not in types:
            _refuse(
                f"No convolution or linear layer reads tensor '{decision.tensor}', which the quantization plan names.",
                expected="tensors that layers of this graph read",
            )
        if not decision.quantize:
            given = {name: getattr(decision, name) for name in ("scale", "bound", "low", "high", "method")}
            if extra := {field: value for field, value in given.items() if value is not None}:
                _refuse(
                    f"Tensor '{decision.tensor}' stays in floating point, but has a range.",
                    found=", ".join(f"{field} {value}" for field, value in extra.items()),
                    expected="null",
                )
            continue
        _check_method(decision, plan)
        _check_scale(decision, types[decision.tensor])


def _check_results(plan: QuantPlan, candidates: tuple[Candidate, ...]) -> None:
    """Check the ranges of what convolutions leave behind; those of a layer that stays in floating point may wait."""
    read = {decision.tensor for decision in plan.quantized_tensors}
    known = dict.fromkeys(it.result for it in candidates if it.result is not None)
    decided = {decision.tensor for decision in plan.results} | read
    for decision in plan.results:
        if decision.tensor not in known or decision.tensor in read:
            _refuse(
                f"No decision about '{decision.tensor}' belongs among the results of the quantization plan.",
                found="a tensor that a layer reads; its range stands in 'tensors'"
                if decision.tensor in read
                else "no tensor that a convolution of this graph leaves behind",
                expected=", ".join(f"'{name}'" for name in known if name not in decided) or "no results",
                next_step="take it out of 'results'",
            )
        if not decision.quantize and (decision.low, decision.high) != (None, None):
            _refuse(
                f"Tensor '{decision.tensor}' stays in floating point, but has a range.",
                found=f"low {decision.low}, high {decision.high}",
                expected="null",
            )
    _once("result", (decision.tensor for decision in plan.results), Counter(known.keys()))


def _check_method(decision: TensorDecision, plan: QuantPlan) -> None:
    if decision.method is None:
        return
    allowed = dict.fromkeys((plan.scheme.method, *LEAST_ERROR))
    if decision.method not in allowed:
        _refuse(
            f"The method of tensor '{decision.tensor}' is none that the plan's scheme uses.",
            found=f"method '{decision.method}'; a method is a record, and its bound is not computed from it here",
            expected=f"{' or '.join(map(repr, allowed))}, or null where you set the bound",
            next_step="set the method to null, or make the plan again with 'linglos-deploy quantize'",
        )
    if decision.bound is None:
        _refuse(
            f"Tensor '{decision.tensor}' has a method, but not the bound that it found.",
            found=f"method '{decision.method}', bound null",
            expected="both, or a scale alone",
            next_step="set the method to null, too",
        )


def _check_scale(decision: TensorDecision, dtype: Any) -> None:
    if decision.scale is None:
        return
    if decision.bound is None:
        expected = float(scales_for(decision.scale, limit=1, dtype=dtype))
        what = f"the number of {dtype} above it"
    else:
        expected = scale_of(replace(decision, scale=None), dtype)
        what = f"what the bound {decision.bound!r} gives in {dtype}"
    if decision.scale != expected:
        _refuse(
            f"The scale of tensor '{decision.tensor}' does not follow from its bound.",
            found=f"scale {decision.scale!r}",
            expected=f"{expected!r}, {what}",
            next_step="set the scale to null to have it computed from the bound, or the bound to null",
        )


def _check_input(node: NodeDecision, tensor: TensorDecision) -> None:
    listed = node.node in tensor.consumers
    if node.quantize and not tensor.quantize:
        _refuse(
            f"Node '{node.node}' is to be INT8, but its input '{tensor.tensor}' stays in floating point.",
            found=f"tensor '{tensor.tensor}': \"quantize\": false",
            expected="both, or neither",
            next_step=f"set quantize of node '{node.node}' to false and its weight_bits to null",
        )
    if node.quantize and not listed:
        _refuse(
            f"Node '{node.node}' is to be INT8, but does not read '{tensor.tensor}' in INT8.",
            found=f"consumers {list(tensor.consumers)}",
            expected=f"'{node.node}' among them",
            next_step=f"add it, or set quantize of node '{node.node}' to false and its weight_bits to null",
        )


def _check_consumers(tensor: TensorDecision, readers: Sequence[NodeDecision]) -> None:
    if tensor.quantize != bool(tensor.consumers):
        _refuse(
            f"Tensor '{tensor.tensor}' is {'' if tensor.quantize else 'not '}to be quantized, "
            f"but has {'no ' if tensor.quantize else ''}consumers in INT8.",
            found=f"consumers {list(tensor.consumers)}",
            expected="at least one" if tensor.quantize else "none",
        )
    integer = Counter(reader.node for reader in readers if reader.quantize)
    for name in tensor.consumers:
        if name not in integer:
            why = "stays in floating point" if any(reader.node == name for reader in readers) else "does not read it"
            _refuse(
                f"Node '{name}' is listed as a consumer of tensor '{tensor.tensor}', but {why}.",
                found=f"consumers {list(tensor.consumers)}",
                expected="names of INT8 nodes that read it",
                next_step=f"take '{name}' out of the consumers",
            )
    _once(f"for tensor '{tensor.tensor}' the consumer", tensor.consumers, integer)


def _once(what: str, names: Iterable[str], allowed: Counter[str]) -> None:
    for name, count in Counter(names).items():
        if count > max(allowed[name], 1):
            _refuse(f"The quantization plan names {what} '{name}' {count} times.", expected="once")


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        _refuse(
            f"The quantization plan and the graph disagree on {what}.",
            found=repr(found),
            expected=f"{expected!r}, as in the graph",
        )


_AGAIN = "make the plan again with 'linglos-deploy quantize'"


def _refuse(message: str, *, found: str | None = None, expected: str | None = None, next_step: str = _AGAIN) -> None:
    raise QuantizationError(message, found=found, expected=expected, next_step=next_step)
