"""Write the digits as PNG folders: ``train/<label>/*.png`` and ``heldout/<label>/*.png``.

python examples/digits/make_images.py --output digits/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from digits import LABELS, Split, load_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    output = parser.parse_args().output
    for name, split in zip(("train", "heldout"), load_split(), strict=True):
        write_folder(split, output / name)
        print(f"{output / name}: {len(split.images)} images of {len(LABELS)} digits")


def write_folder(split: Split, folder: Path) -> None:
    """Write one PNG per image, named after its position in scikit-learn's data set."""
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for image, target, index in zip(split.images, split.targets, split.indices, strict=True):
        image.save(folder / LABELS[target] / f"{index:04d}.png")


if __name__ == "__main__":
    main()
