"""What comparing costs beside running both models, and whether its memory grows with the images.

    python benchmarks/parity/images.py [--images 5000] [--early 500] [--cost 1.2] [--growth 1.1]

Two convolution networks of 64 x 64 images, one with weights rounded to 8 bits, answer with 1 000 classes and a map.
Each measurement has a process of its own. Cost: recording the reference, then comparing the candidate, over running
both alone on the same inputs. Memory: the largest resident set after all images over that after the first few.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linglos_deploy.artifacts import OnnxArtifact, open_onnx
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.choices import Precision
from linglos_deploy.parity.recording import record
from linglos_deploy.parity.verdict import Criteria, check_parity
from linglos_deploy.signature import Batch

BATCH, SIDE = 8, 64
WIDTHS = (3, 32, 64, 96, 128)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--early", type=int, default=500)
    parser.add_argument("--cost", type=float, default=1.2)
    parser.add_argument("--growth", type=float, default=1.1)
    parser.add_argument("--rounds", type=int, default=1, help="alternating rounds; the median ratio counts")
    parser.add_argument("--measure", choices=("alone", "compared"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.images, options.early)))
        return 0
    ratios, growth = [], 1.0
    for _ in range(options.rounds):
        alone, compared = (in_a_process(what, options) for what in ("alone", "compared"))
        ratios.append(compared["seconds"] / alone["seconds"])
        growth = max(growth, compared["late_mib"] / compared["early_mib"])
        print(
            f"running both {alone['seconds']:.1f} s, recording and comparing {compared['seconds']:.1f} s CPU;"
            f" {compared['early_mib']:.0f} MiB after {options.early} images,"
            f" {compared['late_mib']:.0f} MiB after {options.images}"
        )
    cost = sorted(ratios)[len(ratios) // 2]
    print(f"cost   {cost:.3f}, limit {options.cost}")
    print(f"growth {growth:.3f}, limit {options.growth}")
    return int(cost > options.cost or growth > options.growth)


def in_a_process(what: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh process, whose largest resident set nothing else has raised."""
    command = [sys.executable, __file__, "--measure", what]
    command += ["--images", str(options.images), "--early", str(options.early)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(what: str, images: int, early: int) -> dict[str, float]:
    """Return CPU seconds, which a busy machine does not stretch as it does wall time, and resident MiB."""
    with tempfile.TemporaryDirectory() as folder:
        graphs = [write_graph(Path(folder) / f"{bits}.onnx", bits=bits) for bits in (32, 8)]
        seen = Memory(early)
        with OnnxRuntime(threads=1).open(graphs[0]) as reference, OnnxRuntime(threads=1).open(graphs[1]) as candidate:
            started = time.process_time()
            if what == "alone":
                for runner in (reference, candidate):
                    for batch in batches(images):
                        runner.run(batch)
            else:
                recording = record(reference, batches(images), out=Path(folder) / "recording")
                check_parity(
                    recording, candidate, Criteria.for_precision(Precision.INT8), batches=seen.watch(batches(images))
                )
            seconds = time.process_time() - started
        return {"seconds": seconds, "early_mib": seen.early_mib, "late_mib": largest_mib()}


class Memory:
    """Notes the largest resident set when the first images of a stream have gone by."""

    def __init__(self, early: int) -> None:
        self.early, self.early_mib = early, 0.0

    def watch(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        """Hand a stream through."""
        for number, batch in enumerate(stream):
            if number * BATCH >= self.early and not self.early_mib:
                self.early_mib = largest_mib()
            yield batch


def largest_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def batches(images: int) -> Iterator[Batch]:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(BATCH, 3, SIDE, SIDE)).astype(np.float32)
    for start in range(0, images, BATCH):
        yield {"image": np.roll(base, start, axis=2)[: images - start] + np.float32(1e-3 * start)}


def write_graph(path: Path, *, bits: int) -> OnnxArtifact:
    rng = np.random.default_rng(1)
    nodes, constants, tensor = [], [], "image"
    for layer, (inner, outer) in enumerate(itertools.pairwise(WIDTHS)):
        weight = (rng.normal(size=(outer, inner, 3, 3)) / np.sqrt(9 * inner)).astype(np.float32)
        constants.append(numpy_helper.from_array(rounded(weight, bits), f"w{layer}"))
        nodes += [
            helper.make_node("Conv", [tensor, f"w{layer}"], [f"c{layer}"], pads=[1] * 4, strides=[1 + layer % 2] * 2),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]),
        ]
        tensor = f"r{layer}"
    head = rng.normal(size=(WIDTHS[-1], 1000)).astype(np.float32)
    constants += [
        numpy_helper.from_array(rounded(head, bits), "head"),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    nodes += [
        helper.make_node("MaxPool", [tensor], ["map"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["map", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", WIDTHS[-1], 4, 4]),
        ],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return open_onnx(path)


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    if bits == 32:
        return values
    step = np.abs(values).max() / 127
    return (np.rint(values / step) * step).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
