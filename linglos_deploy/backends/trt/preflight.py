"""What an engine of TensorRT needs of a machine: its own header, release, platform, GPU, driver and memory."""

from __future__ import annotations

import re
from pathlib import Path

from linglos_deploy.backends.trt.flavour import Flavour, installed_version, version_tuple
from linglos_deploy.engines.compiler import Host, condition
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.reports.doctor import Condition, Gpu, Machine


def plan_conditions(plan: Path, record: EngineRecord, host: Host, flavour: Flavour) -> tuple[Condition, ...]:
    """Compare an engine with a machine; nothing is deserialized."""
    target = record.target
    here = host.machine.platform
    return (
        _header(plan, flavour),
        _version(record, flavour, host),
        condition(
            "platform",
            not target.platform or target.platform == here,
            here,
            target.platform or "any",
            "a plan is tied to the operating system and processor it was built on",
        ),
        _compute_capability(record, host.gpu, host.machine),
        _driver(record, host.machine),
        _memory(record, host.gpu),
    )


def _header(plan: Path, flavour: Flavour) -> Condition:
    with plan.open("rb") as stream:
        magic = stream.read(len(flavour.magic))
    return condition(
        "header",
        magic == flavour.magic,
        repr(magic),
        repr(flavour.magic),
        f"this is not how a {flavour.title} plan starts; another tool put its own data in front",
    )


def _version(record: EngineRecord, flavour: Flavour, host: Host) -> Condition:
    found = installed_version(flavour) if host.versions is None else host.versions.get(flavour.name)
    built = version_tuple(record.version)
    if found is None:
        return condition("version", False, "not installed", record.version, f"{flavour.title} is missing")
    if found == "unknown":
        return condition("version", None, found, record.version, "the installed release cannot be told")
    here = version_tuple(found)
    if record.spec.version_compatible:
        passed = here[0] == built[0] and here >= built
        expected = f"{record.version} or later, below {built[0] + 1}"
    else:
        passed, expected = here == built, record.version
    return condition("version", passed, found, expected, f"a plan loads in the {flavour.title} release that built it")


def _compute_capability(record: EngineRecord, gpu: Gpu | None, machine: Machine) -> Condition:
    expected = record.target.describe()
    if gpu is None:
        return condition("compute capability", False, machine.gpu_detail or "no such GPU", expected, "there is no GPU")
    minimum = record.target.minimum_compute_capability
    if minimum is not None:
        passed = version_tuple(gpu.compute_capability) >= version_tuple(minimum)
    else:
        passed = gpu.compute_capability in record.target.compute_capabilities
    found = f"{gpu.compute_capability} ({gpu.name})"
    return condition("compute capability", passed, found, expected, "the kernels were made for other GPUs")


def _driver(record: EngineRecord, machine: Machine) -> Condition:
    if machine.driver is None and machine.cuda is None:
        return condition("driver", False, "none", "an NVIDIA driver", "nothing can run without it")
    found, built = machine.driver or f"CUDA {machine.cuda}", record.target.driver
    older = built and machine.driver and _numbers(machine.driver) < _numbers(built)
    if older:
        reason = "older than where it was built; if loading fails, update the driver"
        return condition("driver", None, found, f"{built} or later", reason)
    return condition("driver", True, found, built or "any that this release supports")


def _memory(record: EngineRecord, gpu: Gpu | None) -> Condition:
    expected = f"more than {record.bytes} bytes"
    if gpu is None:
        return condition("memory", False, "no GPU", expected, "the plan must fit into the GPU's memory")
    free = gpu.memory_bytes if gpu.free_bytes is None else gpu.free_bytes
    return condition("memory", free > record.bytes, f"{free} bytes", expected, "the plan does not fit into GPU memory")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
