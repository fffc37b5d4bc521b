"""``--target``: names for hardware, and the settings a person would otherwise look up for it.

Compute capabilities are those of NVIDIA's list (developer.nvidia.com/cuda-gpus).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.discovery import suggest
from linglos_deploy.engines.dla import DLA, refuse_to_build
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known about one kind of hardware.

    Attributes:
        name: What ``--target`` takes.
        title: The hardware.
        compute_capabilities: Of its GPUs.
        backends: Flavours that support it, the best first.
        hardware_compatibility: What a build with standard TensorRT needs so that one engine serves all of them.
        workspace_bytes: Scratch memory worth allowing where memory is shared with the processor.
        precision: What ``--precision`` is best there.
        advice: What else to know.
    """

    name: str
    title: str
    compute_capabilities: tuple[str, ...]
    backends: tuple[str, ...]
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    workspace_bytes: int | None = None
    precision: str = "int8"
    advice: str = ""


_TENSORRT, _TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
_RTX_FIRST = (_TENSORRT_RTX, _TENSORRT)
_ON_THE_DEVICE = "Build on the device itself: plans of standard TensorRT are tied to GPU, release and platform."

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "jetson-orin",
            "Jetson AGX Orin, Orin NX, Orin Nano",
            ("8.7",),
            (_TENSORRT,),
            workspace_bytes=1 << 30,
            advice=f"{_ON_THE_DEVICE} JetPack 6 has TensorRT 10.3. The DLA cores need weakly typed networks there, so "
            "these engines use the GPU. Set the power mode before measuring.",
        ),
        Preset(
            "jetson-thor",
            "Jetson AGX Thor, T4000, T5000",
            ("11.0", "10.1"),
            (_TENSORRT,),
            workspace_bytes=2 << 30,
            advice=f"{_ON_THE_DEVICE} CUDA 13 calls its GPU 11.0, CUDA 12 called it 10.1.",
        ),
        Preset(
            "rtx-turing",
            "GeForce RTX 20, Quadro RTX, T4",
            ("7.5",),
            _RTX_FIRST,
            precision="fp16",
            advice="TensorRT-RTX runs no float32 matrix products there: export with --precision fp16.",
        ),
        Preset("rtx-ampere", "GeForce RTX 30, RTX A2000 to A6000, A10", ("8.6",), _RTX_FIRST),
        Preset("rtx-ada", "GeForce RTX 40, RTX 2000 to 6000 Ada, L4, L40", ("8.9",), _RTX_FIRST),
        Preset("rtx-blackwell", "GeForce RTX 50, RTX PRO Blackwell", ("12.0",), _RTX_FIRST),
        Preset("dgx-spark", "DGX Spark (GB10)", ("12.1",), _RTX_FIRST),
        Preset(
            "rtx",
            "any RTX GPU from the 30 series on",
            ("8.6", "8.9", "12.0"),
            _RTX_FIRST,
            hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
        ),
        Preset("datacenter-ampere", "A100, A30", ("8.0",), (_TENSORRT,), advice=_ON_THE_DEVICE),
        Preset("datacenter-hopper", "H100, H200, GH200", ("9.0",), (_TENSORRT,), advice=_ON_THE_DEVICE),
        Preset("datacenter-blackwell", "B200, GB200, B300", ("10.0", "10.3"), (_TENSORRT,), advice=_ON_THE_DEVICE),
        Preset(
            "datacenter",
            "any data centre GPU from A100 on",
            ("8.0", "8.6", "8.9", "9.0", "10.0", "10.3"),
            (_TENSORRT,),
            hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
            advice="One engine for all of them runs slower than one built for each.",
        ),
    )
}
"""All presets by name."""


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UsageError: There is none of that name, or it is a DLA core, which a preflight is for.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name == DLA:
        raise refuse_to_build()
    raise UsageError(
        f"There is no target '{name}'.",
        expected=", ".join(PRESETS),
        next_step=suggest(name, PRESETS, otherwise="leave out --target for the GPU at hand"),
    )


def apply_preset(preset: Preset, spec: BuildSpec, *, backend: str) -> BuildSpec:
    """Fill in what ``spec`` leaves open for a kind of hardware; what it says itself stays.

    Raises:
        UsageError: ``backend`` does not support that hardware.
    """
    if backend not in preset.backends:
        raise UsageError(
            f"{backend} does not run on {preset.title}.",
            expected=" or ".join(preset.backends),
            next_step=f"--engine {preset.backends[0]}",
        )
    if spec.workspace_bytes is None:
        spec = replace(spec, workspace_bytes=preset.workspace_bytes)
    if backend == _TENSORRT_RTX:
        return spec if spec.compute_capabilities else replace(spec, compute_capabilities=preset.compute_capabilities)
    if spec.hardware_compatibility is HardwareCompatibility.NONE:
        return replace(spec, hardware_compatibility=preset.hardware_compatibility)
    return spec
