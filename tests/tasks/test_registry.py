"""Tasks are found by the names of their files, and by the entry points of other distributions."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linglos_deploy.errors import UsageError
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.tasks import kinds
from linglos_deploy.tasks.registry import ENTRY_POINTS, check_task, load_task, parse_settings, task_names
from tests.models.conftest import TINY

DEPTH = '''"""A fifth task, in one file."""

from torch import nn

from linglos_deploy.tasks.kinds.features import features
from linglos_deploy.tasks.task import Setting, Task


class Head(nn.Module):
    """Reads the finest map."""

    def __init__(self, channels):
        super().__init__()
        self.predict = nn.Conv2d(channels, 1, 1)

    def forward(self, maps, size):
        """Return N x 1 x H/4 x W/4."""
        return self.predict(maps[0])


depth = Task(
    name="depth",
    summary="distances",
    name_outputs=features.name_outputs,
    roles=lambda outputs, settings: {"depth": "depth"},
    count_classes=lambda outputs, decoding: None,
    decode=features.decode,
    outputs=lambda settings: ("depth",),
    head=lambda dims, classes, settings: Head(dims[0]),
    settings=(Setting("unit", ("metres", "feet"), "of the answer"),),
    has_classes=False,
)
'''


@pytest.fixture
def one_file_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "depth.py").write_text(DEPTH)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    yield "depth"
    sys.modules.pop(f"{kinds.__name__}.depth", None)


@pytest.mark.parametrize("name", task_names())
def test_every_task_has_the_name_of_its_file(name: str) -> None:
    assert load_task(name).name == name


def test_one_file_more_is_one_task_more_with_a_head_of_its_own(one_file_more: str) -> None:
    assert one_file_more in task_names()
    model = LinGlo(TINY, task=one_file_more, settings={"unit": "feet"})
    assert "head.predict.weight" in model.state_dict()
    assert model.settings == {"unit": "feet"}
    assert ModelSource(variant="t", task=one_file_more).task == "depth"


def test_a_distribution_may_bring_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("maps", "linglos_deploy.tasks.kinds.features:features", ENTRY_POINTS)
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda *, group: (point,) if group == ENTRY_POINTS else real(group=group)
    )
    assert "maps" in task_names()
    assert load_task("maps").name == "features"


def test_a_task_that_there_is_not_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'classify'"):
        check_task("clasify")


@pytest.mark.parametrize("texts", [["unit"], ["=feet"], ["unit="], ["unit=feet", "unit=metres"]])
def test_what_is_no_setting_is_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="name and a value"):
        parse_settings(texts)


def test_a_setting_that_a_task_does_not_know_is_refused(one_file_more: str) -> None:
    task = load_task(one_file_more)
    assert task.complete({}) == {"unit": "metres"}
    for wrong in ({"unit": "inches"}, {"scale": "feet"}):
        with pytest.raises(UsageError, match="unit=metres"):
            task.complete(wrong)
    with pytest.raises(UsageError, match="no setting"):
        ModelSource(variant="t", task="features", settings={"unit": "feet"})
