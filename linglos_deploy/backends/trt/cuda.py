"""The few CUDA calls that running an engine needs, through NVIDIA's ``cuda-python`` bindings.

Every call is checked; memory, streams and graphs belong to an :class:`Owner`, which gives them back whatever fails.
"""

from __future__ import annotations

import ctypes
import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from linglos_deploy.compat import add_note
from linglos_deploy.errors import MissingDependencyError, RunError

HOW_TO_GET = "pip install 'cuda-python>=12.6'"


def load_cuda() -> Any:
    """Import the CUDA runtime bindings.

    Raises:
        MissingDependencyError: They are not installed, or cannot be loaded.
    """
    for name in ("cuda.bindings.runtime", "cuda.cudart"):  # the second one up to cuda-python 12.5
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingDependencyError(
        "Running an engine needs the CUDA bindings for Python.",
        found="no module 'cuda.bindings'",
        next_step=HOW_TO_GET,
    )


@dataclass(slots=True)
class Owner:
    """Gives back what it owns, the latest first, and goes on when something cannot be given back.

    Attributes:
        open: Whether it still owns things.
        callbacks: What gives each of them back.
    """

    open: bool = True
    callbacks: list[Callable[[], object]] = field(default_factory=list)

    def callback(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call ``function`` at the end."""
        self.callbacks.append(lambda: function(*arguments))

    def close(self) -> list[Exception]:
        """Give everything back; return what failed."""
        self.open = False
        failed: list[Exception] = []
        while self.callbacks:
            try:
                self.callbacks.pop()()
            except Exception as error:
                failed.append(error)
        return failed


@contextmanager
def owned() -> Iterator[Owner]:
    """Yield an owner and close it; an error while closing never hides the one that ended the block.

    Raises:
        RunError: Something could not be given back, and the block itself went well.
    """
    owner = Owner()
    try:
        yield owner
    except BaseException as first:
        for error in owner.close():
            add_note(first, f"and while giving back what was held: {error}")
        raise
    failed = owner.close()
    if failed:
        for error in failed[1:]:
            add_note(failed[0], f"and then: {error}")
        raise failed[0]


class Cuda:
    """Checked CUDA calls on one device."""

    def __init__(self, bindings: Any, device: int) -> None:
        self._bindings = bindings
        self.device = device

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return its result.

        Raises:
            RunError: It failed.
        """
        status, *results = getattr(self._bindings, name)(*arguments)
        if int(status) != 0:
            raise RunError(
                f"CUDA failed on cuda:{self.device}.",
                found=f"{name}: {self._describe(status)}",
                next_step="see 'linglos-deploy doctor'; a GPU that ran out of memory needs a smaller batch",
            )
        return results[0] if len(results) == 1 else tuple(results) or None

    def select(self) -> None:
        """Make the device current on this thread.

        Raises:
            MissingDependencyError: There is no such device.
        """
        status, count = self._bindings.cudaGetDeviceCount()
        if int(status) != 0 or self.device >= count:
            raise MissingDependencyError(
                f"There is no GPU cuda:{self.device}.",
                found=self._describe(status) if int(status) else f"{count} GPUs",
                next_step="choose another one with --device, or see 'linglos-deploy doctor'",
            )
        self.make_current()

    def make_current(self) -> None:
        """Make the device current on this thread, known to exist; every thread starts with the first device."""
        self.call("cudaSetDevice", self.device)

    def stream(self, owner: Owner) -> int:
        """Return a new stream that does not wait for the default one."""
        stream = self.call("cudaStreamCreateWithFlags", self._bindings.cudaStreamNonBlocking)
        owner.callback(self.call, "cudaStreamDestroy", stream)
        return int(stream)

    def synchronize(self, stream: int) -> None:
        """Wait until everything on a stream is done."""
        self.call("cudaStreamSynchronize", stream)

    def upload(self, buffer: Buffer, size: int, stream: int) -> None:
        """Start the copy of the first ``size`` bytes from the host's side to the device's."""
        kind = self._bindings.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", buffer.device, buffer.host, size, kind, stream)

    def download(self, buffer: Buffer, size: int, stream: int) -> None:
        """Start the copy of the first ``size`` bytes from the device's side to the host's."""
        kind = self._bindings.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", buffer.host, buffer.device, size, kind, stream)

    def begin_capture(self, stream: int) -> None:
        """Start recording what is enqueued on a stream instead of running it."""
        self.call(
            "cudaStreamBeginCapture", stream, self._bindings.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )

    def end_capture(self, stream: int) -> Any:
        """End a recording and return it as a graph, ready to launch. The stream records no longer, even if this fails.

        Raises:
            RunError: Something that was enqueued cannot be recorded, or the graph cannot be made.
        """
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            return self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        """Run a recorded graph."""
        self.call("cudaGraphLaunch", graph, stream)

    def free_graph(self, graph: Any) -> None:
        """Free a recorded graph."""
        self.call("cudaGraphExecDestroy", graph)

    def buffer(self) -> Buffer:
        """Return an empty buffer."""
        return Buffer(self)

    def _describe(self, status: Any) -> str:
        _, text = self._bindings.cudaGetErrorString(status)
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


@dataclass(slots=True)
class Buffer:
    """Memory on the device with page-locked memory of the same size on the host; it grows and never shrinks."""

    cuda: Cuda
    size: int = 0
    device: int = 0
    host: int = 0

    def reserve(self, size: int) -> bool:
        """Make room for ``size`` bytes; says whether the addresses changed. What was there stays if there is no room.

        Raises:
            RunError: There is not enough memory.
        """
        if size <= self.size:
            return False
        device = int(self.cuda.call("cudaMalloc", size))
        try:
            host = int(self.cuda.call("cudaHostAlloc", size, 0))
        except RunError:
            self.cuda.call("cudaFree", device)
            raise
        old = Buffer(self.cuda, self.size, self.device, self.host)
        self.device, self.host, self.size = device, host, size
        old.free()
        return True

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """Return the host's side as an array; it is overwritten by the next run, and gone with the buffer."""
        count = math.prod(shape) * dtype.itemsize
        raw = memoryview((ctypes.c_uint8 * count).from_address(self.host))
        array: np.ndarray = np.frombuffer(raw, dtype=dtype).reshape(shape)
        return array

    def free(self) -> None:
        """Give the memory back."""
        device, host = self.device, self.host
        self.size = self.device = self.host = 0
        try:
            if device:
                self.cuda.call("cudaFree", device)
        finally:
            if host:
                self.cuda.call("cudaFreeHost", host)
