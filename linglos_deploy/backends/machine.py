"""Facts about this machine, without importing anything heavy.

The CUDA driver is asked for its devices through ctypes: it alone knows how CUDA numbers them for this process
(``CUDA_VISIBLE_DEVICES``), which NVML does not. What NVML knows comes from NVIDIA's ``nvidia-ml-py``, where it is
installed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path
from typing import Any

from linglos_deploy.reports.doctor import Gpu, Machine

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, cuda.h


def describe_machine() -> Machine:
    """Look at this machine. Never raises; what cannot be found out is ``None`` or empty."""
    gpus, cuda, detail = find_gpus()
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        platform=platform_name(),
        python=platform.python_version(),
        cpu=_cpu_name(),
        cpu_count=_cpu_count(),
        memory_bytes=_memory_bytes(),
        gpus=gpus,
        driver=driver_version(),
        cuda=cuda,
        gpu_detail=detail,
        jetson=_jetson_release(),
    )


def platform_name() -> str:
    """Return operating system and processor, such as ``linux-x86_64``."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def find_gpus() -> tuple[tuple[Gpu, ...], str | None, str]:
    """Ask the CUDA driver for its devices, in the order in which CUDA numbers them for this process.

    Returns:
        The GPUs, the latest CUDA version that the driver supports, and one sentence on how this went.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (), None, "no NVIDIA driver: libcuda.so.1 was not found"
    try:
        return _ask_driver(driver)
    except (AttributeError, OSError, ValueError) as error:
        return (), None, f"the NVIDIA driver did not answer: {error}"


def driver_version() -> str | None:
    """Return the NVIDIA driver's version, such as ``580.65.06``: as NVML says it, else as the kernel module does."""
    try:
        import pynvml
    except ImportError:
        pass
    else:
        try:
            pynvml.nvmlInit()
            try:
                return str(pynvml.nvmlSystemGetDriverVersion())
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass
    match = re.search(r"(\d{3,}\.\d+(?:\.\d+)?)", _read(Path("/proc/driver/nvidia/version")))
    return match.group(1) if match else None


def _ask_driver(driver: Any) -> tuple[tuple[Gpu, ...], str | None, str]:
    if (status := driver.cuInit(0)) != 0:
        return (), None, f"the NVIDIA driver cannot start: cuInit returned {status}"
    version, count = ctypes.c_int(), ctypes.c_int()
    _check(driver.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    gpus = tuple(_gpu(driver, index) for index in range(count.value))
    return gpus, cuda, f"{len(gpus)} found through the CUDA driver" if gpus else "the CUDA driver shows no device"


def _gpu(driver: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    memory = ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _check(driver.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
    _check(driver.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    _check(driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device), "cuDeviceGetAttribute")
    _check(driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device), "cuDeviceGetAttribute")
    _check(driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "cuDeviceTotalMem")
    return Gpu(
        index=index,
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        memory_bytes=memory.value,
    )


def _check(status: int, call: str) -> None:
    if status != 0:
        raise ValueError(f"{call} returned {status}")


def _cpu_name() -> str:
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _cpu_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _jetson_release() -> str | None:
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", _read(Path("/etc/nv_tegra_release")))
    return f"L4T {match.group(1)}.{match.group(2)}" if match else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
