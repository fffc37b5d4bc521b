"""Calibration against plain inference and onnxruntime's quantizer, in one run.

    python benchmarks/calibration/run.py --model linglo_s.onnx

Every candidate is a process of its own, which reports its wall time, its CPU time and its peak memory. Candidates of
one round follow each other, rounds are repeated, and the median counts. Times are ratios to plain inference over the
same preprocessed images with two threads; they include opening the model, and for onnxruntime the making of the
quantized graph (about a second on a small model). On a machine that others use, the CPU times are the steadier ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

THREADS = 2
PLAIN_BATCH = 8
PEERS = ("MinMax", "Percentile", "Entropy")


def main() -> None:
    arguments = _arguments()
    if arguments.candidate:
        print(json.dumps(_measure(arguments.candidate, arguments.model, arguments.images, arguments.count)))
        return
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        _write_images(images, max(arguments.counts))
        rows = _run_all(arguments, images)
    _report(rows, arguments.counts)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="float32 ONNX graph with a dynamic batch")
    parser.add_argument("--counts", type=int, nargs="+", default=[128, 512], help="numbers of images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-count", type=int, default=128, help="images for onnxruntime, whose memory grows")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--candidate", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _write_images(path: Path, count: int) -> None:
    from linglos_deploy.images.dataset import synthetic_dataset
    from linglos_deploy.images.preprocessing import PreprocessSpec

    dataset = synthetic_dataset(PreprocessSpec(), count)
    np.save(path, np.stack([dataset.source.read(index) for index in range(count)]))


def _run_all(arguments: argparse.Namespace, images: Path) -> list[dict[str, object]]:
    rows = []
    for round_ in range(arguments.rounds):
        for count in arguments.counts:
            candidates = ["plain", "ours"]
            if round_ == 0 and count == arguments.peer_count:  # minutes each
                candidates += arguments.peers
            for candidate in candidates:
                row = _in_process(candidate, arguments.model, images, count)
                rows.append(row)
                print(f"round {round_ + 1}: {json.dumps(row)}", file=sys.stderr, flush=True)
    return rows


def _in_process(candidate: str, model: Path, images: Path, count: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--candidate", candidate, "--model", str(model)]
    command += ["--images", str(images), "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"candidate": candidate, "count": count, "failed": done.stderr.strip().splitlines()[-1:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measure(candidate: str, model: Path, images: Path, count: int) -> dict[str, object]:
    work = {"plain": _plain, "ours": _ours}.get(candidate, _peer(candidate))
    wall, cpu = work(model, images, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"candidate": candidate, "count": count, "wall_s": wall, "cpu_s": cpu, "peak_mib": peak}


def _plain(model: Path, images: Path, count: int) -> tuple[float, float]:
    from linglos_deploy.artifacts import open_onnx
    from linglos_deploy.backends.onnxruntime import OnnxRuntime

    artifact, dataset = open_onnx(model), _dataset(images, count)
    clock = _Clock()
    with OnnxRuntime(threads=THREADS).open(artifact) as runner:
        for batch in dataset.batches(PLAIN_BATCH):
            runner.run(batch)
    return clock.read()


def _ours(model: Path, images: Path, count: int) -> tuple[float, float]:
    from linglos_deploy.artifacts import open_onnx
    from linglos_deploy.backends.onnxruntime import OnnxRuntime
    from linglos_deploy.calibration.calibrate import calibrate

    artifact, dataset = open_onnx(model), _dataset(images, count)
    clock = _Clock()
    table = calibrate(artifact, dataset, runtime=OnnxRuntime(threads=THREADS, reuse_outputs=True))
    seconds = clock.read()
    assert table.image_count == count
    return seconds


def _peer(method: str):
    def run(model: Path, images: Path, count: int) -> tuple[float, float]:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.batches = iter(_dataset(images, count).batches(PLAIN_BATCH))

            def get_next(self):
                return next(self.batches, None)

        with tempfile.TemporaryDirectory() as folder:
            clock = _Clock()
            quantize_static(
                str(model),
                str(Path(folder) / "int8.onnx"),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                calibrate_method=getattr(CalibrationMethod, method),
            )
            return clock.read()

    return run


def _dataset(images: Path, count: int):
    from linglos_deploy.images.dataset import open_dataset
    from linglos_deploy.images.preprocessing import PreprocessSpec

    whole = open_dataset(images, PreprocessSpec(), verify=False)
    return whole.limit(count)


class _Clock:
    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def _report(rows: list[dict[str, object]], counts: list[int]) -> None:
    print("| candidate | images | s | CPU s | times plain | CPU times plain | peak MiB | times plain |")
    print("|---|---|---|---|---|---|---|---|")
    for count in counts:
        of_count = [row for row in rows if row["count"] == count and "failed" not in row]
        base = _median(of_count, "plain")
        for candidate in dict.fromkeys(str(row["candidate"]) for row in of_count):
            wall, cpu, peak = _median(of_count, candidate)
            print(
                f"| {candidate} | {count} | {wall:.2f} | {cpu:.2f} | {wall / base[0]:.2f} | {cpu / base[1]:.2f} "
                f"| {peak:.0f} | {peak / base[2]:.2f} |"
            )


def _median(rows: list[dict[str, object]], candidate: str) -> tuple[float, float, float]:
    kept = [row for row in rows if row["candidate"] == candidate]
    wall, cpu, peak = (
        statistics.median(float(str(row[key])) for row in kept) for key in ("wall_s", "cpu_s", "peak_mib")
    )
    return wall, cpu, peak


if __name__ == "__main__":
    main()
