from __future__ import annotations

import numpy as np
import pytest

from linglos_deploy.profiling.distribution import describe_distribution, two_modes


def processes(values: np.ndarray) -> list[list[list[float]]]:
    """Return 6 processes of 4 rounds of 10 runs."""
    return values.reshape(6, 4, 10).tolist()


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_noise_alone_is_not_worth_a_word(generator: np.random.Generator) -> None:
    silent = 0
    for _ in range(60):
        silent += not describe_distribution(processes(10 * np.exp(generator.normal(0, 0.05, 240))))
    assert silent >= 57


@pytest.mark.parametrize("kind", ["normal", "gamma", "pareto", "uniform", "offsets"])
def test_one_mode_is_not_taken_for_two(generator: np.random.Generator, kind: str) -> None:
    wrong = 0
    for _ in range(60):
        values = {
            "normal": lambda: generator.normal(10, 0.5, 40),
            "gamma": lambda: 9 + generator.gamma(2, 0.3, 40),
            "pareto": lambda: 10 * (1 + 0.05 * generator.pareto(2, 40)),
            "uniform": lambda: generator.uniform(9, 11, 40),
            "offsets": lambda: generator.normal(10, 0.01, 40),
        }[kind]()
        wrong += two_modes(values) is not None
    assert wrong <= 6  # a single process may look like it; the sentence asks for most of six


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_two_modes_are_named_with_their_places_and_shares(generator: np.random.Generator, share: float) -> None:
    slow = generator.random(240) < share
    values = np.where(slow, 15.0, 10.0) * np.exp(generator.normal(0, 0.02, 240))
    (said,) = describe_distribution(processes(values))
    assert said.startswith("two modes: runs take 10")
    assert " or 15" in said or " or 14.9" in said
    found = two_modes(values)
    assert found is not None
    assert found[2] == pytest.approx(share, abs=0.1)


def test_drift_over_the_measurement_is_named(generator: np.random.Generator) -> None:
    values = 10 * np.linspace(1, 1.2, 240) * np.exp(generator.normal(0, 0.01, 240))
    assert any("from the first to the last process" in said for said in describe_distribution(processes(values)))


def test_drift_that_starts_anew_in_every_process_is_named(generator: np.random.Generator) -> None:
    shape = np.broadcast_to(np.linspace(1, 1.2, 40), (6, 40)).ravel()
    values = 10 * shape * np.exp(generator.normal(0, 0.01, 240))
    said = describe_distribution(processes(values))
    assert any("of every process" in sentence for sentence in said)
    assert not any("last process" in sentence for sentence in said)


def test_too_few_runs_say_nothing_about_their_shape() -> None:
    assert two_modes(np.array([1.0, 2.0] * 11)) is None
    assert describe_distribution([[[1.0, 2.0]], [[1.0, 2.0]]]) == ()
