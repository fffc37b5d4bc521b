"""Where does a graph first leave what it should compute? Bisection over cuts of the graph, few tensors at a time.

A cut after the k-th tensor is the tensors made so far that something later reads. Whatever is wrong before the cut must
pass through it, so a cut whose tensors are all right clears everything before it; half of what is left goes with every
look. Each look runs both graphs with the tensors of one cut as outputs: all other fusions stay as they are, and memory
holds a handful of tensors.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from linglos_deploy.backends.base import Runtime
from linglos_deploy.graph.topology import consumers, producers
from linglos_deploy.parity.layerwise import shared_tensors, with_outputs
from linglos_deploy.parity.metrics import Difference
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.reports.parity import Location, Probe
from linglos_deploy.signature import Batch

LIMIT_DB = 110.0
"""SQNR below which a tensor has left its reference, where both compute the same in the same order: such graphs agree to
the bit, and graphs that sum in another order to 120 dB."""


def locate(
    reference: onnx.ModelProto,
    candidate: onnx.ModelProto,
    batch: Batch,
    *,
    runtime: Runtime,
    candidate_runtime: Runtime | None = None,
    names: tuple[str, str],
    parent: onnx.ModelProto | None = None,
    limit_db: float = LIMIT_DB,
    progress: Progress = SILENT,
) -> Location:
    """Find the first tensor of the candidate, in graph order, that is not the reference's.

    Args:
        reference: What the candidate should compute, tensor by tensor: its parent, or a clean graph of the same
            precision.
        candidate: The graph to look into.
        batch: Inputs of both.
        runtime: Runs both.
        candidate_runtime: Runs the candidate, if that is another one.
        names: What the report calls both.
        parent: The float32 graph whose tensors are looked at and whose layers are named; the reference if ``None``.
        limit_db: SQNR below which a tensor counts as another one.
        progress: Told of every look.

    Returns:
        Where it is; ``tensor`` is ``None`` if the outputs are within the limit, or both share no tensor.
    """
    with tempfile.TemporaryDirectory(prefix="linglos-locate-") as folder, progress.stage("Locating") as advance:
        search = _Search(
            reference,
            candidate,
            batch,
            (runtime, candidate_runtime or runtime),
            Path(folder),
            limit_db,
            parent or reference,
        )
        order = search.order
        first: int | None = None
        if order and not search.clean(len(order) - 1):
            low, high = 0, len(order) - 1
            while low < high:
                advance()
                middle = (low + high) // 2
                if search.clean(middle):
                    low = middle + 1
                else:
                    high = middle
            first = low
    return _describe(search, first, names, limit_db)


@dataclass
class _Search:
    """Both graphs, and what was seen of their tensors."""

    reference: onnx.ModelProto
    candidate: onnx.ModelProto
    batch: Batch
    runtimes: tuple[Runtime, Runtime]
    folder: Path
    limit_db: float
    parent: onnx.ModelProto
    runs: int = 0
    seen: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared = shared_tensors(self.reference, self.candidate)
        named = {name for node in self.parent.graph.node for name in node.output}
        self.order = tuple(name for name in shared if name in named)
        self.last_reader = _last_readers(self.candidate, self.order)

    def cut(self, index: int) -> list[str]:
        """Return the tensors up to the ``index``-th that something after it reads; that one always."""
        return [name for name in self.order[: index + 1] if self.last_reader[name] > index or name == self.order[index]]

    def clean(self, index: int) -> bool:
        """Return whether all tensors of a cut are the reference's."""
        names = self.cut(index)
        unknown = [name for name in names if name not in self.seen]
        if unknown:
            self._look(unknown)
        return all(self.seen[name] >= self.limit_db for name in names)

    def _look(self, names: Sequence[str]) -> None:
        answers = []
        for number, graph in enumerate((self.reference, self.candidate)):
            probe = with_outputs(graph, names, self.folder / f"{number}.onnx")
            with self.runtimes[number].open(probe) as runner:
                found = runner.run(self.batch)
                answers.append({name: np.array(found[name]) for name in names})
            self.runs += 1
        for name in names:
            self.seen[name] = _closeness(answers[0][name], answers[1][name])


def _closeness(wanted: np.ndarray, found: np.ndarray) -> float:
    if wanted.shape != found.shape:
        return -np.inf
    difference = Difference(keep_worst=0, detailed=False)
    difference.update(np.atleast_1d(wanted), np.atleast_1d(found))
    metrics = difference.metrics()
    return -np.inf if metrics.mismatched_nonfinite else metrics.sqnr_db


def _last_readers(model: onnx.ModelProto, order: Sequence[str]) -> dict[str, int]:
    """Return, for each tensor, the position in ``order`` of the last one that is made from it without a detour.

    Tensors that only one of the graphs has (between a pair, behind a cast) lie on the way and are looked through. What
    the graph returns is read after everything.
    """
    place = {name: index for index, name in enumerate(order)}
    returned = {value.name for value in model.graph.output}
    reached: dict[str, int] = {}
    for node in reversed(model.graph.node):
        after = max(
            (place[name] if name in place else reached.get(name, -1) for name in node.output if name),
            default=-1,
        )
        for name in node.input:
            reached[name] = max(reached.get(name, -1), after)
    return {name: len(order) if name in returned else reached.get(name, -1) for name in order}


def _describe(search: _Search, first: int | None, names: tuple[str, str], limit_db: float) -> Location:
    probes = tuple(Probe(name, _finite(search.seen[name])) for name in search.order if name in search.seen)
    if first is None:
        return Location(
            reference=names[0],
            candidate=names[1],
            tensors=len(search.order),
            runs=search.runs,
            limit_db=limit_db,
            tensor=None,
            node=None,
            layer=None,
            module=None,
            sqnr_db=None,
            feeds=(),
            probes=probes,
        )
    tensor = search.order[first]
    node = producers(search.candidate.graph)[tensor]
    layer = _missing_maker(search, tensor) or producers(search.parent.graph)[tensor].name
    return Location(
        reference=names[0],
        candidate=names[1],
        tensors=len(search.order),
        runs=search.runs,
        limit_db=limit_db,
        tensor=tensor,
        node=node.name,
        layer=layer,
        module=module_of(layer),
        sqnr_db=_finite(search.seen[tensor]),
        feeds=tuple(name for name in node.input if name),
        probes=probes,
    )


def _missing_maker(search: _Search, tensor: str) -> str | None:
    """Return the first node of the parent that the candidate lacks on the way to ``tensor``."""
    shared = set(search.order)
    makers = producers(search.parent.graph)
    theirs = {name for node in search.candidate.graph.node for name in node.output}
    known = consumers(search.parent.graph).keys()
    waiting, missing = list(makers[tensor].input), []
    while waiting:
        name = waiting.pop()
        if name in makers and name not in shared and name in known:
            if name not in theirs:
                missing.append(name)
            waiting.extend(makers[name].input)
    order = {name: index for index, name in enumerate(makers)}
    return makers[min(missing, key=lambda name: order[name])].name if missing else None


def module_of(node: str) -> str:
    """Return the PyTorch module that a node came from: what stands before the slash of its name.

    >>> module_of("stages.0.1.mlp.2/Conv")
    'stages.0.1.mlp.2'
    """
    return node.rpartition("/")[0]


def _finite(value: float) -> float:
    return float(np.clip(value, -300.0, 300.0))
