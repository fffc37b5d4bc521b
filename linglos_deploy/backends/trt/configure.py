"""BuildSpec -> builder configuration. Every call and flag is looked up by name in the release at hand."""

from __future__ import annotations

from typing import Any

from linglos_deploy.backends.trt.flavour import Flavour, member, require_member
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.engines.record import Target
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import UsageError
from linglos_deploy.reports.doctor import Gpu

RTX_MINIMUM = "8.0"
"""An RTX engine without explicit targets runs from here on (NVIDIA, "CPU-Only AOT and TensorRT-RTX Engines")."""


def configure(module: Any, flavour: Flavour, config: Any, spec: BuildSpec) -> tuple[str, ...]:
    """Set everything in ``spec`` but the profiles.

    Returns:
        Names of the builder flags that are on.

    Raises:
        UsageError: ``spec`` asks for something that this flavour or this release does not have.
    """
    if spec.workspace_bytes is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, spec.workspace_bytes)
    if spec.optimization_level is not None:
        config.builder_optimization_level = spec.optimization_level
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # layer types and names for the inspector
    _set_flags(module, flavour, config, spec)
    _set_targets(module, flavour, config, spec)
    return tuple(sorted(name for name, flag in _members(module.BuilderFlag).items() if config.get_flag(flag)))


def target_of(flavour: Flavour, spec: BuildSpec, *, gpu: Gpu | None, driver: str | None, platform: str) -> Target:
    """Return on which machines an engine of ``spec`` will run, when built beside ``gpu``."""
    if flavour.ahead_of_time:
        if spec.compute_capabilities:
            return Target(compute_capabilities=_ascending(spec.compute_capabilities))
        return Target(minimum_compute_capability=RTX_MINIMUM)
    if gpu is None:
        raise UsageError(f"{flavour.title} builds for the GPU at hand, and there is none.")
    here = Target(compute_capabilities=(gpu.compute_capability,), gpu=gpu.name, driver=driver, platform=platform)
    if spec.hardware_compatibility is HardwareCompatibility.AMPERE_PLUS:
        return Target(minimum_compute_capability="8.0", gpu=gpu.name, driver=driver, platform=platform)
    return here


def _set_flags(module: Any, flavour: Flavour, config: Any, spec: BuildSpec) -> None:
    if spec.version_compatible and not flavour.across_versions:
        raise UsageError(
            f"{flavour.title} engines load in the release that built them, and in no other.",
            next_step="leave out --version-compatible, and build once per release",
        )
    wanted = {
        "TF32": (spec.tf32, "--tf32"),
        "VERSION_COMPATIBLE": (spec.version_compatible, "--version-compatible"),
        "REFIT": (spec.refittable, "--refittable"),
        "STRIP_PLAN": (spec.strip_weights, "--strip-weights"),
        "WEIGHT_STREAMING": (spec.weight_streaming, "--weight-streaming"),
    }
    for name, (on, option) in wanted.items():
        if on:
            config.set_flag(require_member(module, "BuilderFlag", name, option=option))
        elif (flag := member(module, "BuilderFlag", name)) is not None:
            config.clear_flag(flag)


def _set_targets(module: Any, flavour: Flavour, config: Any, spec: BuildSpec) -> None:
    level = spec.hardware_compatibility
    if flavour.ahead_of_time:
        if level is not HardwareCompatibility.NONE:
            raise UsageError(
                f"{flavour.title} has no hardware compatibility levels.",
                found=f"--hardware-compatibility {level}",
                next_step="name the targets instead: --sm 86,89,120",
            )
        _set_compute_capabilities(module, config, _ascending(spec.compute_capabilities))
        return
    if spec.compute_capabilities:
        raise UsageError(
            f"{flavour.title} builds for the GPU at hand, not for a list of compute capabilities.",
            found=f"--sm {','.join(spec.compute_capabilities)}",
            next_step="use --engine tensorrt-rtx, or --hardware-compatibility ampere-plus",
        )
    if level is not HardwareCompatibility.NONE:
        name = level.name
        option = f"--hardware-compatibility {level}"
        config.hardware_compatibility_level = require_member(module, "HardwareCompatibilityLevel", name, option=option)


def _set_compute_capabilities(module: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    if not capabilities:
        return
    known = {name: value for name, value in _members(module.ComputeCapability).items() if name.startswith("SM")}
    for capability in capabilities:
        if f"SM{capability.replace('.', '')}" not in known:
            raise UsageError(
                f"{module.__name__} {module.__version__} does not build for compute capability {capability}.",
                expected=", ".join(f"{name[2:-1]}.{name[-1]}" for name in known),
            )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(known[f"SM{capability.replace('.', '')}"], index)


def _ascending(capabilities: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(capabilities), key=lambda text: tuple(map(int, text.split(".")))))


def _members(enum: Any) -> dict[str, Any]:
    return dict(enum.__members__)
