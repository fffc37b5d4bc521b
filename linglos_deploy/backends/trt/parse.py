"""ONNX file -> TensorRT network, and what to say when the parser refuses: the node, its PyTorch module, the way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.trt.log import Log
from linglos_deploy.errors import BuildError
from linglos_deploy.graph.open_axes import clear_empty_names
from linglos_deploy.signature import TensorSpec

if TYPE_CHECKING:
    import onnx

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""Names of TensorRT's element types -> NumPy's."""


def parse_network(module: Any, builder: Any, model: OnnxArtifact, *, logger: Any, log: Log) -> Any:
    """Return a strongly typed network that computes ``model``.

    Raises:
        BuildError: The graph has a node or a type that TensorRT refuses; the message names it.
    """
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, logger)
    if not _parse(parser, model):
        raise _refusal(module, parser, model, log)
    _check_interface(network, model)
    return network


def _parse(parser: Any, model: OnnxArtifact) -> bool:
    """Parse the file; a copy of it where axes that have nothing in common share the name ``?``."""
    graph = load_onnx(model.path)
    if not clear_empty_names(graph):
        del graph  # as large as the weights
        return bool(parser.parse_from_file(str(model.path)))
    return bool(parser.parse(graph.SerializeToString()))


def explain(text: str, model: onnx.ModelProto) -> tuple[onnx.NodeProto | None, str]:
    """Find the node that a builder's message is about, and what could be done about the message.

    Returns:
        The node, if the message names one, and a suggestion.
    """
    named = [node for node in model.graph.node if node.name and f"'{node.name}'" in text]
    for pattern, suggestion in _SUGGESTIONS:
        if re.search(pattern, text):
            return (named[0] if named else None), suggestion
    return (named[0] if named else None), "read the log above; 'linglos-deploy inspect MODEL.onnx' shows the graph"


def describe_node(node: onnx.NodeProto) -> str:
    """Return what a person needs to find a node again: operator, name, and the PyTorch module it came from."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    place = f", module '{module}'" if (module := module_path(node)) else ""
    return f"node '{node.name or node.output[0]}' ({operator}{place})"


def module_path(node: onnx.NodeProto) -> str:
    """Return the PyTorch module that a node came from, empty if unknown.

    Node names are ``module.path/Operator``.

    >>> import onnx.helper
    >>> module_path(onnx.helper.make_node("Conv", [], ["y"], name="stages.2.1.attention.key/Conv"))
    'stages.2.1.attention.key'
    """
    return str(node.name).strip("/").rpartition("/")[0]


_SUGGESTIONS = (
    (
        r"operand scales",
        "the two operands of a quantized product have scales of different types: give both DequantizeLinear nodes "
        "scales of one type, with no Cast between them and the product",
    ),
    (
        r"must have same input types|types? mismatch|same type|must have (the )?same",
        "the graph mixes element types and a strongly typed network converts none: make the types agree there, "
        "with a Cast or by exporting with one --precision",
    ),
    (
        r"graphScope|[Cc]onditional",
        "the graph branches with If or Loop in a form that TensorRT does not compile: export it without (for one "
        "sampling rate, one length), or run it on ONNX Runtime",
    ),
    (
        r"for Turing \(SM75\)",
        "leave out compute capability 7.5, or export with --precision fp16, which Turing can run",
    ),
    (
        r"libnvinfer_lean|libnvinfer_vc_plugin",
        "install the lean runtime of the same release, or build without version compatibility",
    ),
    (r"out of memory|OutOfMemory|[Ii]nsufficient memory", "lower the largest --batch of the profiles, or --workspace"),
    (
        r"CUDA driver|cudaError|CUDA_SUCCESS|no CUDA-capable device",
        "this build needs a GPU with a working driver: build on a machine that has one, or leave out the options "
        "(refit, weight stripping) that need it",
    ),
    (
        r"profile|kOPT|kMIN|kMAX|dimension",
        "compare the shapes of --profile with the inputs that 'linglos-deploy inspect' shows",
    ),
)


def _refusal(module: Any, parser: Any, model: OnnxArtifact, log: Log) -> BuildError:
    graph = load_onnx(model.path)
    if not parser.num_errors:
        return BuildError(f"{module.__name__} cannot read '{model.path}'.", found=log.tail())
    first = parser.get_error(0)
    node = _node_of(first, graph)
    what = "The graph" if node is None else describe_node(node)
    more = f" (and {parser.num_errors - 1} more)" if parser.num_errors > 1 else ""
    code = getattr(first.code(), "name", str(first.code()))
    return BuildError(
        f"{module.__name__} {module.__version__} cannot build {what}{more}.",
        found=f"{code}: {_shorten(first.desc())}",
        expected="a standard ONNX operator with types that TensorRT supports",
        next_step=_next_step(code, first.desc(), node, graph),
    )


def _node_of(error: Any, graph: onnx.ModelProto) -> onnx.NodeProto | None:
    name, index = error.node_name(), error.node()
    for node in graph.graph.node:
        if name and node.name == name:
            return node
    return graph.graph.node[index] if 0 <= index < len(graph.graph.node) else None


def _next_step(code: str, text: str, node: onnx.NodeProto | None, graph: onnx.ModelProto) -> str:
    unsupported = code.startswith("UNSUPPORTED_NODE") or "Plugin not found" in text
    if unsupported and node is not None:
        place = module_path(node) or "the module that makes it"
        return (
            f"write '{place}' with operators that TensorRT has, or leave it out of the graph: '{node.op_type}' is none"
        )
    return explain(text, graph)[1]


def _shorten(text: str, limit: int = 400) -> str:
    first = " ".join(text.split())
    return first if len(first) <= limit else first[:limit] + " …"


def _check_interface(network: Any, model: OnnxArtifact) -> None:
    """TensorRT narrows float64 to float32 without a word; an engine must take and give what the graph says."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for kind, found, expected in (
        ("input", inputs, model.signature.inputs),
        ("output", outputs, model.signature.outputs),
    ):
        tensors = {tensor.name: tensor for tensor in found}
        for spec in expected:
            _check_tensor(kind, tensors.get(spec.name), spec)


def _check_tensor(kind: str, tensor: Any, spec: TensorSpec) -> None:
    if tensor is None:
        raise BuildError(f"The {kind} '{spec.name}' is missing in the parsed network.", expected=spec.describe())
    dtype = DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower())
    if dtype != spec.dtype:
        raise BuildError(
            f"The {kind} '{spec.name}' changed its type in the parsed network.",
            found=dtype,
            expected=spec.describe(),
            next_step=f"export the graph with a type that TensorRT has ({', '.join(DTYPES.values())})",
        )
