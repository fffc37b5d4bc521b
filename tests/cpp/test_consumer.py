from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.bundle import open_bundle
from linglos_deploy.images.frames import BYTES, Frame, Matrix, PixelFormat, rgb_of
from linglos_deploy.images.preprocessing import Interpolation, PreprocessSpec, normalize, to_pixels
from tests.cpp.conftest import Installed
from tests.cpp.toolchain import run

IMAGES = 520
FILTERS = (Interpolation.BILINEAR, Interpolation.BICUBIC)


def random_image(rng: np.random.Generator, largest: int) -> np.ndarray:
    """Noise of a random size, extreme aspect ratios included; half of the images are smooth, as photographs are."""
    height, width = (max(1, int(size)) for size in np.exp(rng.uniform(0, np.log(largest), 2)))
    if rng.random() < 0.5:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.sin(rows[..., None] / rng.uniform(2, 40, 3)) * np.cos(columns[..., None] / rng.uniform(2, 40, 3))
    return np.asarray(127.5 + 127.5 * waves, dtype=np.uint8)


def with_size(image: np.ndarray) -> bytes:
    return struct.pack("<2i", *image.shape[:2]) + image.tobytes()


def preprocessing_cases(count: int, *, seed: int = 20260101) -> tuple[bytes, list[np.ndarray]]:
    """Random images and specifications as the consumer reads them, and what Python makes of each."""
    rng = np.random.default_rng(seed)
    cases, expected = [], []
    for index in range(count):
        image = random_image(rng, 700)
        spec = PreprocessSpec(
            input_size=(int(rng.integers(1, 257)), int(rng.integers(1, 257))),
            interpolation=FILTERS[index % 2],
            crop_pct=float(rng.choice([1.0, 0.95, 0.875, 0.9, 0.333])),
            mean=tuple(rng.uniform(0.2, 0.7, 3)),
            std=tuple(rng.uniform(0.1, 0.5, 3)),
        )
        sizes = (*image.shape[:2], *spec.input_size, index % 2)
        cases.append(struct.pack("<5i7d", *sizes, spec.crop_pct, *spec.mean, *spec.std) + image.tobytes())
        expected.append(normalize(to_pixels(Image.fromarray(image), spec)[None], spec).ravel())
    return b"".join(cases), expected


def test_preprocessed_tensors_are_bit_identical_for_random_sizes_and_both_filters(installed: Installed) -> None:
    cases, expected = preprocessing_cases(IMAGES)
    found = np.frombuffer(run([installed.consumer / "consumer", "preprocess"], input=cases), np.float32)
    assert found.size == sum(values.size for values in expected)
    start = 0
    for index, values in enumerate(expected):
        part = found[start : start + values.size]
        assert np.array_equal(part.view(np.uint32), values.view(np.uint32)), f"image {index}"
        start += values.size


def frame_cases(count: int) -> tuple[bytes, list[np.ndarray]]:
    """Random frames of every format as the consumer reads them, and what Python makes of each."""
    rng = np.random.default_rng(20260102)
    cases, expected = [], []
    for index in range(count):
        format_ = tuple(PixelFormat)[index % len(PixelFormat)]
        width, height = (int(size) for size in rng.integers(1, 90, 2))
        pairs = (width + 1) // 2
        row = {PixelFormat.NV12: width, PixelFormat.YUYV: pairs * 4}.get(format_, width * BYTES.get(format_, 0))
        stride = row + int(rng.integers(0, 9)) if rng.random() < 0.7 else 0
        apart = format_ is PixelFormat.NV12 and rng.random() < 0.5
        between = int(rng.integers(0, 7)) if apart else 0
        chroma_stride = pairs * 2 + int(rng.integers(0, 9)) if apart else 0
        begin = (stride or row) * height + between
        chroma_rows = (height + 1) // 2 * (chroma_stride or (stride or row) + 1) if format_ is PixelFormat.NV12 else 0
        data = rng.integers(0, 256, begin + chroma_rows, dtype=np.uint8)
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        region = (x, y, int(rng.integers(1, width - x + 1)), int(rng.integers(1, height - y + 1)))
        region = region if rng.random() < 0.7 else (0, 0, 0, 0)
        turns, matrix, full = int(rng.integers(4)), int(rng.integers(2)), int(rng.integers(2))
        spec = PreprocessSpec(input_size=(int(rng.integers(1, 40)), int(rng.integers(1, 40))))
        chroma = begin if apart else -1
        layout = (width, height, stride, index % len(PixelFormat), turns, chroma, chroma_stride, *region, matrix, full)
        cases.append(struct.pack("<17i", *layout, *spec.input_size, 1, data.size) + data.tobytes())
        frame = Frame(
            data,
            width,
            height,
            format_,
            stride=stride or None,
            chroma=data[begin:] if apart else None,
            chroma_stride=chroma_stride or None,
            region=region if any(region) else None,
            rotation=90 * turns,
            matrix=tuple(Matrix)[matrix],
            full_range=bool(full),
        )
        expected.append(to_pixels(Image.fromarray(rgb_of(frame)), spec).ravel())
    return b"".join(cases), expected


def test_frames_of_every_format_are_bit_identical_to_the_reference(installed: Installed) -> None:
    cases, expected = frame_cases(700)
    found = np.frombuffer(run([installed.consumer / "consumer", "frames"], input=cases), np.uint8)
    start = 0
    for index, values in enumerate(expected):
        assert np.array_equal(found[start : start + values.size], values), f"frame {index}"
        start += values.size
    assert start == found.size


@pytest.mark.parametrize("name", ["digits", "pixels", "features", "fixed"])
@pytest.mark.parametrize("program", [("consumer", "run"), ("consumer_c",)], ids=["C++", "C"])
def test_outputs_are_those_of_pythons_onnx_runtime(
    name: str, program: tuple[str, ...], installed: Installed, bundles: Path
) -> None:
    rng = np.random.default_rng(7)
    images = [random_image(rng, 300) for _ in range(24)]
    command = [installed.consumer / program[0], *program[1:], bundles / name]
    found = np.frombuffer(run(command, input=b"".join(map(with_size, images))), np.float32)
    expected = np.concatenate(list(python_outputs(bundles / name, images)))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def python_outputs(path: Path, images: list[np.ndarray]) -> Iterable[np.ndarray]:
    bundle = open_bundle(path)
    entry = bundle.manifest.graphs[0]
    spec = bundle.manifest.preprocessing
    copies = 2 if path.name == "fixed" else 1
    with OnnxRuntime(threads=1).open(bundle.graph(entry)) as runner:
        for image in images:
            pixels = to_pixels(Image.fromarray(image), spec)[None]
            batch = pixels if entry.input == "pixels" else normalize(pixels, spec)
            outputs = runner.run({"image": np.repeat(batch, copies, axis=0)})
            yield from (outputs[spec.name][0].ravel() for spec in entry.signature.outputs)


def test_errors_have_the_code_of_their_kind(installed: Installed, bundles: Path) -> None:
    bundle_error, usage = 12, 11
    run([installed.consumer / "consumer", "run", bundles / "none"], code=bundle_error)
    run([installed.consumer / "consumer_c", bundles / "none"], code=bundle_error)
    run([installed.consumer / "consumer", "run", bundles / "digits"], input=struct.pack("<2i", 9, 9), code=usage)
