"""An ONNX file whose one node is our engine, for ONNX Runtime's execution provider of TensorRT-RTX.

Format: ONNX Runtime's "EP Context Cache Feature Design". The file has the inputs and outputs of the graph, so an
application opens it as it would open the graph.
"""

from __future__ import annotations

from pathlib import Path

from linglos_deploy.engines.containers.base import Container, model_name
from linglos_deploy.engines.record import EngineRecord, copy_file
from linglos_deploy.files import atomic_file
from linglos_deploy.signature import TensorSpec, is_unnamed

PROVIDER = "NvTensorRTRTXExecutionProvider"
EMBEDDED_BYTES = 1 << 30
"""Larger plans lie in a file beside, as a protobuf ends at 2 GiB."""


def write_epcontext(plan: Path, record: EngineRecord, folder: Path, *, embedded_bytes: int = EMBEDDED_BYTES) -> None:
    """Write ``NAME_ctx.onnx``, and the plan beside it where it is too large to be part of it."""
    import onnx

    name = model_name(record)
    embedded = record.bytes <= embedded_bytes
    if not embedded:
        copy_file(plan, folder / f"{name}_ctx.engine")
    node = onnx.helper.make_node(
        "EPContext",
        list(record.signature.input_names),
        list(record.signature.output_names),
        name=name,
        domain="com.microsoft",
        main_context=1,
        embed_mode=int(embedded),
        ep_cache_context=plan.read_bytes() if embedded else f"{name}_ctx.engine",
        ep_sdk_version=record.version,
        onnx_model_filename=record.onnx_name,
        partition_name=name,
        source=PROVIDER,
    )
    inputs, outputs = (
        [_value(spec) for spec in specs] for specs in (record.signature.inputs, record.signature.outputs)
    )
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], name, inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
        producer_name="linglos-deploy",
    )
    with atomic_file(folder / f"{name}_ctx.onnx") as partial:
        partial.write_bytes(model.SerializeToString())


EPCONTEXT = Container("epcontext", "ONNX Runtime's provider of TensorRT-RTX", ("tensorrt-rtx",), write_epcontext)


def _value(spec: TensorSpec) -> object:
    import ml_dtypes
    import numpy as np
    import onnx

    dtype = np.dtype(ml_dtypes.bfloat16) if spec.dtype == "bfloat16" else np.dtype(spec.dtype)
    dims = [None if is_unnamed(dim) else dim for dim in spec.dims]
    return onnx.helper.make_tensor_value_info(spec.name, onnx.helper.np_dtype_to_tensor_dtype(dtype), dims)
