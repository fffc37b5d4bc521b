"""A worker process as the measuring side sees it: requests with a time limit, and an end that is never in doubt."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from linglos_deploy.errors import LinglosError, UsageError
from linglos_deploy.profiling.messages import Kind, Reply, Request, decode, encode

WORKER = (sys.executable, "-m", "linglos_deploy.profiling.worker")
MAX_REPLY_BYTES = 256 << 20
_STDERR_TAIL_BYTES = 2000


class WorkerError(LinglosError):
    """A worker failed, crashed or hung.

    Args:
        message: What happened.
        missing: Whether something that this machine lacks is the cause.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: bool = False,
        found: str | None = None,
        expected: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message, found=found, expected=expected, next_step=next_step)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def ask(self, request: Request, *, timeout: float) -> Reply:
        """Send a request and wait for its reply.

        Args:
            request: What to do.
            timeout: Seconds to wait.

        Raises:
            WorkerError: It could not do it, crashed, or gave no answer in time.
            UsageError: The model does not take what was asked for.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(encode(request).encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._crashed() from None
        reply = decode(Reply, self._read_line(timeout))
        failure = reply.failure
        if failure is None:
            return reply
        more = {"found": failure.found, "expected": failure.expected, "next_step": failure.next_step}
        if failure.kind is Kind.USAGE:
            raise UsageError(failure.message, **more)
        raise WorkerError(failure.message, missing=failure.kind is Kind.MISSING, **more)

    def _read_line(self, timeout: float) -> bytes:
        assert self.process.stdout is not None
        end, received = time.monotonic() + timeout, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise WorkerError(f"It gave no answer within {timeout:.0f} seconds and was stopped.")
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self._crashed()
                received += chunk
                if len(received) > MAX_REPLY_BYTES:
                    raise WorkerError(f"Its answer is longer than {MAX_REPLY_BYTES >> 20} MiB.")
        return bytes(received)

    def _crashed(self) -> WorkerError:
        code = self.process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
        said = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        return WorkerError(f"Its process crashed ({how})." + (f" Its last words: {said[-1].strip()}" if said else ""))


@contextmanager
def start_worker(command: tuple[str, ...] = WORKER) -> Iterator[Worker]:
    """Start a worker; leaving the context ends it, whatever it is doing.

    Args:
        command: The program; tests put others here.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its workers itself
        )
        try:
            yield Worker(process, errors)
        finally:
            process.kill()
            process.communicate()
