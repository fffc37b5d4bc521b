from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx
import onnx_ir as ir
import pytest
from onnx import defs, helper

from linglos_deploy.graph.operators import Operator, OutputAxis, Quantized, Risk, Work, operator, operators

ROWS = {row.op_type: row for row in operators()}
VARIADIC = defs.OpSchema.FormalParameterOption.Variadic
OPTIONAL = defs.OpSchema.FormalParameterOption.Optional


@cache
def history() -> dict[str, list[defs.OpSchema]]:
    """Return the schemas of every operator that was ever in use, oldest first."""
    found: dict[str, list[defs.OpSchema]] = {}
    for schema in sorted(defs.get_all_schemas_with_history(), key=lambda schema: schema.since_version):
        if schema.domain == "" and not schema.deprecated:
            found.setdefault(schema.name, []).append(schema)
    return found


def newest(row: Operator) -> defs.OpSchema:
    return history()[row.op_type][-1]


def types_of(schema: defs.OpSchema, index: int) -> set[str]:
    """Return the element types that an input takes."""
    parameter = schema.inputs[index]
    for constraint in schema.type_constraints:
        if constraint.type_param_str == parameter.type_str:
            return set(constraint.allowed_type_strs)
    return {parameter.type_str}


def rows_where(wrong: Callable[[Operator], bool]) -> list[str]:
    return [row.op_type for row in operators() if wrong(row)]


def test_every_operator_of_onnx_has_a_row_and_every_row_an_operator() -> None:
    assert set(ROWS) == set(history())


def test_the_inputs_of_every_row_exist_in_onnx() -> None:
    def wrong(row: Operator) -> bool:
        named = [*row.data, *row.weights, *row.float32_inputs, *([] if row.bias is None else [row.bias])]
        return any(not 0 <= index < len(newest(row).inputs) for index in named)

    assert not rows_where(wrong)
    assert not rows_where(lambda row: list(row.data) != sorted(set(row.data)))


def test_every_row_says_whether_onnx_takes_any_number_of_inputs() -> None:
    def variadic(row: Operator) -> bool:
        inputs = newest(row).inputs
        return bool(inputs) and inputs[-1].option == VARIADIC

    assert not rows_where(lambda row: row.variadic != variadic(row))
    assert not rows_where(lambda row: row.variadic and row.data[-1:] != (len(newest(row).inputs) - 1,))


def test_every_input_that_onnx_takes_as_float32_and_never_as_float16_stays_so() -> None:
    def float32_only(schema: defs.OpSchema, index: int) -> bool:
        types = types_of(schema, index)
        return "tensor(float)" in types and "tensor(float16)" not in types

    def wrong(row: Operator) -> bool:
        needed = {index for index in range(len(newest(row).inputs)) if float32_only(newest(row), index)}
        return not needed.issubset(row.float32_inputs)

    assert not rows_where(wrong)
    assert not rows_where(
        lambda row: any("tensor(float)" not in types_of(newest(row), index) for index in row.float32_inputs)
    )


def test_every_operator_that_moves_values_has_one_data_input_and_keeps_its_type() -> None:
    def wrong(row: Operator) -> bool:
        kept = len(row.data) == 1 and newest(row).outputs[0].type_str == newest(row).inputs[row.data[0]].type_str
        return row.layout and not (kept and not row.variadic and row.work is Work.NONE and row.risk is None)

    assert not rows_where(wrong)


def test_every_row_says_when_the_type_of_the_result_is_not_that_of_the_inputs() -> None:
    def wrong(row: Operator) -> bool:
        made, taken = newest(row).outputs[0].type_str, {parameter.type_str for parameter in newest(row).inputs}
        whole = not any(name.startswith(("seq", "optional", "S", "V")) for name in (made, *taken))
        return not row.subgraphs and whole and made not in taken and not row.sets_type

    assert not rows_where(wrong)


def test_subgraphs_are_said_where_onnx_has_graphs_as_attributes() -> None:
    graph = defs.OpSchema.AttrType.GRAPH
    assert not rows_where(
        lambda row: row.subgraphs != any(each.type == graph for each in newest(row).attributes.values())
    )


def test_every_weight_is_there_in_every_node_and_holds_numbers() -> None:
    def wrong(row: Operator) -> bool:
        inputs = newest(row).inputs
        return any(
            inputs[index].option == OPTIONAL or not types_of(newest(row), index) & {"tensor(float)", "tensor(int8)"}
            for index in row.weights
        )

    assert not rows_where(wrong)


def test_whatever_runs_in_int8_takes_floats_and_gives_them() -> None:
    def wrong(row: Operator) -> bool:
        taken = all("tensor(float)" in types_of(newest(row), index) for index in row.data)
        return row.quantized is not Quantized.NONE and not (taken and not row.sets_type)

    assert not rows_where(wrong)


@pytest.mark.parametrize(
    ("op_type", "weight", "rank", "transposed", "axis"),
    [
        ("Conv", 1, 4, False, 0),
        ("Conv", 1, 3, False, 0),
        ("ConvTranspose", 1, 5, False, 1),
        ("Gemm", 1, 2, False, 1),
        ("Gemm", 1, 2, True, 0),
        ("Gemm", 0, 2, False, 0),
        ("Gemm", 0, 2, True, 1),
        ("MatMul", 1, 2, False, 1),
        ("MatMul", 1, 3, False, 2),
        ("MatMul", 0, 2, False, 0),
        ("MatMul", 0, 3, False, 1),
        ("MatMul", 1, 1, False, None),
        ("Relu", 1, 2, False, None),
    ],
)
def test_output_channels_lie_where_the_product_keeps_them(
    op_type: str, weight: int, rank: int, transposed: bool, axis: int | None
) -> None:
    assert operator(op_type).weight_axis(weight, rank, transposed=transposed) == axis


def test_a_row_is_found_by_name_by_a_node_of_onnx_and_by_one_of_onnx_ir() -> None:
    for node in ("Conv", helper.make_node("Conv", ["x", "w"], ["y"]), ir.Node("", "Conv", [])):
        assert operator(node) is ROWS["Conv"]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Conv", ["x", "w"], ["y"], domain="com.example"),
        ir.Node("com.microsoft", "Attention", []),
        "Frobnicate",
    ],
)
def test_an_operator_that_the_table_does_not_know_gets_the_careful_answer(node: onnx.NodeProto | ir.Node | str) -> None:
    row = operator(node)
    assert not row.known
    assert row.data_inputs(3) == (0, 1, 2)
    assert row.quantized is Quantized.NONE
    assert row.risk is Risk.UNKNOWN
    assert not row.layout
    assert row.work is Work.UNKNOWN


def test_data_inputs_stop_at_the_inputs_that_a_node_has() -> None:
    assert operator("Concat").data_inputs(3) == (0, 1, 2)
    assert operator("Resize").data_inputs(4) == (0,)
    assert operator("LSTM").data_inputs(3) == (0,)
    assert operator("If").data_inputs(1) == ()


def test_output_axes_are_given_where_a_scale_per_channel_is_needed() -> None:
    layers = {row.op_type: row.output_axis for row in operators() if row.layer}
    assert None not in layers.values()
    assert (
        layers.items()
        >= {
            "Conv": OutputAxis.FIRST,
            "ConvTranspose": OutputAxis.SECOND,
            "Gemm": OutputAxis.KEPT,
            "MatMul": OutputAxis.KEPT,
        }.items()
    )
