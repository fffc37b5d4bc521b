"""The CUDA runtime bindings, played by host memory: enough to run without a GPU, and to count what is leaked."""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace
from typing import Any


class Status(enum.IntEnum):
    SUCCESS = 0
    MEMORY = 2
    NO_DEVICE = 100


class FakeCuda:
    """Each function returns ``(status, *results)``, as cuda-python's do. ``fail`` names functions that fail."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self.calls: list[str] = []
        self.fail: set[str] = set()
        self.next = 1

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name.startswith("cuda") and callable(value):
            self.calls.append(name)
            if name in self.fail:
                return lambda *_: (Status.MEMORY, None)
        return value

    def cudaGetDeviceCount(self) -> Any:
        return (Status.SUCCESS, self.devices) if self.devices else (Status.NO_DEVICE, None)

    def cudaGetErrorString(self, status: Status) -> Any:
        return Status.SUCCESS, status.name.lower().encode()

    def cudaSetDevice(self, _device: int) -> Any:
        return (Status.SUCCESS,)

    def cudaMalloc(self, size: int) -> Any:
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return Status.SUCCESS, ctypes.addressof(block)

    def cudaHostAlloc(self, size: int, _flags: int) -> Any:
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> Any:
        del self.memory[address]
        return (Status.SUCCESS,)

    def cudaFreeHost(self, address: int) -> Any:
        return self.cudaFree(address)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, _kind: int, _stream: int) -> Any:
        ctypes.memmove(target, source, size)
        return (Status.SUCCESS,)

    def cudaStreamCreateWithFlags(self, _flags: int) -> Any:
        self.next += 1
        self.streams.add(self.next)
        return Status.SUCCESS, self.next

    def cudaStreamSynchronize(self, _stream: int) -> Any:
        return (Status.SUCCESS,)

    def cudaStreamDestroy(self, stream: int) -> Any:
        self.streams.remove(stream)
        return (Status.SUCCESS,)

    def cudaStreamBeginCapture(self, _stream: int, _mode: int) -> Any:
        return (Status.SUCCESS,)

    def cudaStreamEndCapture(self, _stream: int) -> Any:
        return Status.SUCCESS, 0

    def cudaGraphInstantiate(self, _graph: int, _flags: int) -> Any:
        self.next += 1
        self.graphs.add(self.next)
        return Status.SUCCESS, self.next

    def cudaGraphDestroy(self, _graph: int) -> Any:
        return (Status.SUCCESS,)

    def cudaGraphLaunch(self, _graph: int, _stream: int) -> Any:
        return (Status.SUCCESS,)

    def cudaGraphExecDestroy(self, graph: int) -> Any:
        self.graphs.remove(graph)
        return (Status.SUCCESS,)
