"""Which tests stay together on one worker of pytest-xdist, and which begin first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadGroupScheduling

HEAVY = ("cpp", "shipped", "family-b", "digits", "guide", "family-m", "family-s")
"""Groups that take minutes, longest first: one that began last would leave the other workers without work.

The order says when a run ends, and nothing about what it finds.
"""


def heavy_first(items: list[pytest.Item]) -> None:
    """Sort tests in place: the heavy groups, then everything else in its order."""
    rank = {name: at for at, name in enumerate(HEAVY)}
    items.sort(key=lambda item: min((rank.get(name, len(rank)) for name in groups(item)), default=len(rank)))


def groups(item: pytest.Item) -> set[str]:
    """Return the groups that a test says it belongs to."""
    return {str(mark.args[0]) for mark in item.iter_markers("xdist_group")}


def kept_together(nodeid: str) -> str:
    """Return what stays on one worker: the group of a test, which xdist writes behind its name, or else its module.

    A module's fixtures are then set up once. ``a/test_b.py::test_c[d@e]@f`` is of group ``f``, without ``@f`` of
    module ``a/test_b.py``.
    """
    if nodeid.rfind("@") > nodeid.rfind("]"):
        return nodeid.rpartition("@")[2]
    return nodeid.partition("::")[0]


def scheduler(config: pytest.Config, log: object) -> LoadGroupScheduling:
    """Return xdist's own scheduler of groups, but with modules kept together and the order of the tests kept."""
    from xdist.scheduler import LoadGroupScheduling

    class GroupsAndModules(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return kept_together(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, which says little about their time
    return GroupsAndModules(config, log)  # type: ignore[arg-type]
