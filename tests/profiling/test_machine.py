from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from linglos_deploy.profiling.machine import (
    Throttles,
    count_throttles,
    quota_cpus,
    this_machines_conditions,
    warnings_about,
    with_throttles,
)
from linglos_deploy.reports.profile import Conditions

QUIET = Conditions(("avx2",), 4, 0.1, usable_cpus=4.0, busy_before=0.02, governor="performance")


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def test_what_the_system_says_is_read(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    for path, text in {
        f"{cpus}/cpu0/cpufreq/scaling_governor": "powersave",
        f"{cpus}/cpu1/cpufreq/scaling_governor": "performance",
        f"{cpus}/intel_pstate/no_turbo": "1",
        f"{cpus}/smt/active": "1",
        "sys/devices/system/node/node0/cpulist": "0",
        "sys/devices/system/node/node1/cpulist": "1",
        "sys/fs/cgroup/cpu.max": "50000 100000",
        "var/lib/nvpmodel/status": "pmode:0002",
    }.items():
        write(tmp_path, path, text)
    found = this_machines_conditions(tmp_path)
    assert found.governor == "performance, powersave"
    assert found.boost is False
    assert found.smt is True
    assert found.numa_nodes == 2
    assert found.quota_cpus == found.usable_cpus == 0.5
    assert found.power_mode == "pmode:0002"


def test_a_system_that_says_nothing_is_unknown_and_no_error(tmp_path: Path) -> None:
    found = this_machines_conditions(tmp_path)
    assert (found.governor, found.boost, found.smt, found.quota_cpus, found.numa_nodes) == ("", None, None, None, 0)
    assert found.usable_cpus >= 1


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        (
            {
                "proc/self/cgroup": "0::/work.slice/job",
                "sys/fs/cgroup/work.slice/cpu.max": "100000 100000",
                "sys/fs/cgroup/work.slice/job/cpu.max": "max 100000",
            },
            1.0,
        ),
    ],
)
def test_a_quota_is_found_in_both_versions_of_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for path, text in files.items():
        write(tmp_path, path, text)
    assert quota_cpus(tmp_path) == quota


def test_throttling_is_counted_between_two_readings(tmp_path: Path) -> None:
    heat = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    write(tmp_path, heat, "5")
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_usec 7")
    before = count_throttles(tmp_path)
    assert before == Throttles(thermal=5, quota=3)
    write(tmp_path, heat, "9")
    found = with_throttles(QUIET, before, count_throttles(tmp_path))
    assert (found.thermal_throttles, found.quota_throttles) == (4, 0)
    nothing = with_throttles(QUIET, Throttles(None, None), Throttles(None, None))
    assert (nothing.thermal_throttles, nothing.quota_throttles) == (None, None)


def test_a_quiet_machine_gives_no_warning() -> None:
    assert warnings_about(QUIET, threads=(1, 4)) == ()


@pytest.mark.parametrize(
    ("changes", "threads", "words"),
    [
        ({"load_before": 3.0}, 1, "measure again when it is quiet"),
        ({"busy_before": 0.5}, 1, "50% of all CPUs"),
        (
            {"usable_cpus": 1.5, "quota_cpus": 1.5},
            4,
            "a quota of 1.5 CPUs: threads wait for each other. Use --threads 1",
        ),
        ({}, 8, "Use --threads 4"),
        ({"quota_cpus": 2.0}, 0, "they count cores where the quota is 2 CPUs"),
        ({"governor": "powersave"}, 1, "cpupower frequency-set -g performance"),
        ({"thermal_throttles": 3}, 1, "slowed down for its heat 3 times"),
        ({"quota_throttles": 7}, 1, "stopped the work 7 times"),
    ],
)
def test_what_disturbs_is_named_with_what_to_change(changes: dict[str, object], threads: int, words: str) -> None:
    (warning,) = warnings_about(replace(QUIET, **changes), threads=(threads,))
    assert words in warning
