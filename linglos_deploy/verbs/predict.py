"""What a bundle says about pictures: a graph of it, run as it was checked, its outputs read as its task says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.backends.images_first import ImagesFirst
from linglos_deploy.backends.onnxruntime import OnnxRuntime
from linglos_deploy.bundle import Bundle, GraphEntry
from linglos_deploy.bundle import open_bundle as open_checked
from linglos_deploy.errors import DataError, OutputError, UsageError
from linglos_deploy.files import atomic_file
from linglos_deploy.images.folder import read_picture
from linglos_deploy.progress import SILENT, Progress
from linglos_deploy.signature import Decoding
from linglos_deploy.tasks.pictures import as_input
from linglos_deploy.tasks.registry import CLASSIFY, FEATURES, load_task
from linglos_deploy.tasks.task import ModelFacts, Result
from linglos_deploy.verbs.verdicts import Subject, open_subject

BATCH = 8
"""Pictures of one run."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about one picture.

    Attributes:
        image: The picture's file.
        result: What its task makes of the outputs.
        labels: The model's class names.
        drawn: Where the drawn picture is, if one was asked for.
    """

    image: str
    result: Result
    labels: tuple[str, ...]
    drawn: str | None = None

    def lines(self) -> list[str]:
        """Return it as text, most important first."""
        return self.result.lines(self.labels)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON values."""
        drawn = {} if self.drawn is None else {"drawn": self.drawn}
        return {"image": self.image, **self.result.facts(self.labels), **drawn}


class ReadyBundle(Bundle):
    """A bundle that can be asked about pictures."""

    __slots__ = ()

    def predict(
        self, *images: str | Path | Image.Image, precision: str | None = None, threads: int = 0
    ) -> tuple[Prediction, ...]:
        """Say what the deployed graph makes of pictures.

            (prediction,) = linglos_deploy.open_bundle("build/linglo_s").predict("cat.jpg")
            print(prediction.lines(), prediction.facts())

        Args:
            images: Files, or Pillow images.
            precision: Of the graph; the deployed one's if ``None``.
            threads: Threads of ONNX Runtime, 0 for its own choice.

        Raises:
            UsageError: There is no graph of that precision.
            DataError: A file is no usable picture.
        """
        return predict(self, images, precision=precision, threads=threads)


def open_ready(path: Path) -> ReadyBundle:
    """Open a bundle, check every byte of it; see :func:`linglos_deploy.bundle.open_bundle`."""
    bundle = open_checked(path)
    return ReadyBundle(bundle.path, bundle.manifest)


def predict(
    bundle: Bundle,
    images: Sequence[str | Path | Image.Image],
    *,
    precision: str | None = None,
    draw: Path | None = None,
    threads: int = 0,
    progress: Progress = SILENT,
) -> tuple[Prediction, ...]:
    """Run pictures through one graph of a bundle and read its outputs.

    Args:
        bundle: The bundle.
        images: Files, or Pillow images.
        precision: Of the graph; the deployed one's if ``None``.
        draw: Folder that drawn pictures go into, as PNG files named like the pictures.
        threads: Threads of ONNX Runtime, 0 for its own choice.
        progress: Told of every picture.

    Raises:
        UsageError: There is no graph of that precision.
        DataError: A file is no usable picture.
        OutputError: A drawn picture cannot be written, or would write over another one.
    """
    entry = choose_graph(bundle, precision)
    decoding, spec, labels = decoding_of(bundle), bundle.manifest.preprocessing, bundle.manifest.labels
    names = [str(image) if isinstance(image, str | Path) else f"image {place}" for place, image in enumerate(images)]
    targets = [None] * len(images) if draw is None else _targets(names, draw)
    found: list[Prediction] = []
    with open_graph(bundle, entry, threads=threads) as runner, progress.stage("Predicting", len(images)) as advance:
        for start in range(0, len(images), BATCH):
            pictures = [_picture(image) for image in images[start : start + BATCH]]
            batch, frames = as_input(pictures, spec, entry.signature)
            results = load_task(decoding.task).decode(runner.run(batch), decoding, frames)
            for place, (picture, result) in enumerate(zip(pictures, results, strict=True), start):
                target = targets[place]
                if target is not None:
                    _save(result.draw(picture, labels), target)
                found.append(Prediction(names[place], result, labels, None if target is None else str(target)))
                advance()
    return tuple(found)


def choose_graph(bundle: Bundle, precision: str | None) -> GraphEntry:
    """Return the graph of a precision, or of the deployed one; of several the one that is made for ONNX Runtime here.

    Raises:
        UsageError: The bundle has none of that precision.
    """
    return bundle.find_graph(precision or bundle.manifest.graphs[-1].precision, runtime="onnxruntime")


def decoding_of(bundle: Bundle) -> Decoding:
    """Return what a bundle's outputs mean; one made before manifests said so holds a classifier or bare outputs."""
    stated = bundle.manifest.decoding
    if stated is not None:
        return stated
    outputs = {it.name: _sizes(it.shape) for it in bundle.manifest.graphs[0].signature.outputs}
    try:
        return load_task(CLASSIFY).decoding(outputs, {})
    except UsageError:
        return load_task(FEATURES).decoding(outputs, {})


def facts_of(bundle: Bundle) -> ModelFacts:
    """Return what a task needs to know of a bundle's model."""
    return ModelFacts(
        spec=bundle.manifest.preprocessing,
        labels=bundle.manifest.labels,
        outputs={it.name: _sizes(it.shape) for it in bundle.manifest.graphs[0].signature.outputs},
        decoding=decoding_of(bundle),
    )


@contextmanager
def open_graph(bundle: Bundle, entry: GraphEntry, *, threads: int) -> Iterator[Any]:
    """Open a graph as it was checked: INT8 exact, 16 bits with the rounding of a GPU written out."""
    from linglos_deploy.choices import Precision

    graph: OnnxArtifact = bundle.graph(entry)
    with open_subject(Subject(graph, Precision(entry.precision)), ImagesFirst(OnnxRuntime(threads=threads))) as runner:
        yield runner


def _sizes(shape: Sequence[int | str] | None) -> tuple[int | None, ...]:
    return tuple(dim if isinstance(dim, int) else None for dim in shape or ())


def _picture(image: str | Path | Image.Image) -> Image.Image:
    if not isinstance(image, str | Path):
        return image
    path = Path(image)
    if not path.is_file():
        raise DataError(
            f"There is no picture at '{path}'.",
            found="a folder" if path.is_dir() else "nothing",
            expected="an image that Pillow can decode, such as PNG or JPEG",
            next_step="check the path",
        )
    return read_picture(path)


def _targets(names: Sequence[str], folder: Path) -> list[Path]:
    targets = [folder / f"{Path(name).stem}.png" for name in names]
    twice = sorted({target.name for target in targets if targets.count(target) > 1})
    over = sorted({str(target) for target, name in zip(targets, names, strict=True) if target.exists()})
    if twice or over:
        raise OutputError(
            "A drawn picture would write over another file.",
            found=", ".join(twice or over),
            expected="pictures of different names, and a folder without files of these names",
            next_step="give an empty folder with --draw, or fewer pictures at a time",
        )
    return targets


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        picture.save(partial, format="PNG")
