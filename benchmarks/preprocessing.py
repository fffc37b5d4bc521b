"""How long C++ takes from a frame to 224 x 224 pixels, beside Pillow and OpenCV's antialiased path, on one thread.

All three take turns in every round; a time is the median over rounds of the best run in a round, a ratio the median
over rounds of the ratio in each. Pillow does what C++ repeats to the bit: resize to cover, crop the centre. OpenCV's
``INTER_AREA`` averages areas, another result and less work than the bicubic filter, whose window is four times as wide;
its cropped part alone is resized. For formats but RGB the others first convert the whole frame, each with its own call,
Pillow with NumPy where it has none.

cmake --build BUILD --target linglos-preprocess-bench     (configured with -DLINGLOS_TESTS=ON)
pip install opencv-python-headless
python benchmarks/preprocessing.py BUILD/tests/linglos-preprocess-bench [--rounds 5] [--runs 5] [--sizes 640x480]
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from linglos_deploy.images.frames import Frame, PixelFormat, rgb_of
from linglos_deploy.images.preprocessing import Interpolation, PreprocessSpec, to_pixels

FORMATS = (PixelFormat.RGB, PixelFormat.BGRA, PixelFormat.GREY, PixelFormat.NV12, PixelFormat.YUYV)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sizes", default="320x240,640x480,1280x720,1920x1080,3840x2160")
    arguments = parser.parse_args()
    try:
        cv2 = importlib.import_module("cv2")
        cv2.setNumThreads(1)
    except ModuleNotFoundError:
        print("OpenCV is missing, get it with: pip install opencv-python-headless", file=sys.stderr)
        cv2 = None
    print(f"{'frame':>24} {'C++':>9} {'scalar':>9} {'Pillow':>9} {'OpenCV':>9} {'Pillow/C++':>11} {'OpenCV/C++':>11}")
    for size in arguments.sizes.split(","):
        width, height = (int(side) for side in size.split("x"))
        for name in FORMATS:
            for interpolation in Interpolation:
                row = Row(arguments.program, width, height, name, interpolation, cv2)
                print(row.measured(arguments.rounds, arguments.runs), flush=True)
    return 0


class Row:
    """One frame size, format and filter."""

    def __init__(
        self,
        program: Path,
        width: int,
        height: int,
        name: PixelFormat,
        interpolation: Interpolation,
        cv2: ModuleType | None,
    ) -> None:
        self.title = f"{width}x{height} {name} {interpolation}"
        self.program = [str(program), str(width), str(height), str(interpolation), str(name)]
        self.spec = PreprocessSpec(interpolation=interpolation)
        data = np.random.default_rng(1).integers(0, 256, width * height * 4, dtype=np.uint8)
        self.frame = Frame(data, width, height, name)
        self.cv2 = cv2

    def measured(self, rounds: int, runs: int) -> str:
        """Return a line of the table."""
        found: list[tuple[float, ...]] = []
        for _ in range(rounds):
            lines = subprocess.run([*self.program, str(runs)], capture_output=True, text=True, check=True).stdout
            scalar, best = (min(map(float, line.split()[1:])) for line in lines.splitlines())
            opencv = float("nan") if self.cv2 is None else best_of(self.with_opencv, runs)
            found.append((best, scalar, best_of(self.with_pillow, runs), opencv))
        times = [statistics.median(column) for column in zip(*found, strict=True)]
        ratios = [statistics.median(round_[other] / round_[0] for round_ in found) for other in (2, 3)]
        return (
            f"{self.title:>24} " + " ".join(f"{value:9.2f}" for value in times) + "".join(f"{r:12.2f}" for r in ratios)
        )

    def with_pillow(self) -> None:
        """Resize and crop with the reference."""
        frame = self.frame
        if frame.format is PixelFormat.RGB:
            rgb = frame.data[: frame.width * frame.height * 3].reshape(frame.height, frame.width, 3)
        else:
            rgb = rgb_of(frame)
        to_pixels(Image.fromarray(rgb), self.spec)

    def with_opencv(self) -> None:
        """Convert, crop and average areas."""
        assert self.cv2 is not None
        frame, cv2 = self.frame, self.cv2
        shapes = {PixelFormat.RGB: (3,), PixelFormat.BGRA: (4,), PixelFormat.GREY: (), PixelFormat.YUYV: (2,)}
        if frame.format is PixelFormat.NV12:
            rows = frame.height * 3 // 2
            rgb = cv2.cvtColor(frame.data[: rows * frame.width].reshape(rows, frame.width), cv2.COLOR_YUV2RGB_NV12)
        else:
            shape = (frame.height, frame.width, *shapes[frame.format])
            rgb = frame.data[: int(np.prod(shape))].reshape(shape)
            codes = {
                PixelFormat.BGRA: cv2.COLOR_BGRA2RGB,
                PixelFormat.GREY: cv2.COLOR_GRAY2RGB,
                PixelFormat.YUYV: cv2.COLOR_YUV2RGB_YUYV,
            }
            if frame.format in codes:
                rgb = cv2.cvtColor(rgb, codes[frame.format])
        side = round(min(frame.width, frame.height) * self.spec.crop_pct)
        top, left = (frame.height - side) // 2, (frame.width - side) // 2
        cv2.resize(rgb[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)


def best_of(work: Callable[[], object], runs: int) -> float:
    """Return the shortest of several runs, in milliseconds."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


if __name__ == "__main__":
    raise SystemExit(main())
