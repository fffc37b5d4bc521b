"""As many workers as cores and memory allow, each with as many images as still fit."""

from __future__ import annotations

import pytest

from linglos_deploy.calibration.schedule import LARGEST_RUN, Schedule, schedule_for
from linglos_deploy.errors import UsageError


@pytest.mark.parametrize(
    ("budget", "bytes_per_image", "fixed", "cores", "images", "expected"),
    [
        (100, 30, None, 1, None, Schedule(1, 3)),  # one core takes what fits
        (100, 30, None, 2, None, Schedule(3, 1)),  # one is being counted while two run
        (100, 40, None, 2, None, Schedule(2, 1)),
        (100, 10, None, 2, None, Schedule(3, 3)),
        (100, 60, None, 2, None, Schedule(1, 1)),  # no room for two
        (10, 30, None, 2, None, Schedule(1, 1)),  # not even for one, which is made all the same
        (100, 10, None, 4, 4, Schedule(2, 4, 2)),  # a run of the asked size; fewer workers
        (100, 10, 8, 2, None, Schedule(1, 8)),  # the graph decides
        (100, 10, 8, 2, 8, Schedule(1, 8)),
        (100, None, None, 2, None, Schedule(1, 1)),  # sizes that only running shows
        (100, 10, None, 16, None, Schedule(10, 1, 8)),
        (10**9, 1, None, 2, None, Schedule(3, LARGEST_RUN)),
        (100, 0, None, 2, None, Schedule(3, 33)),  # nothing but the graph input is observed
    ],
)
def test_schedules(budget, bytes_per_image, fixed, cores, images, expected):
    assert schedule_for(budget, bytes_per_image=bytes_per_image, fixed=fixed, cores=cores, images=images) == expected


def test_a_single_worker_reads_run_by_run_and_several_read_several_runs():
    assert Schedule(workers=1, images=3).batch == 3
    assert Schedule(workers=2, images=3).batch == 18


def test_another_batch_than_the_graphs_own_is_refused():
    with pytest.raises(UsageError, match="batch size of its own"):
        schedule_for(100, bytes_per_image=10, fixed=8, cores=2, images=3)
