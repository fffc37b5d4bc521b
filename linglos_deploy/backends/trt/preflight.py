"""Will this engine load here? Answered from its sidecar and its first bytes, before anything is deserialized.

A vendor's own message for the wrong machine is a line such as "the engine plan file is not compatible"; some wrong
files crash the process. So every condition is checked first, each with its reason, and the command that builds the
engine again for this machine is spelled out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.backends.base import HardwareCompatibility
from linglos_deploy.backends.trt.flavour import FLAVOURS, Flavour, installed_version, version_tuple
from linglos_deploy.backends.trt.profiles import Range
from linglos_deploy.backends.trt.sidecar import EngineRecord, read_record
from linglos_deploy.backends.trt.sizes import SizeProfile, format_size_profile
from linglos_deploy.errors import ArtifactError
from linglos_deploy.files import sha256_file
from linglos_deploy.reports.doctor import Condition, EngineCheck, Gpu, Machine


@dataclass(frozen=True, slots=True)
class Host:
    """What an engine would meet here.

    Attributes:
        machine: This machine.
        device: Number of the GPU it would run on.
        versions: Installed version per flavour, ``None`` where it is missing.
        backend: The flavour that is about to load the engine; ``None`` to take the engine's own.
        allow_host_code: Whether an engine with host code may be loaded.
    """

    machine: Machine
    device: int = 0
    versions: dict[str, str | None] | None = None
    backend: str | None = None
    allow_host_code: bool = False

    def version(self, flavour: Flavour) -> str | None:
        """Return the installed version of a flavour."""
        return installed_version(flavour) if self.versions is None else self.versions.get(flavour.name)

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that the engine would run on."""
        return next((gpu for gpu in self.machine.gpus if gpu.index == self.device), None)


def check_engine(plan: Path, host: Host) -> EngineCheck:
    """Compare an engine with a machine. Never raises; nothing is deserialized."""
    try:
        record = read_record(plan)
    except ArtifactError as error:
        condition = Condition("sidecar", False, error.found or "", error.expected or "", error.message)
        return EngineCheck(str(plan), host.backend or "unknown", (condition,), _build_command(host.backend))
    flavour = FLAVOURS.get(record.backend)
    if flavour is None:
        condition = Condition("backend", False, record.backend, " or ".join(FLAVOURS), "an unknown kind of engine")
        return EngineCheck(str(plan), record.backend, (condition,), _build_command(host.backend))
    conditions = (
        _backend(record, host),
        *_file(plan, record, flavour),
        _host_code(record, host),
        *_machine(record, flavour, host),
    )
    return EngineCheck(str(plan), record.backend, conditions, rebuild_command(record, host, plan=plan))


def require_loadable(plan: Path, host: Host) -> EngineRecord:
    """Return the engine's record if nothing speaks against loading it.

    Raises:
        ArtifactError: A condition fails; the message has the reason of each and the command that rebuilds.
    """
    check = check_engine(plan, host)
    failed = [condition for condition in check.conditions if condition.passed is False]
    if failed:
        raise ArtifactError(
            f"The engine '{plan}' cannot be loaded here.",
            found="; ".join(f"{condition.name}: {condition.found} ({condition.reason})" for condition in failed),
            expected="; ".join(f"{condition.name}: {condition.expected}" for condition in failed),
            next_step=check.rebuild,
        )
    return read_record(plan)


def rebuild_command(record: EngineRecord, host: Host, *, plan: Path) -> str:
    """Return the command that builds the same engine for this machine.

    What ``--target`` filled in is spelled out. Profiles of different heights and widths, which only Python can ask for,
    become one range that holds them all.
    """
    spec = record.spec
    graph = plan.with_name(record.onnx_name)
    words = ["linglos-deploy", "build", str(graph), "--engine", host.backend or record.backend]
    for batches in dict.fromkeys(_ranges(record, "batch")):
        words += ["--profile", ",".join(map(str, batches))]
    heights, widths = _ranges(record, "height"), _ranges(record, "width")
    if heights and widths:
        words += ["--size-profile", format_size_profile(_enclosing(heights, widths))]
    if spec.compute_capabilities:
        here = {host.gpu.compute_capability} if host.gpu else set()
        wanted = sorted(here | set(spec.compute_capabilities), key=version_tuple)
        words += ["--sm", ",".join(text.replace(".", "") for text in wanted)]
    if spec.workspace_bytes:
        words += ["--workspace", _memory_text(spec.workspace_bytes)]
    if spec.optimization_level is not None:
        words += ["--optimization-level", str(spec.optimization_level)]
    if spec.hardware_compatibility is not HardwareCompatibility.NONE:
        words += ["--hardware-compatibility", str(spec.hardware_compatibility)]
    for on, option in (
        (spec.version_compatible, "--version-compatible"),
        (spec.refittable, "--refittable"),
        (spec.strip_weights, "--strip-weights"),
        (spec.weight_streaming, "--weight-streaming"),
        (spec.tf32, "--tf32"),
        (spec.allow_fallback, "--allow-fallback"),
    ):
        words += [option] if on else []
    # an engine that replaced a bundle's own would no longer match the bundle's manifest
    folder = Path("engines") if plan.with_name("manifest.json").exists() else plan.parent
    return shlex.join([*words, "--output", str(folder)])


def _build_command(backend: str | None) -> str:
    return f"linglos-deploy build MODEL.onnx --engine {backend or 'auto'}"


def _ranges(record: EngineRecord, dim: str) -> list[Range]:
    """Return the range of a dynamic dimension in each profile; nothing if it is fixed in the graph."""
    found = []
    for tensor in record.signature.inputs:
        axis = tensor.dims.index(dim) if dim in tensor.dims else -1
        shapes = [profile[tensor.name] for profile in record.spec.profiles if tensor.name in profile]
        found += [(shape.min[axis], shape.opt[axis], shape.max[axis]) for shape in shapes if 0 <= axis < len(shape.min)]
    return found


def _enclosing(heights: Sequence[Range], widths: Sequence[Range]) -> SizeProfile:
    """Return the sizes from the smallest to the largest of all profiles; the first one says which is best."""
    smallest = min(low for low, _, _ in heights), min(low for low, _, _ in widths)
    largest = max(high for _, _, high in heights), max(high for _, _, high in widths)
    return smallest, (heights[0][1], widths[0][1]), largest


def _memory_text(size: int) -> str:
    """Write a number of bytes without loss, as ``--workspace`` reads it."""
    for unit, shift in (("G", 30), ("M", 20)):
        if size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return f"{size / 1024:.10f}".rstrip("0").rstrip(".") + "K"


def _backend(record: EngineRecord, host: Host) -> Condition:
    wanted = host.backend or record.backend
    return _condition(
        "backend",
        record.backend == wanted,
        record.backend,
        wanted,
        "TensorRT and TensorRT-RTX cannot read each other's plans",
    )


def _file(plan: Path, record: EngineRecord, flavour: Flavour) -> tuple[Condition, ...]:
    if not plan.is_file():
        return (_condition("file", False, "nothing", f"{record.bytes} bytes", "the plan is missing"),)
    size = plan.stat().st_size
    with plan.open("rb") as stream:
        magic = stream.read(len(flavour.magic))
    conditions = [
        _condition(
            "header",
            magic == flavour.magic,
            repr(magic),
            repr(flavour.magic),
            f"this is not how a {flavour.title} plan starts; another tool put its own data in front",
        ),
        _condition("size", size == record.bytes, f"{size} bytes", f"{record.bytes} bytes", "the plan is not whole"),
    ]
    if all(condition.passed for condition in conditions):
        digest = sha256_file(plan)
        conditions.append(
            _condition(
                "digest", digest == record.digest, digest, record.digest, "the plan was changed since it was built"
            )
        )
    return tuple(conditions)


def _host_code(record: EngineRecord, host: Host) -> Condition:
    return _condition(
        "host code",
        not record.host_code or host.allow_host_code,
        "in the plan" if record.host_code else "none",
        "allowed" if host.allow_host_code else "none",
        "loading it would run code from the plan; allow that only for engines of your own",
    )


def _machine(record: EngineRecord, flavour: Flavour, host: Host) -> tuple[Condition, ...]:
    target = record.target
    here = host.machine.platform
    return (
        _version(record, flavour, host),
        _condition(
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


def _version(record: EngineRecord, flavour: Flavour, host: Host) -> Condition:
    found = host.version(flavour)
    built = version_tuple(record.version)
    if found is None:
        return _condition("version", False, "not installed", record.version, f"{flavour.title} is missing")
    if found == "unknown":
        return _condition("version", None, found, record.version, "the installed release cannot be told")
    here = version_tuple(found)
    if record.spec.version_compatible:
        passed = here[0] == built[0] and here >= built
        expected = f"{record.version} or later, below {built[0] + 1}"
    else:
        passed, expected = here == built, record.version
    return _condition("version", passed, found, expected, f"a plan loads in the {flavour.title} release that built it")


def _compute_capability(record: EngineRecord, gpu: Gpu | None, machine: Machine) -> Condition:
    expected = record.target.describe()
    if gpu is None:
        return _condition("compute capability", False, machine.gpu_detail or "no such GPU", expected, "there is no GPU")
    minimum = record.target.minimum_compute_capability
    if minimum is not None:
        passed = version_tuple(gpu.compute_capability) >= version_tuple(minimum)
    else:
        passed = gpu.compute_capability in record.target.compute_capabilities
    found = f"{gpu.compute_capability} ({gpu.name})"
    return _condition("compute capability", passed, found, expected, "the kernels were made for other GPUs")


def _driver(record: EngineRecord, machine: Machine) -> Condition:
    if machine.driver is None and machine.cuda is None:
        return _condition("driver", False, "none", "an NVIDIA driver", "nothing can run without it")
    found, built = machine.driver or f"CUDA {machine.cuda}", record.target.driver
    older = built and machine.driver and _numbers(machine.driver) < _numbers(built)
    if older:
        reason = "older than where it was built; if loading fails, update the driver"
        return _condition("driver", None, found, f"{built} or later", reason)
    return _condition("driver", True, found, built or "any that this release supports")


def _memory(record: EngineRecord, gpu: Gpu | None) -> Condition:
    expected = f"more than {record.bytes} bytes"
    if gpu is None:
        return _condition("memory", False, "no GPU", expected, "the plan must fit into the GPU's memory")
    free = gpu.memory_bytes if gpu.free_bytes is None else gpu.free_bytes
    return _condition("memory", free > record.bytes, f"{free} bytes", expected, "the plan does not fit into GPU memory")


def _condition(name: str, passed: bool | None, found: str, expected: str, reason: str = "") -> Condition:
    """A reason is for what does not hold."""
    return Condition(name, passed, found, expected, "" if passed else reason)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
