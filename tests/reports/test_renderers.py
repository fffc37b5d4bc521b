from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linglos_deploy.codec import from_json, to_json
from linglos_deploy.errors import OutputError
from linglos_deploy.reports.charts import draw
from linglos_deploy.reports.document import (
    Bar,
    BarChart,
    Cell,
    Check,
    Column,
    LineChart,
    Section,
    Table,
    all_sections,
    overall,
    sections_of,
)
from linglos_deploy.reports.html import to_html, write_html
from linglos_deploy.reports.junit import write_junit
from linglos_deploy.reports.markdown import to_markdown, write_markdown
from linglos_deploy.reports.parity import LayerReport
from linglos_deploy.reports.text import fit, renderables, to_text
from tests.reports.examples import (
    NASTY,
    all_reports,
    export_report,
    layer_report,
    parity_report,
    profile_report,
)

VOID = {"meta"}


@dataclass(frozen=True)
class Anything:
    """A report type of somebody else."""

    text: str
    passed: bool | None = None


@sections_of.register
def _(report: Anything) -> tuple[Section, ...]:
    table = Table(report.text, (Column(report.text), Column("n", numeric=True)), ((Cell(report.text), Cell("1")),))
    chart = BarChart(report.text, report.text, (Bar(report.text, 1.0, report.text),))
    return (
        Section(
            title=report.text,
            passed=report.passed,
            summary=report.text,
            facts=((report.text, report.text),),
            warnings=(report.text,),
            charts=(chart,),
            tables=(table,),
            notes=(report.text,),
            checks=(Check(report.text, report.passed, report.text, report.text),),
        ),
    )


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would act on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    html = to_html(all_reports(), title=NASTY)
    page = Page(html)
    names = {name for name, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    assert not any(key in {"src", "style"} or key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all(attributes["href"].startswith("#") for name, attributes in page.tags if name == "a")
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html


def test_every_report_has_its_section_and_link_with_its_verdict() -> None:
    html = to_html([parity_report(), layer_report(), profile_report()])
    page = Page(html)
    targets = [attributes["href"][1:] for name, attributes in page.tags if name == "a" and attributes["href"]]
    assert targets == [attributes["id"] for name, attributes in page.tags if name == "section"]
    assert html.count("✗ failed") == 3  # the page, parity and latency; layers have no verdict
    assert "✓ passed" in to_html([parity_report(decibels=40)])


def test_charts_have_names_for_screen_readers_and_unique_ids() -> None:
    page = Page(to_html(all_reports()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawings = [attributes for name, attributes in page.tags if name == "svg" and "aria-hidden" not in attributes]
    assert len(drawings) >= 4
    assert all(attributes["role"] == "img" and attributes["aria-labelledby"] in ids for attributes in drawings)


def test_what_could_not_be_measured_is_shown_with_its_reason() -> None:
    for text in (to_html([profile_report()]), to_markdown([profile_report()]), to_text([profile_report()], width=200)):
        assert "no GPU found: none" in text
        assert "crashed" in text


def test_int8_is_shown_with_the_mode_in_which_it_was_computed() -> None:
    assert "int8 (exact)" in to_text([profile_report()], details=False, width=150)


def test_more_operators_than_anybody_reads_are_added_up() -> None:
    text, _, layers = to_text([profile_report()], width=160).partition("Time per layer")
    assert "4 others" in text
    assert "Op9" in text
    assert "Op10" not in text
    assert "Op10" in layers
    assert "its layers add up to 93% of the 15.0 ms of a profiled run" in to_text([profile_report()], width=400)


def test_the_same_reports_give_the_same_bytes() -> None:
    for render in (to_html, to_markdown, to_text):
        assert render(all_reports()) == render(all_reports())


@given(st.text(max_size=40), st.sampled_from([True, False, None]))
@settings(max_examples=60, deadline=None)
def test_no_text_breaks_a_format(text: str, passed: bool | None) -> None:
    report = Anything(text, passed)
    page = Page(to_html([report], title=text))
    assert not any(name == "script" for name, _ in page.tags)
    for line in to_markdown([report]).splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) == 3
    to_text([report])


def test_an_export_is_followed_by_the_reports_that_it_ran() -> None:
    titles = [section.title for section in all_sections([export_report()])]
    assert titles == ["Export of linglo_s", f"Parity of {NASTY}", "Latency", "Where the time goes"]
    assert overall(all_sections([export_report()])) is False


def test_narrow_terminals_lose_minor_columns_first_and_never_the_candidate() -> None:
    table = all_sections([profile_report()])[0].tables[0]
    widths = {width: [column.title for column in fit(table, width).columns] for width in (30, 130, 300)}
    assert widths[300] == [column.title for column in table.columns]
    assert "CV" not in widths[130]
    assert widths[30] == [column.title for column in table.columns if not column.minor]
    empty = Table("none", table.columns, ())
    assert fit(empty, 300) == empty


def test_text_without_details_is_the_verdict_the_warnings_and_one_table() -> None:
    short, long = to_text([profile_report()], details=False, width=150), to_text([profile_report()], width=150)
    assert "The machine was busy." in short
    assert "vs baseline" in short
    assert "First answer, memory and size" not in short
    assert "First answer, memory and size" in long


def test_terminal_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in to_text(all_reports())
    assert renderables([parity_report()])


def test_file_names_that_are_no_text_can_still_be_written(tmp_path: Path) -> None:
    reports = [Anything("caf\udce9.png", passed=True)]
    write_html(reports, tmp_path / "r.html")
    write_markdown(reports, tmp_path / "r.md")
    write_junit(reports, tmp_path / "r.xml")
    assert all("caf\ufffd.png" in path.read_text(encoding="utf-8").replace("\\", "") for path in tmp_path.iterdir())


def test_a_limit_far_beyond_all_bars_does_not_squash_them() -> None:
    bars = (Bar("a", 1.0, "1"), Bar("b", 2.0, "2", reach=2.5))
    near = draw(BarChart("t", "c", bars, limit=3.0), name="x")
    far = draw(BarChart("t", "c", bars, limit=100.0), name="x")
    assert 'class="limit"' in near
    assert 'class="limit"' not in far


def test_charts_without_values_are_not_drawn() -> None:
    assert draw(BarChart("t", "c", ()), name="x") == ""
    assert draw(LineChart("t", "c", ("a",), (1.0,)), name="x") == ""
    assert "<svg" in draw(BarChart("t", "c", (Bar("zero", 0.0, "0"),)), name="x")


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.none() | st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_every_point_of_a_line_lies_inside_the_drawing(values: list[float], limit: float | None) -> None:
    chart = LineChart("t", "c", tuple(map(str, values)), tuple(values), limit)
    for y in re.findall(r'cy="([^"]+)"', draw(chart, name="x")):
        assert -1 <= float(y) <= 171


def test_an_unknown_report_type_says_how_to_register_it() -> None:
    with pytest.raises(TypeError, match=r"sections_of\.register"):
        to_html([object()])


def test_a_table_with_ragged_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="another number of cells"):
        Table("t", (Column("a"), Column("b")), ((Cell("1"),),))


def test_reports_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    reports = [parity_report()]
    write_html(reports, tmp_path / "r.html")
    write_markdown(reports, tmp_path / "r.md")
    write_junit(reports, tmp_path / "r.xml")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == to_html(reports)
    assert (tmp_path / "r.md").read_text(encoding="utf-8") == to_markdown(reports)
    assert "<testsuite " in (tmp_path / "r.xml").read_text(encoding="utf-8")
    before = (tmp_path / "r.html").read_bytes()
    with pytest.raises(TypeError):
        write_html([object()], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_layers_of_a_report_without_any_are_said_to_be_none() -> None:
    empty = LayerReport("a", "b", 1, (), None, 20.0)
    assert "No tensor is below 20 dB" in to_text([empty])


def test_importing_and_rendering_needs_no_framework() -> None:
    script = (
        "import sys\n"
        "from linglos_deploy.reports import html, junit, markdown, text\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'openvino', 'jinja2', 'rich', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("report", all_reports(), ids=lambda report: type(report).__name__)
def test_reports_survive_json(report: object) -> None:
    assert from_json(type(report), to_json(report), source="test") == report


@pytest.mark.parametrize("report", all_reports(), ids=lambda report: type(report).__name__)
def test_reports_fit_their_published_schema(report: object) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    from linglos_deploy.schemas import PUBLISHED

    name = next(name for name, kind in PUBLISHED.items() if kind is type(report))
    published = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads(to_json(report)), published)


SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def test_published_schemas_are_up_to_date() -> None:
    from linglos_deploy.schemas import schema_texts

    for name, text in schema_texts().items():
        assert (SCHEMAS / name).read_text(encoding="utf-8") == text, (
            f"{name} is stale: python -m linglos_deploy.schemas docs/schemas"
        )


def test_schemas_are_written_where_asked(tmp_path: Path) -> None:
    from linglos_deploy.schemas import schema_texts, write_schemas

    write_schemas(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == schema_texts()


def test_an_unwritable_place_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, OSError)):
        write_html([parity_report()], tmp_path / "file" / "r.html")
