from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.decompositions import run
from benchmarks.decompositions.race import compare, geometric_mean
from benchmarks.decompositions.tables import attention as attention_table
from benchmarks.decompositions.tables import foreign as foreign_table
from linglos_deploy.models.variants import VARIANTS, LinGloConfig

TINY = LinGloConfig(dims=(8, 16, 32, 64), depths=(1, 1, 1, 1))


def made_up(milliseconds: list[list[float]]) -> np.ndarray:
    """Return samples whose wall time is twice the CPU time and whose memory is one: rounds x graphs x 3."""
    cpu = np.array(milliseconds)
    return np.stack([cpu, 2 * cpu, np.ones_like(cpu)], axis=-1)


def test_the_first_graph_is_the_yardstick():
    results = compare(("slow", "fast"), made_up([[3.0, 1.0], [6.0, 2.0], [9.0, 3.0]]))
    assert (results["slow"].speedup, results["fast"].speedup) == (1, 3)
    assert (results["fast"].low, results["fast"].high) == (3, 3)
    assert results["fast"].milliseconds == 2
    assert results["fast"].wall_speedup == 3


def test_the_geometric_mean_of_steady_races_has_no_width():
    mean, interval = geometric_mean([np.full(4, 2.0), np.full(6, 8.0)])
    assert (mean, *interval) == pytest.approx((4, 4, 4))


def test_an_interval_over_starts_is_wider_where_starts_differ():
    ratios = np.repeat([1.0, 2.0, 1.1, 1.9], 25)
    _, by_round = geometric_mean([ratios])
    _, by_start = geometric_mean([ratios], starts=4)
    assert by_start[1] - by_start[0] > by_round[1] - by_round[0]


@pytest.mark.parametrize(
    ("section", "axes", "table"), [(run.attention, 4, attention_table), (run.foreign, 3, foreign_table)]
)
def test_a_section_races_equal_functions_of_every_stage(section, axes, table, monkeypatch, tmp_path):
    monkeypatch.setitem(VARIANTS, "s", TINY)
    monkeypatch.setattr(run, "STARTS", 2)
    written: dict[object, torch.nn.Module] = {}
    races = []

    def keep(module, shape, path):
        written[path] = module
        return path

    def measure(graphs, *, shape, rounds, **_):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            outputs = [written[path](image) for path in graphs.values()]
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=1e-4)
        races.append(shape)
        return made_up([[4.0, 2.0, 2.0, 2.0]] * rounds)

    monkeypatch.setattr(run, "untouched", keep)
    monkeypatch.setattr(run, "interleave", measure)
    part = section("s", tmp_path, 4)
    assert {len(shape) for shape in races} == {axes}
    assert len(races) == 4 * 2
    assert part["geometric_mean"] == pytest.approx(2)
    assert table(part).count("2.00 [2.00, 2.00]") == 4 * 3 + 1


def test_a_race_of_a_module_that_was_not_rewritten_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(VARIANTS, "s", TINY)
    monkeypatch.setattr(run, "untouched", lambda module, shape, path: path)
    monkeypatch.setattr(run.FusedAttention, "saliency_gate", lambda self: None)
    with pytest.raises(RuntimeError, match="not rewritten: left as it is"):
        run.foreign("s", tmp_path, 4)
