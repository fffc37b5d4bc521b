"""A build's progress, and a way to stop it: Ctrl-C ends a build at its next step instead of after its last."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from linglos_deploy.progress import Advance, Progress


class Interrupt:
    """Remembers that a build should stop, and why."""

    def __init__(self) -> None:
        self.reason: BaseException | None = None

    def ask(self, reason: BaseException) -> None:
        """Ask for the build to stop; the first reason counts."""
        self.reason = self.reason or reason

    @property
    def asked(self) -> bool:
        """Whether anybody asked."""
        return self.reason is not None


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turn Ctrl-C into a request while native code builds; raise it when the build has returned.

    The vendor's code swallows exceptions of a callback, so an ordinary KeyboardInterrupt would be lost in there. Only
    the main thread may set signal handlers; elsewhere Ctrl-C keeps its usual effect.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
    else:

        def ask(_signal: int, _frame: FrameType | None) -> None:
            interrupt.ask(KeyboardInterrupt())

        previous = signal.signal(signal.SIGINT, ask)
        try:
            yield interrupt
        finally:
            signal.signal(signal.SIGINT, previous)
    if interrupt.reason is not None:
        raise interrupt.reason


def make_monitor(module: Any, progress: Progress, interrupt: Interrupt, stages: ExitStack) -> Any:
    """Return a progress monitor of the vendor's kind that reports outermost phases and asks ``interrupt`` at each step.

    Args:
        module: The vendor's module.
        progress: Receives one stage per outermost phase.
        interrupt: Stops the build at its next step once asked.
        stages: Owns the open stages, so that a build that ends early closes them.
    """
    advances: dict[str, Advance] = {}
    left: dict[str, int] = {}

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase:
                return
            with _report_to(interrupt):
                advances[phase_name] = stages.enter_context(progress.stage(phase_name, num_steps))
                left[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            with _report_to(interrupt):
                if phase_name in advances:
                    left[phase_name] -= 1
                    advances[phase_name]()
            return not interrupt.asked

        def phase_finish(self, phase_name: str) -> None:
            with _report_to(interrupt):
                if advance := advances.pop(phase_name, None):
                    rest = left.pop(phase_name)
                    if rest > 0 and not interrupt.asked:  # the last step of a phase is often not announced
                        advance(rest)
                    if not advances:
                        stages.close()

    return Monitor()


@contextmanager
def _report_to(interrupt: Interrupt) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # must not travel through native code
        interrupt.ask(error)
