"""Does a bundle agree with itself? What its manifest, graphs, plan, engines and golden tensors each say.

Numbers are judged elsewhere. A mean that was changed in the manifest alone, labels that moved by one or an engine that
was compiled from another graph change no answer of any graph, and yet every answer that a user gets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linglos_deploy.artifacts import load_onnx, onnx_signature
from linglos_deploy.backends.base import Runner
from linglos_deploy.bundle import Bundle, EngineEntry, GraphEntry, InputKind
from linglos_deploy.codec import to_builtins
from linglos_deploy.engines.record import read_record
from linglos_deploy.files import sha256_file
from linglos_deploy.golden_tensors import preprocess_golden
from linglos_deploy.graph.metadata import read_metadata
from linglos_deploy.graph.precision import precision_of_graph
from linglos_deploy.images.digests import preprocess_digest
from linglos_deploy.images.preprocessing import PreprocessSpec, normalize
from linglos_deploy.quantization.placement import find_placement
from linglos_deploy.quantization.plan import QuantPlan
from linglos_deploy.reports.parity import Finding

_PIXEL_STEPS = 2
"""How far a resized pixel may lie from the recorded one: releases of Pillow round differently."""
_NORMALIZED = 1e-5
"""How far a normalized pixel may lie from the recorded one, as a share of the largest or of 1."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What a loader on another machine tests itself with.

    Attributes:
        pixels: The golden images as a graph takes them that normalizes by itself.
        image: The same as others take them.
        answers: What the graph answered when the bundle was made, by output.
        tolerance: Largest accepted difference, as a share of the output's largest value.
    """

    pixels: np.ndarray
    image: np.ndarray
    answers: Mapping[str, np.ndarray]
    tolerance: float

    @classmethod
    def read(cls, tensors: Mapping[str, np.ndarray], entry: GraphEntry, tolerance: float) -> SelfTest:
        """Read one graph's part of the golden tensors."""
        answers = {
            name: tensors[key] for name in entry.signature.output_names if (key := f"{entry.file}:{name}") in tensors
        }
        return cls(tensors["pixels"], tensors["image"], answers, tolerance)

    def check(self, runner: Runner) -> Finding:
        """Let the graph answer again, and compare as a loader does."""
        (spec,) = runner.signature.inputs
        found = runner.run({spec.name: self.pixels if spec.dtype == "uint8" else self.image})
        lacking = [name for name in runner.signature.output_names if name not in self.answers]
        shares = {name: _share(answer, np.asarray(found[name])) for name, answer in self.answers.items()}
        worst = max(shares, key=lambda name: shares[name], default="")
        return Finding(
            "the golden answers that a loader tests itself with are this graph's",
            not lacking and shares.get(worst, 0.0) <= self.tolerance,
            f"none for '{lacking[0]}'"
            if lacking
            else f"'{worst}' differs by {shares.get(worst, 0.0):.2g} of its largest",
            f"at most {self.tolerance:g}",
        )


def _share(wanted: np.ndarray, found: np.ndarray) -> float:
    if wanted.shape != found.shape or (np.isfinite(wanted) != np.isfinite(found)).any():
        return float("inf")
    both = np.isfinite(wanted)
    off = np.abs(wanted[both].astype(np.float64) - found[both].astype(np.float64)).max(initial=0.0)
    return float(off / max(float(np.abs(wanted[both]).max(initial=0.0)), 1e-30))


def check_graph_entry(bundle: Bundle, entry: GraphEntry) -> Finding:
    """Compare what the manifest says of a graph with what the graph, and its plan, say themselves."""
    return _finding(f"the manifest says of '{entry.file}' what it is", list(_wrong_facts(bundle, entry)))


def check_golden(bundle: Bundle, tensors: Mapping[str, np.ndarray]) -> Finding:
    """Prepare the golden images again, as the manifest says, and compare them with the recorded input."""
    spec = bundle.manifest.preprocessing
    return _finding("golden images become input as the manifest says", list(_wrong_golden(spec, tensors)))


def check_engine_entry(bundle: Bundle, entry: EngineEntry) -> Finding:
    """Compare what the manifest says of an engine with the engine's own record."""
    record = read_record(bundle.path / entry.file)
    source = bundle.manifest.files.get(entry.source)
    wrong = _unequal(
        {
            "compiled from": (record.onnx_digest[:16], source.sha256[:16] if source else f"no '{entry.source}'"),
            "plan": (record.digest[:16], bundle.manifest.files[entry.file].sha256[:16]),
            "backend": (record.backend, entry.backend),
            "signature": (record.signature, entry.signature),
        }
    )
    return _finding(f"engine '{entry.file}' is the one that the manifest describes", list(wrong))


def _wrong_facts(bundle: Bundle, entry: GraphEntry) -> Iterator[str]:
    manifest = bundle.manifest
    graph, says = load_onnx(bundle.path / entry.file), read_metadata(bundle.path / entry.file)
    pixels = entry.input is InputKind.PIXELS
    yield from _unequal(
        {
            "precision": (str(precision_of_graph(graph)), entry.precision),
            "signature": (onnx_signature(graph), entry.signature),
            "input": (entry.signature.inputs[0].dtype == "uint8", pixels),
        }
    )
    stated: dict[str, Any] = {
        "preprocessing": manifest.preprocessing,
        "labels": manifest.labels,
        "decoding": manifest.decoding,
    }
    for name, value in stated.items():
        found, mine = json.loads(says.get(name, "null")), json.loads(json.dumps(to_builtins(value)))
        if name in says and found != mine:
            yield f"{name}: {_gap(found, mine)}"
    if "weights" in says and says["weights"] != manifest.weights:
        yield f"weights: '{says['weights']}', and '{manifest.weights}' in the manifest"
    if entry.placement:
        placement = find_placement(entry.placement)
        yield from _unequal(
            {
                "runtimes": (tuple(placement.runtimes), tuple(entry.runtimes)),
                "machines": (tuple(placement.machines), tuple(entry.machines)),
            }
        )
        yield from _wrong_story(bundle, entry)


def _wrong_story(bundle: Bundle, entry: GraphEntry) -> Iterator[str]:
    """Yield where the graph was made from another graph or plan than the bundle's, or for other pixels."""
    step = next((step for step in entry.lineage if step.stage == "quantize"), None)
    plan = bundle.path / "plan.json"
    if step is not None and plan.is_file():
        parent = bundle.manifest.files[bundle.manifest.graphs[0].file].sha256
        here = {"graph": parent, "plan": sha256_file(plan)}
        yield from _unequal(
            {f"made from the {role}": (step.inputs.get(role, "")[:16], found[:16]) for role, found in here.items()}
        )
        digest = QuantPlan.load(plan).preprocess_digest
        if digest and digest != preprocess_digest(bundle.manifest.preprocessing):
            yield "its ranges come from images that were prepared otherwise"


def _wrong_golden(spec: PreprocessSpec, tensors: Mapping[str, np.ndarray]) -> Iterator[str]:
    pixels, image = tensors["pixels"], tensors["image"]
    raw = [tensors[key] for index in range(len(image)) if (key := f"pixels.{index}") in tensors]
    if len(raw) != len(image) or len(pixels) != len(image):
        yield f"{len(raw)} images, {len(pixels)} resized and {len(image)} normalized ones"
        return
    yield from _far("pixels", preprocess_golden(raw, spec)["pixels"], pixels, _PIXEL_STEPS)
    wanted = normalize(pixels, spec)
    yield from _far("image", wanted, image, _NORMALIZED * max(float(np.abs(wanted).max(initial=0.0)), 1.0))


def _far(name: str, wanted: np.ndarray, found: np.ndarray, most: float) -> Iterator[str]:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        yield f"'{name}' is {found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
        return
    off = np.abs(wanted.astype(np.float64) - found.astype(np.float64)).reshape(len(wanted), -1).max(axis=1, initial=0.0)
    if not (off <= most).all():
        yield f"'{name}' of golden image {int(np.argmax(~(off <= most)))} is up to {off.max():.3g} away"


def _unequal(pairs: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    """Yield which facts differ: what the file says of itself, what the manifest says of it."""
    for name, (own, said) in pairs.items():
        if own != said:
            yield f"{name}: {own}, and {said} in the manifest"


def _gap(own: Any, said: Any) -> str:
    """Return in what two JSON values differ, as short as can be."""
    if isinstance(own, dict) and isinstance(said, dict):
        names = [name for name in sorted(own.keys() | said.keys()) if own.get(name) != said.get(name)]
        return ", ".join(f"{name} {own.get(name)}, and {said.get(name)} in the manifest" for name in names[:3])
    return f"{str(own)[:80]}, and {str(said)[:80]} in the manifest"


def _finding(name: str, wrong: Sequence[str]) -> Finding:
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return Finding(name, not wrong, f"{wrong[0]}{more}" if wrong else "they agree", "the same in both")
