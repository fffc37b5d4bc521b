"""Work is done ahead, errors arrive where their value would have, and leaving early leaves no thread behind."""

from __future__ import annotations

import itertools
import threading

import pytest

from linglos_deploy.calibration.prefetch import ahead


def test_items_come_in_order():
    with ahead(iter(range(50)), depth=3) as items:
        assert list(items) == list(range(50))


def test_the_next_item_is_made_while_one_is_in_use():
    made = threading.Event()

    def work():
        yield 1
        made.set()
        yield 2

    with ahead(work()) as items:
        assert next(items) == 1
        assert made.wait(10)


def test_an_error_arrives_after_the_items_before_it():
    def work():
        yield 1
        raise ValueError("broken")

    with ahead(work()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)


def test_leaving_early_stops_the_thread():
    before = threading.active_count()
    with ahead(itertools.count()) as items:
        next(items)
    assert threading.active_count() == before
