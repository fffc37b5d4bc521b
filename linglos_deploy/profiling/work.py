"""How much each executed layer has to do at least: the multiplications and bytes of the node that it is named after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from onnx import ModelProto, shape_inference

from linglos_deploy.artifacts import OnnxArtifact, load_onnx
from linglos_deploy.backends.layers import node_of
from linglos_deploy.graph.costs import Cost, cost
from linglos_deploy.reports.profile import LayerProfile

FLOAT32 = "float32"


def with_work(profile: LayerProfile, artifact: OnnxArtifact, batch: Mapping[str, np.ndarray]) -> LayerProfile:
    """Add what layers have to do at least, at the sizes of a batch.

    A layer is named after the node that does its work; of several with one name the slowest does it. Only float32
    layers get any: of one in integers the graph states the types before fusing, which are wider than what moves.

    Args:
        profile: Layers without work.
        artifact: The graph that ran.
        batch: What it ran on.
    """
    costs = node_costs(load_onnx(artifact.path), batch)
    longest_first = sorted(costs, key=len, reverse=True)
    owners: dict[str, int] = {}
    for place, layer in enumerate(profile.layers):
        name = node_of(layer.layer, longest_first)
        slower = name in owners and layer.milliseconds <= profile.layers[owners[name]].milliseconds
        if name and not slower:
            owners[name] = place
    layers = list(profile.layers)
    for name, place in owners.items():
        if layers[place].dtype == FLOAT32:
            layers[place] = replace(layers[place], macs=costs[name].macs, bytes=costs[name].bytes)
    return replace(profile, layers=tuple(layers))


def node_costs(model: ModelProto, batch: Mapping[str, np.ndarray]) -> dict[str, Cost]:
    """Return the cost of each named node, with the inputs' sizes as those of a batch."""
    for value in model.graph.input:
        if value.name in batch:
            for dim, size in zip(value.type.tensor_type.shape.dim, batch[value.name].shape, strict=True):
                dim.dim_value = size
    typed = ir.from_proto(shape_inference.infer_shapes(model, data_prop=True))
    return {node.name: cost(node) for node in typed.graph if node.name}
