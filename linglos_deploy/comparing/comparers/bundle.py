"""Two bundles: how close their graphs came, how large they are, and what became of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from linglos_deploy.bundle import Bundle, EngineEntry, Manifest, open_bundle
from linglos_deploy.choices import Weights
from linglos_deploy.codec import read_json
from linglos_deploy.comparing.accuracy import compare_accuracy
from linglos_deploy.comparing.quality import INT8_LAYERS, check_drops, compare_quality, size_change
from linglos_deploy.comparing.tolerances import Tolerances
from linglos_deploy.errors import UsageError
from linglos_deploy.quantization.plan import NodeDecision, QuantPlan, TensorDecision
from linglos_deploy.reports.comparison import Change, ComparisonReport
from linglos_deploy.reports.export import ExportReport

OBEYS = ("max_drop", "max_growth")

GROWTH = 0.05
"""Share by which a graph or an engine may grow."""

NOTABLE_DB = 3.0
"""Loss of an inner tensor from which it is told."""

NOTABLE_BOUND = 0.1
"""Change of a clipping bound, relative to the old one, from which it is told."""

PLAN = "plan.json"
REPORT = "reports/export.json"


def compare_bundle(old: Path, new: Path, tolerances: Tolerances) -> ComparisonReport:
    """Compare two bundles; every byte of both is checked first.

    Raises:
        UsageError: They have no output in common, or one has no report of its export.
        ArtifactError: One of them is damaged.
    """
    check_drops(tolerances.max_drop)
    first, second = open_bundle(old), open_bundle(new)
    before, after = _report(first), _report(second)
    was, now = first.manifest, second.manifest
    changes = (
        *compare_accuracy(before.accuracy, after.accuracy, tolerances),
        *compare_quality(before.parity, after.parity, tolerances),
        *_strangers(now),
        *_sizes(was, now, tolerances),
        *_engines(was, now),
        *_plans(first, second, tolerances),
        *_inner_tensors(was, now),
        *_contracts(was, now),
    )
    return ComparisonReport.of("bundle", str(old), str(new), changes, _warnings(first, second))


def _report(bundle: Bundle) -> ExportReport:
    if REPORT not in bundle.manifest.files:
        raise UsageError(
            f"The bundle '{bundle.path}' does not say how close its graphs came.",
            found=f"no {REPORT}",
            expected="a bundle made by 'linglos-deploy export'",
            next_step=f"linglos-deploy parity {bundle.path} --json > parity.json, for both, and compare these",
        )
    return read_json(ExportReport, bundle.path / REPORT)


def _warnings(*bundles: Bundle) -> tuple[str, ...]:
    return tuple(
        f"The weights of '{bundle.path}' are not known to be trained: what its outputs reach says little."
        for bundle in bundles
        if bundle.manifest.weights is not Weights.TRAINED
    )


def _sizes(old: Manifest, new: Manifest, tolerances: Tolerances) -> Iterator[Change]:
    for file in (*(graph.file for graph in old.graphs), *(engine.file for engine in old.engines)):
        if file in new.files:
            yield size_change(file, old.files[file].bytes, new.files[file].bytes, tolerances, default=GROWTH)
    was, now = ({graph.file: graph.precision for graph in manifest.graphs} for manifest in (old, new))
    for name in dict.fromkeys([*was, *now]):
        if was.get(name) != now.get(name):
            yield Change(name, "precision", was.get(name, "not there"), now.get(name, "not there"))


def _strangers(new: Manifest) -> Iterator[Change]:
    """Yield the graphs that are not those that were checked: what the bundle says of their quality is about others."""
    for name, digest in {entry.graph: entry.digest for entry in new.reached}.items():
        file = new.files.get(name)
        if file is not None and file.sha256 != digest:
            was, is_now = f"{digest[:16]}…", f"{file.sha256[:16]}…"
            yield Change(
                name, "the file that was checked", was, is_now, "the same: run 'linglos-deploy parity'", passed=False
            )


def _engines(old: Manifest, new: Manifest) -> Iterator[Change]:
    was, now = ({f"{e.backend} from {e.source}": e for e in manifest.engines} for manifest in (old, new))
    for name, entry in was.items():
        if name not in now:
            yield Change(f"engine of {name}", "built", "yes", "no", "still there", passed=False)
        elif entry.requirements != now[name].requirements:
            yield Change(f"engine of {name}", "what it needs", _needs(entry), _needs(now[name]))
    for name in now.keys() - was.keys():
        yield Change(f"engine of {name}", "built", "no", "yes")


def _needs(engine: EngineEntry) -> str:
    return ", ".join(f"{key} {value}" for key, value in engine.requirements.items())


def _plans(old: Bundle, new: Bundle, tolerances: Tolerances) -> Iterator[Change]:
    was, now = (QuantPlan.load(bundle.path / PLAN) if PLAN in bundle.manifest.files else None for bundle in (old, new))
    if was is None:
        return
    asked = tolerances.max_drop.get(INT8_LAYERS)
    counts = len(was.quantized_nodes), len(now.quantized_nodes) if now is not None else 0
    least = counts[0] - (asked or 0.0)
    yield Change(
        "quantization plan",
        "INT8 layers",
        str(counts[0]),
        str(counts[1]),
        f"at least {least:.0f}",
        passed=counts[1] >= least,
        old_value=counts[0],
        new_value=counts[1],
    )
    if now is None:
        return
    for field in fields(was.scheme):
        choices = getattr(was.scheme, field.name), getattr(now.scheme, field.name)
        if choices[0] != choices[1]:
            yield Change("quantization plan", field.name, str(choices[0]), str(choices[1]))
    yield from _layers({node.node: node for node in was.nodes}, {node.node: node for node in now.nodes})
    yield from _bounds({t.tensor: t for t in was.tensors}, {t.tensor: t for t in now.tensors})


def _layers(old: Mapping[str, NodeDecision], new: Mapping[str, NodeDecision]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        was, now = (_decided(decisions.get(name)) for decisions in (old, new))
        if was != now:
            yield Change(name, "layer", was, now)


def _decided(node: NodeDecision | None) -> str:
    if node is None:
        return "not there"
    return f"INT8, weights of {node.weight_bits} bits" if node.quantize else f"floating point: {node.reason}"


def _bounds(old: Mapping[str, TensorDecision], new: Mapping[str, TensorDecision]) -> Iterator[Change]:
    for name in old:
        was, now = (decisions[name].bound if name in decisions else None for decisions in (old, new))
        if was is not None and now is not None and abs(now - was) > NOTABLE_BOUND * was:
            yield Change(name, "clipped at", f"±{was:.4g}", f"±{now:.4g}", old_value=was, new_value=now)


def _inner_tensors(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Tell the inner tensors that lost most; what they cost is judged at the outputs."""
    was, now = ({entry.graph: entry.layers for entry in manifest.reached if entry.layers} for manifest in (old, new))
    for graph in was.keys() & now.keys():
        lost = {name: value - now[graph][name] for name, value in was[graph].items() if name in now[graph]}
        for name in sorted(lost, key=lambda tensor: -lost[tensor])[:10]:
            if lost[name] > NOTABLE_DB:
                before, after = was[graph][name], now[graph][name]
                texts = f"{before:.1f} dB", f"{after:.1f} dB"
                yield Change(f"{graph}: {name}", "SQNR", *texts, old_value=before, new_value=after)


def _contracts(old: Manifest, new: Manifest) -> Iterator[Change]:
    """What a program that uses the bundle may rest on."""
    pairs = {
        "images": (old.preprocessing.describe(), new.preprocessing.describe()),
        "labels": (_labels(old), _labels(new)),
        "inputs and outputs": (_signature(old), _signature(new)),
        "INT8 ranges": (_ranges(old), _ranges(new)),
    }
    for what, (was, now) in pairs.items():
        if was != now:
            yield Change("bundle", what, was, now)
    for tool in dict.fromkeys([*old.tools, *new.tools]):
        before, after = old.tools.get(tool, "not used"), new.tools.get(tool, "not used")
        if before != after:
            yield Change("made with", tool, before, after)


def _labels(manifest: Manifest) -> str:
    return ", ".join(manifest.labels) or "unknown"


def _signature(manifest: Manifest) -> str:
    signature = manifest.graphs[0].signature
    return "; ".join(tensor.describe() for tensor in (*signature.inputs, *signature.outputs))


def _ranges(manifest: Manifest) -> str:
    return {None: "none", True: "of made-up images", False: "of real images"}[manifest.synthetic_calibration]
