from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import UsageError
from linglos_deploy.images.labels import read_labels

names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)


@given(labels=st.lists(names), end=st.sampled_from(["", "\n", "\r\n", "\n\n \n"]))
def test_labels_come_back_one_per_line(labels: list[str], end: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(labels) + end, encoding="utf-8", newline="")
    assert read_labels(path) == tuple(labels)


def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\ndog".encode())
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")


def test_names_may_hold_spaces_and_repeat(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("crane\n maillot, tank suit \ncrane\n")
    assert read_labels(tmp_path / "labels.txt") == ("crane", "maillot, tank suit", "crane")


def test_an_empty_line_between_names_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\n\ndog\n")
    with pytest.raises(UsageError, match="Line 2"):
        read_labels(tmp_path / "labels.txt")


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_labels(tmp_path / "labels.txt")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_labels(tmp_path / "labels.txt")
