"""Runs passes over a graph that comes and goes as protobuf."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import InvariantError, PassBase

from linglos_deploy.errors import ArtifactError, LinglosError


def run_passes(model: onnx.ModelProto, *passes: PassBase) -> onnx.ModelProto:
    """Return the graph after ``passes``, one after the other; ``model`` is left as it is.

    Names of tensors and nodes stay; what a pass does not touch comes out as it went in, except that entries of metadata
    are sorted. The same graph and passes give the same bytes under ``SerializeToString(deterministic=True)``.

    Raises:
        ArtifactError: ``onnx_ir`` cannot read the graph: it knows no sparse tensors, for one.
        LinglosError: Whatever a pass raises, from its conditions too.
    """
    edited = read_ir(model)
    for each in passes:
        try:
            edited = each(edited).model
        except InvariantError as error:  # onnx_ir wraps what the conditions of a pass raise
            if isinstance(error.__cause__, LinglosError):
                raise error.__cause__ from None
            raise
    result = ir.to_proto(edited)
    _drop_types_of_constants(result.graph)
    return result


def read_ir(model: onnx.ModelProto) -> ir.Model:
    """Return the graph with links from every value to its maker and readers.

    Raises:
        ArtifactError: ``onnx_ir`` cannot read it.
    """
    try:
        return ir.serde.deserialize_model(model)
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ArtifactError(
            f"The graph '{model.graph.name}' has a part that cannot be edited.",
            found=str(cause).strip().splitlines()[0] if str(cause).strip() else repr(cause),
            expected="nodes and dense tensors",
            next_step="export it again with sparse tensors made dense",
        ) from error


def _drop_types_of_constants(graph: onnx.GraphProto) -> None:
    """Remove types of initializers, which state their own: ``onnx_ir`` writes them down a second time."""
    stored = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in stored]
    del graph.value_info[:]
    graph.value_info.extend(kept)
