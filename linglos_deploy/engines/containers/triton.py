"""A model repository of Triton Inference Server: ``NAME/config.pbtxt`` and ``NAME/1/`` with the plan.

Format: the server's "Model Configuration" and "Model Repository" pages. The plan is listed under the compute
capabilities that it was built for and is nobody's default (``model.plan``), so that no other GPU takes it by mistake.
The batch is an axis like any other (``max_batch_size: 0``), as engines serve what their profiles say.
"""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.engines.containers.base import Container, model_name
from linglos_deploy.engines.record import EngineRecord, copy_file
from linglos_deploy.engines.targets import PRESETS
from linglos_deploy.errors import UsageError
from linglos_deploy.signature import TensorSpec

TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int8": "TYPE_INT8",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "bool": "TYPE_BOOL",
}
"""NumPy's names of element types -> the server's."""


def write_triton(plan: Path, record: EngineRecord, folder: Path) -> None:
    """Write a model repository with one model.

    Raises:
        UsageError: The server has no name for a type, or takes no tensor without axes.
    """
    name = model_name(record)
    capabilities = _capabilities(record)
    file = f"model.sm{'_'.join(capabilities).replace('.', '')}.plan"
    text = "\n".join(
        [
            f'name: "{name}"',
            'platform: "tensorrt_plan"',
            "max_batch_size: 0",
            *(_tensor("input", spec) for spec in record.signature.inputs),
            *(_tensor("output", spec) for spec in record.signature.outputs),
            _instances(len(record.spec.profiles)),
            *(f'cc_model_filenames {{ key: "{capability}" value: "{file}" }}' for capability in capabilities),
            "",
        ]
    )
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(text, encoding="utf-8")
    copy_file(plan, folder / name / "1" / file)


TRITON = Container("triton", "Triton Inference Server", ("tensorrt",), write_triton)


def _capabilities(record: EngineRecord) -> list[str]:
    """Return every compute capability that the engine runs on; the server knows no "or later"."""
    minimum = record.target.minimum_compute_capability
    if minimum is None:
        return list(record.target.compute_capabilities)
    known = {capability for preset in PRESETS.values() for capability in preset.compute_capabilities}
    return sorted((it for it in known if _numbers(it) >= _numbers(minimum)), key=_numbers)


def _numbers(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))


def _tensor(kind: str, spec: TensorSpec) -> str:
    if spec.dtype not in TYPES or not spec.dims:
        raise UsageError(
            f"Triton Inference Server takes no tensor like '{spec.name}'.",
            found=spec.describe(),
            expected=f"axes, and one of {', '.join(TYPES)}",
            next_step="leave out --container triton",
        )
    dims = ", ".join(str(dim) if isinstance(dim, int) else "-1" for dim in spec.dims)
    return f'{kind} {{ name: "{spec.name}" data_type: {TYPES[spec.dtype]} dims: [ {dims} ] }}'


def _instances(profiles: int) -> str:
    """Without this the server uses the first profile only."""
    listed = ", ".join(f'"{index}"' for index in range(profiles))
    return f"instance_group {{ kind: KIND_GPU{f' profile: [ {listed} ]' if listed else ''} }}"
