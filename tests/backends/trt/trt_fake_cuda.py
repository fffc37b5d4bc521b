"""The CUDA runtime bindings, played: a device that is as unforgiving as a real one.

- Device memory has addresses of its own: reading it from the host reads nothing.
- Work is queued per stream and done when the stream is synchronized; what a copy to the host will overwrite is poison
  until then. So is fresh memory, and freed memory afterwards.
- A capture records instead of queueing, with the addresses of that moment; a launch queues exactly what was recorded.
  What a capture forbids makes it invalid, and the end of the capture fails.
- The current device and the capture state belong to a thread; work on another device's stream is refused.
- Every function can be made to fail, always or at a certain call; device memory can be made scarce.
"""

from __future__ import annotations

import ctypes
import enum
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

FRESH, STALE, PENDING = 0xFB, 0xFD, 0xFE
"""What memory holds that nobody wrote, that was freed, and that a copy under way will overwrite: absurd numbers."""

DEVICE_BASE = 0x7D00_0000_0000
"""Device addresses start here, far from any memory of this process."""


class Status(enum.IntEnum):
    SUCCESS = 0
    INVALID_VALUE = 1
    MEMORY = 2
    NO_DEVICE = 100
    INVALID_HANDLE = 400
    ILLEGAL_ADDRESS = 700
    CAPTURE_UNSUPPORTED = 900
    CAPTURE_INVALIDATED = 901


@dataclass
class Block:
    """A piece of memory. Its bytes outlive it, so that a view of freed memory shows poison instead of crashing."""

    address: int
    size: int
    bytes: Any
    device: int | None
    freed: bool = False


@dataclass
class Stream:
    device: int
    queue: list[Callable[[], None]] = field(default_factory=list)
    capture: list[Callable[[], None]] | None = None
    capture_thread: int = 0
    valid: bool = True


class DeviceError(Exception):
    """What the device finds wrong while it works."""


class FakeCuda:
    """Each function returns ``(status, *results)``, as cuda-python's do.

    Attributes:
        fail: Names of functions that fail at every call.
        fail_at: Name -> which of its calls from now on fails (1 is the next one).
        limit: Bytes of each device's memory.
    """

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self, devices: int = 1, *, limit: int = 1 << 40) -> None:
        self.devices = devices
        self.limit = limit
        self.blocks: dict[int, Block] = {}
        self.freed: list[Block] = []
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.recordings: dict[int, list[Callable[[], None]]] = {}
        self.calls: list[str] = []
        self.fail: set[str] = set()
        self.fail_at: dict[str, int] = {}
        self.kernels = 0
        self.broken = False
        self._thread = threading.local()
        self._next = 1
        self._next_address = DEVICE_BASE

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not (name.startswith("cuda") and callable(value)):
            return value
        self.calls.append(name)
        if name in self.fail_at:
            self.fail_at[name] -= 1
        if name in self.fail or self.fail_at.get(name) == 0:
            self.fail_at.pop(name, None)
            return lambda *_: (Status.MEMORY, None)
        return value

    @property
    def memory(self) -> Counter[str]:
        """Blocks that are held, by kind."""
        return Counter("host" if block.device is None else "device" for block in self.blocks.values())

    @property
    def current(self) -> int:
        """The current device of this thread."""
        return getattr(self._thread, "device", 0)

    def held(self) -> dict[str, int]:
        """Everything that was not given back."""
        held = {
            "memory": len(self.blocks),
            "streams": len(self.streams),
            "graphs": len(self.graphs),
            "recordings": len(self.recordings),
        }
        return {name: count for name, count in held.items() if count}

    # -- devices -----------------------------------------------------------------------------------------------

    def cudaGetDeviceCount(self) -> Any:
        return (Status.SUCCESS, self.devices) if self.devices else (Status.NO_DEVICE, None)

    def cudaGetErrorString(self, status: Status) -> Any:
        return Status.SUCCESS, Status(status).name.lower().encode()

    def cudaSetDevice(self, device: int) -> Any:
        if not 0 <= device < self.devices:
            return (Status.INVALID_VALUE,)
        self._thread.device = device
        return (Status.SUCCESS,)

    # -- memory ------------------------------------------------------------------------------------------------

    def cudaMalloc(self, size: int) -> Any:
        if self._forbidden():
            return Status.CAPTURE_UNSUPPORTED, None
        used = sum(block.size for block in self.blocks.values() if block.device == self.current)
        if size <= 0 or used + size > self.limit:
            return (Status.MEMORY if size > 0 else Status.INVALID_VALUE), None
        self._next_address += (size + 511) // 256 * 256
        return Status.SUCCESS, self._keep(self._next_address, size, self.current)

    def cudaHostAlloc(self, size: int, _flags: int) -> Any:
        if self._forbidden():
            return Status.CAPTURE_UNSUPPORTED, None
        return Status.SUCCESS, self._keep(None, size, None)

    def _keep(self, address: int | None, size: int, device: int | None) -> int:
        memory = (ctypes.c_uint8 * size)()
        ctypes.memset(memory, FRESH, size)
        place = ctypes.addressof(memory) if address is None else address
        self.blocks[place] = Block(place, size, memory, device)
        return place

    def cudaFree(self, address: int) -> Any:
        return self._free(address, device=True)

    def cudaFreeHost(self, address: int) -> Any:
        return self._free(address, device=False)

    def _free(self, address: int, *, device: bool) -> Any:
        block = self.blocks.get(address)
        if block is None or (block.device is not None) != device:
            return (Status.INVALID_VALUE,)
        ctypes.memset(block.bytes, STALE, block.size)
        block.freed = True
        self.freed.append(self.blocks.pop(address))
        return (Status.SUCCESS,)

    def block(self, address: int, size: int, *, device: int | None) -> Any:
        """Return the bytes at an address, as the device or the host finds them.

        Raises:
            DeviceError: There is no such memory, of that size and place, or it was freed.
        """
        for block in self.blocks.values():
            if block.address <= address and address + size <= block.address + block.size and block.device == device:
                return (ctypes.c_uint8 * size).from_buffer(block.bytes, address - block.address)
        raise DeviceError(f"{size} bytes at {address:#x}")

    # -- work --------------------------------------------------------------------------------------------------

    def enqueue(self, stream: int, work: Callable[[], None]) -> Status:
        """Add work to a stream, or to what it records."""
        found = self.streams.get(stream)
        if found is None or found.device != self.current:
            return Status.INVALID_HANDLE
        if found.capture is not None and found.capture_thread != threading.get_ident():
            found.valid = False
            return Status.CAPTURE_UNSUPPORTED
        (found.queue if found.capture is None else found.capture).append(work)
        return Status.SUCCESS

    def capturing(self, stream: int) -> bool:
        """Whether a stream records."""
        return stream in self.streams and self.streams[stream].capture is not None

    def invalidate(self, stream: int) -> None:
        """Do something that a capture does not allow."""
        self.streams[stream].valid = False

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> Any:
        found = self.streams.get(stream)
        if found is None:
            return (Status.INVALID_HANDLE,)
        to_device = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        places = (found.device, None) if to_device else (None, found.device)
        try:
            into, _ = (
                self.block(address, size, device=place) for address, place in zip((target, source), places, strict=True)
            )
        except DeviceError:
            return (Status.INVALID_VALUE,)
        if not to_device and found.capture is None:
            ctypes.memset(into, PENDING, size)

        def copy() -> None:
            there = self.block(target, size, device=places[0])
            here = self.block(source, size, device=places[1])
            ctypes.memmove(there, here, size)

        return (self.enqueue(stream, copy),)

    def cudaStreamCreateWithFlags(self, _flags: int) -> Any:
        self.streams[self._handle()] = Stream(self.current)
        return Status.SUCCESS, self._next

    def cudaStreamSynchronize(self, stream: int) -> Any:
        found = self.streams.get(stream)
        if found is None:
            return (Status.INVALID_HANDLE,)
        if found.capture is not None:
            found.valid = False
            return (Status.CAPTURE_UNSUPPORTED,)
        return (self._work(found),)

    def _work(self, stream: Stream) -> Status:
        try:
            while stream.queue and not self.broken:
                stream.queue.pop(0)()
        except DeviceError:
            self.broken = True  # such an error stays until the process ends
        return Status.ILLEGAL_ADDRESS if self.broken else Status.SUCCESS

    def cudaStreamDestroy(self, stream: int) -> Any:
        found = self.streams.pop(stream, None)
        if found is None:
            return (Status.INVALID_HANDLE,)
        assert not found.queue, "a stream was destroyed with work on it"
        return (Status.SUCCESS,)

    # -- graphs ------------------------------------------------------------------------------------------------

    def cudaStreamBeginCapture(self, stream: int, _mode: int) -> Any:
        found = self.streams.get(stream)
        if found is None or found.capture is not None or found.device != self.current:
            return (Status.INVALID_VALUE,)
        found.capture, found.capture_thread, found.valid = [], threading.get_ident(), True
        return (Status.SUCCESS,)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        found = self.streams.get(stream)
        if found is None or found.capture is None or found.capture_thread != threading.get_ident():
            return Status.INVALID_VALUE, None
        recorded, found.capture = found.capture, None
        if not found.valid:
            return Status.CAPTURE_INVALIDATED, None
        self.recordings[self._handle()] = recorded
        return Status.SUCCESS, self._next

    def cudaGraphInstantiate(self, recording: int, _flags: int) -> Any:
        if recording not in self.recordings:
            return Status.INVALID_VALUE, None
        self.graphs[self._handle()] = list(self.recordings[recording])
        return Status.SUCCESS, self._next

    def cudaGraphDestroy(self, recording: int) -> Any:
        return (Status.SUCCESS if self.recordings.pop(recording, None) is not None else Status.INVALID_VALUE,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> Any:
        if graph not in self.graphs:
            return (Status.INVALID_VALUE,)
        status = Status.SUCCESS
        for work in self.graphs[graph]:
            status = status or self.enqueue(stream, work)
        return (status,)

    def cudaGraphExecDestroy(self, graph: int) -> Any:
        return (Status.SUCCESS if self.graphs.pop(graph, None) is not None else Status.INVALID_VALUE,)

    def _forbidden(self) -> bool:
        """Whether this thread records, so that allocating makes the recording invalid."""
        recording = [s for s in self.streams.values() if s.capture is not None]
        mine = [stream for stream in recording if stream.capture_thread == threading.get_ident()]
        for stream in mine:
            stream.valid = False
        return bool(mine)

    def _handle(self) -> int:
        self._next += 1
        return self._next
