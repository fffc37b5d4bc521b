"""A folder for DeepStream's ``nvinfer``: config file, labels, and an engine of the graph in the form that it needs.

Format: DeepStream's "Gst-nvinfer" page and its property parser. The element hands over float32 planes,
``net-scale-factor * (pixel - offsets[channel])``: one factor for all channels, which does not suit most models. And it
takes a classifier's outputs for probabilities. So the engine is compiled from a graph of its own, which holds both:

before: image (normalized) -> model -> logits
after:  image (pixels, 0 to 255) -> Sub(scale mean) -> Div(scale std) -> model -> Softmax -> probabilities
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from linglos_deploy.engines.containers.base import Container, model_name
from linglos_deploy.engines.record import EngineRecord
from linglos_deploy.errors import UsageError
from linglos_deploy.files import atomic_file
from linglos_deploy.images.layout import Layout
from linglos_deploy.images.preprocessing import Color, Fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from linglos_deploy.artifacts import OnnxArtifact
    from linglos_deploy.engines.spec import BuildSpec
    from linglos_deploy.images.preprocessing import PreprocessSpec

NAME = "deepstream"
TITLE = "DeepStream's nvinfer"
PROBABILITIES = "probabilities"
COLORS = {Color.RGB: 0, Color.BGR: 1, Color.GREY: 2}
"""Our colours -> ``model-color-format``."""

PRIMARY, CLASSIFIER, PLANES = 1, 1, 0
"""Of ``process-mode``, ``network-type`` and ``network-input-order``."""


def check_deepstream(model: OnnxArtifact, spec: BuildSpec) -> None:
    """Check that ``nvinfer`` can feed a graph and read its answers.

    Args:
        model: The graph that the other engine is compiled from.
        spec: How both are compiled; ``nvinfer`` uses the first profile.

    Raises:
        UsageError: It cannot, and why.
    """
    says = _metadata(model.path)
    task = _task(says)
    if task != "classify":
        _refuse(
            "reads what a classifier answers; anything else needs a parser library of your own.",
            found=f"a graph of the task '{task}'" if task else "a graph that does not say what its outputs mean",
            expected="a graph that 'linglos-deploy export' made of a classifier",
        )
    if "preprocessing" not in says:
        _refuse("hands over pixels, and this graph does not say how pixels become its input.", found="no preprocessing")
    preprocess = _preprocessing(model.path)
    if says.get("preprocessing_embedded") == "true" or preprocess.layout is not Layout.NCHW:
        _refuse(
            "hands over planes of float32.",
            found=model.signature.inputs[0].describe(),
            expected="float32 N x C x H x W; the container puts the normalization into the graph itself",
            next_step="export without --embed-preprocessing",
        )
    if preprocess.color not in COLORS:
        _refuse("has no such colours.", found=str(preprocess.color), expected=", ".join(COLORS))
    inputs, outputs = model.signature.inputs, model.signature.outputs
    floats = {spec.dtype for spec in (*inputs, *outputs)} == {"float32"}
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].dims) != 2 or not floats:
        _refuse(
            "takes one image and reads one row of float32 a picture.",
            found="; ".join(spec.describe() for spec in (*inputs, *outputs)),
            expected="one float32 input and one float32 output of N x classes",
        )
    labels, classes = _labels(says), outputs[0].dims[1]
    if labels and isinstance(classes, int) and len(labels) != classes:
        _refuse("wants a label a class.", found=f"{len(labels)} labels for {classes} classes")
    if odd := [label for label in labels if not label.strip() or set(label) & set(";\n\r")]:
        _refuse("separates labels by ';'.", found=f"the label {odd[0]!r}", expected="labels in one line, without ';'")
    _input_shape(model, spec)


def pixels_to_probabilities(model: OnnxArtifact, folder: Path) -> OnnxArtifact:
    """Write the graph that takes pixels and answers with probabilities; return it.

    Args:
        model: A graph that :func:`check_deepstream` accepts.
        folder: Where the new one goes, under the same name.
    """
    from onnx import helper

    from linglos_deploy.artifacts import Step, load_onnx, open_onnx, tool_versions
    from linglos_deploy.graph.topology import replace_field

    proto = load_onnx(model.path)
    graph = proto.graph
    image, logits = graph.input[0].name, graph.output[0].name
    front, constants = _normalize(image, _preprocessing(model.path))
    for node in graph.node:
        node.input[:] = ["deepstream/Div" if name == image else name for name in node.input]
    softmax = helper.make_node("Softmax", [logits], [PROBABILITIES], name="deepstream/Softmax", axis=-1)
    replace_field(graph.node, [*front, *graph.node, softmax])
    graph.initializer.extend(constants)
    graph.output[0].name = PROBABILITIES
    for entry in [it for it in proto.metadata_props if it.key == "linglos.decoding"]:
        proto.metadata_props.remove(entry)  # what the outputs mean is another thing now
    step = Step(
        stage="container",
        inputs={"graph": model.digest},
        config={"container": NAME},
        tools=tool_versions("linglos-deploy", "onnx"),
    )
    out = folder / model.path.name
    with atomic_file(out) as partial:
        partial.write_bytes(proto.SerializeToString(deterministic=True))
    return open_onnx(out, lineage=(*model.lineage, step))


def write_deepstream(plan: Path, record: EngineRecord, folder: Path) -> None:
    """Write the config file and the labels around a plan of :func:`pixels_to_probabilities`'s graph.

    Args:
        plan: The plan; it lies in ``folder``.
        record: Its sidecar.
        folder: Holds the graph too.
    """
    graph = folder / record.onnx_name
    preprocess, labels = _preprocessing(graph), _labels(_metadata(graph))
    batch, *sizes = (
        record.spec.profiles[0][record.signature.input_names[0]].max
        if record.spec.profiles
        else (dim for dim in record.signature.inputs[0].dims if isinstance(dim, int))
    )
    lines = [
        "# Made by linglos-deploy for Gst-nvinfer, from its documentation. Not yet run.",
        "# nvinfer resizes with a filter of its own: measure the accuracy in your pipeline before you rely on it.",
        f"# The model was checked on images prepared like this: {preprocess.describe()}",
        "[property]",
        "gie-unique-id=1",
        f"process-mode={PRIMARY}",
        f"network-type={CLASSIFIER}",
        f"model-engine-file={plan.name}",
        *(["labelfile-path=labels.txt"] if labels else []),
        f"batch-size={batch}",
        f"infer-dims={';'.join(map(str, sizes))}",
        f"network-input-order={PLANES}",
        "net-scale-factor=1.0",
        f"model-color-format={COLORS[preprocess.color]}",
        f"maintain-aspect-ratio={int(preprocess.fit is Fit.LETTERBOX)}",
        *(["symmetric-padding=1"] if preprocess.fit is Fit.LETTERBOX else []),
        f"output-blob-names={PROBABILITIES}",
        "classifier-threshold=0.0",
        "",
    ]
    (folder / f"{model_name(record)}.txt").write_text("\n".join(lines), encoding="utf-8")
    if labels:
        (folder / "labels.txt").write_text(";".join(labels) + "\n", encoding="utf-8")


DEEPSTREAM = Container(
    NAME, TITLE, ("tensorrt",), write_deepstream, check=check_deepstream, graph=pixels_to_probabilities
)


def _normalize(image: str, spec: PreprocessSpec) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the operations of ``preprocessing.normalize``, on planes."""
    from onnx import helper, numpy_helper

    constants = [
        numpy_helper.from_array(array.reshape(1, -1, 1, 1), f"deepstream.{name}")
        for name, array in zip(("offset", "scale"), spec.offset_and_scale(), strict=True)
    ]
    nodes = [
        helper.make_node("Sub", [image, "deepstream.offset"], ["deepstream/Sub"], name="deepstream/Sub"),
        helper.make_node("Div", ["deepstream/Sub", "deepstream.scale"], ["deepstream/Div"], name="deepstream/Div"),
    ]
    return nodes, constants


def _input_shape(model: OnnxArtifact, spec: BuildSpec) -> None:
    """Check that the profile that ``nvinfer`` uses has one height and width, as its frames have."""
    (image,) = model.signature.inputs
    if spec.profiles:
        shapes = spec.profiles[0][image.name]
        fixed = shapes.min[1:] == shapes.max[1:]
        found = f"{list(shapes.min)} to {list(shapes.max)}"
    else:
        fixed, found = all(isinstance(dim, int) for dim in image.dims), image.describe()
    if not fixed:
        _refuse(
            "runs the first profile, at one height and width.",
            found=found,
            expected="one size",
            next_step="--size-profile 224, with the size that your pipeline should use",
        )


def _metadata(path: Path) -> Mapping[str, str]:
    from linglos_deploy.graph.metadata import read_metadata  # it imports onnx

    return read_metadata(path)


def _preprocessing(path: Path) -> PreprocessSpec:
    from linglos_deploy.graph.metadata import read_preprocessing

    return read_preprocessing(path)


def _task(says: Mapping[str, str]) -> str | None:
    from linglos_deploy.codec import from_json
    from linglos_deploy.signature import Decoding

    return from_json(Decoding, says["decoding"], source="linglos.decoding").task if "decoding" in says else None


def _labels(says: Mapping[str, str]) -> list[str]:
    from linglos_deploy.codec import from_json

    return from_json(list[str], says.get("labels", "[]"), source="linglos.labels")


def _refuse(why: str, *, found: str, expected: str | None = None, next_step: str | None = None) -> None:
    raise UsageError(
        f"{TITLE} {why}",
        found=found,
        expected=expected,
        next_step=next_step or f"leave out --container {NAME}",
    )
