"""Files look the same in every format, show first what matters, and fit into a narrow terminal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy import descriptions
from linglos_deploy.bundle import FileEntry, GraphEntry, InputKind
from linglos_deploy.inspection import TableSummary, TensorSummary
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan
from linglos_deploy.quantization.scheme import QuantScheme
from linglos_deploy.reports.document import Cell, Column, Table
from linglos_deploy.reports.html import to_html
from linglos_deploy.reports.markdown import to_markdown
from linglos_deploy.reports.text import fit, shorten, to_text
from tests.test_bundle import SIGNATURE, manifest

assert descriptions  # registered how everything looks

METHODS = ("absmax", "entropy", "mse", "percentile", "weighted")


def tensor(name: str, *, maximum: float = 1.0, bound: float = 1.0, nonfinite: int = 0) -> TensorSummary:
    return TensorSummary(name, -1.0, maximum, 0.0, 0.5, nonfinite, dict.fromkeys(METHODS, bound))


def table(*tensors: TensorSummary, synthetic: bool = False) -> TableSummary:
    return TableSummary("ab" * 32, "cd" * 32, 3, of_images=True, synthetic=synthetic, tools={}, tensors=tensors)


def plan(quantized: int, kept: int) -> QuantPlan:
    nodes = [
        NodeDecision(
            f"/model/features/block.{index}/attention/projection/Conv_with_a_long_name_{index}",
            "Conv",
            f"out{index}",
            index < quantized,
            "reads a tensor with a range" if index < quantized else "excluded by 'head.*', which the user asked for",
            f"/model/features/block.{index}/attention/norm/output_{index}",
            "w",
            0,
            8,
        )
        for index in range(quantized + kept)
    ]
    return QuantPlan("ab" * 32, QuantScheme(), (), tuple(nodes), "cd" * 32, "", 3, synthetic=False)


def test_tensors_with_outliers_come_first_and_those_with_nan_before_all() -> None:
    shown = to_text([table(tensor("calm"), tensor("wild", maximum=90.0), tensor("broken", nonfinite=2))])
    assert shown.index("broken") < shown.index("wild") < shown.index(" calm")
    assert "1 tensors held NaN or infinite values: broken" in shown


def test_layers_that_stay_in_floating_point_come_first_with_their_reasons_counted() -> None:
    shown = to_text([plan(30, 2)], width=200)
    assert "30 of 32 layers become INT8" in shown
    assert "2 in floating point: excluded by" in shown
    assert shown.index("long_name_31") < shown.index("long_name_0")


@pytest.mark.parametrize("value", [plan(40, 3), table(*(tensor(f"t{index}/{'x' * 50}") for index in range(40)))])
def test_a_summary_shows_ten_rows_and_says_how_to_see_the_rest(value: object) -> None:
    short, whole = (summary(value, every_row=every_row) for every_row in (False, True))
    assert "more rows; --all shows them" in short
    assert "--all" not in whole
    assert len(short.splitlines()) < len(whole.splitlines())


def summary(value: object, *, every_row: bool, width: int = 100) -> str:
    from rich.console import Console

    from linglos_deploy.reports.text import renderables

    console = Console(width=width, record=True, color_system=None, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    for part in renderables([value], every_row=every_row, width=width):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize(
    "value", [plan(3, 2), table(*(tensor(f"t{index}/{'x' * 50}/end{index}") for index in range(3)))]
)
def test_sixty_columns_are_enough_and_headings_stay_whole(value: object) -> None:
    shown = to_text([value], width=60)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 60
    rule = next(index for index, line in enumerate(shown.splitlines()) if "───" in line)
    headings = re.split(r"\s{2,}", shown.splitlines()[rule - 1].strip())
    assert "…" not in "".join(headings)
    assert headings[0] in ("layer", "tensor", "candidate")
    assert "Too narrow for: " in shown


def test_names_keep_both_ends_so_that_they_can_be_told_apart() -> None:
    names = [f"/model/features/block.{index}/attention/projection/Conv_{index}" for index in range(20)]
    assert len({shorten(name, 24) for name in names}) == 20
    assert shorten("short", 24) == "short"


@given(
    st.lists(st.tuples(st.text("abc/_.", max_size=60), st.text("abc ", max_size=80)), min_size=1, max_size=5),
    st.integers(48, 120),
)
def test_a_table_of_names_and_sentences_always_fits(rows: list[tuple[str, str]], width: int) -> None:
    cells = tuple((Cell(name), Cell("123456"), Cell(why), Cell("extra" * 9)) for name, why in rows)
    columns = (Column("name"), Column("n", numeric=True), Column("why", prose=True), Column("more", minor=True))
    fitting = fit(Table("t", columns, cells), width)
    names = max(len(row[0].text) for row in fitting.rows)
    prose = max(len(row[2].text) for row in fitting.rows)
    assert names + 6 + min(prose, 20) + 3 * len(fitting.columns) <= width
    assert len(fitting.rows) == len(rows)


def test_the_same_facts_are_in_every_format() -> None:
    value = table(tensor("a"), synthetic=True)
    for text in (to_text([value]), to_html([value]), to_markdown([value])):
        assert "1 tensors seen on 3 synthetic images" in text
        assert "clip mse" in text
        assert "useless for accuracy" in text


def test_names_within_a_reason_are_shortened_and_not_broken() -> None:
    name = "decoder.layers.11.self_attention.value_projection/MatMul_output_0"
    reason = f"its input '{name}' stays in floating point"
    decision = NodeDecision("n" * 60, "MatMul", "y", False, reason, "x", "w", 1, None)
    shown = summary(replace(plan(0, 0), nodes=(decision,)), every_row=True, width=100)
    table = shown.partition("Too narrow")[0]
    assert re.search(r"'decod\S*…\S*output_0'", table)
    assert name not in shown.replace("\n", "").partition("Too narrow")[0]


def test_only_images_are_called_images() -> None:
    assert "ranges from 3 samples" in to_text([plan(1, 0)])
    assert "ranges from 3 images" in to_text([replace(plan(1, 0), preprocess_digest="ef" * 32)])
    assert "seen on 3 images" in to_text([table(tensor("a"))])
    assert "seen on 3 synthetic samples" in to_text([replace(table(tensor("a"), synthetic=True), of_images=False)])


def test_a_bundle_says_what_each_graph_is_made_for_and_how_onnxruntime_must_be_told() -> None:
    made_for_x86 = GraphEntry(
        "model.int8.x86.onnx",
        "int8",
        InputKind.TENSOR,
        SIGNATURE,
        session_options={"session.x64quantprecision": "1"},
        runtimes=("onnxruntime",),
        machines=("x86_64", "AMD64"),
    )
    files = {name: FileEntry(8, "ab" * 32) for name in ("model.onnx", made_for_x86.file)}
    held = replace(manifest(), graphs=(*manifest().graphs, made_for_x86), files=files)
    shown = to_text([held], width=200)
    assert "any ONNX runtime" in shown
    assert "onnxruntime on x86_64, AMD64; onnxruntime with session.x64quantprecision=1" in shown
