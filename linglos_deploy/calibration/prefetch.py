"""Does the work of an iterator in a thread of its own, a few items ahead of the one who asks for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


@contextmanager
def ahead(items: Iterator[T], *, depth: int = 1) -> Iterator[Iterator[T]]:
    """Yield an iterator over ``items`` whose next ``depth`` items are made while the current one is in use.

    An error of ``items`` is raised where its value would have come. Leaving the context stops the thread.
    """
    ready: queue.Queue[_Item[T] | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    worker = threading.Thread(target=_produce, args=(items, ready, stopped), name="prefetch", daemon=True)
    worker.start()
    try:
        yield _consume(ready)
    finally:
        stopped.set()
        worker.join()


def _produce(items: Iterator[T], ready: queue.Queue[_Item[T] | _End], stopped: threading.Event) -> None:
    error: BaseException | None = None
    try:
        for value in items:
            _put(ready, _Item(value), stopped)
            if stopped.is_set():
                return
    except BaseException as raised:  # handed over, whatever it is
        error = raised
    _put(ready, _End(error), stopped)


def _put(ready: queue.Queue[_Item[T] | _End], item: _Item[T] | _End, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            ready.put(item, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return


def _consume(ready: queue.Queue[_Item[T] | _End]) -> Iterator[T]:
    while True:
        item = ready.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item.value
