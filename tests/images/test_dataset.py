"""Folders, arrays and synthetic images as model input; what is unusable is listed, or is an error."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images import folder as folder_module
from linglos_deploy.images.dataset import open_dataset, synthetic_dataset
from linglos_deploy.images.preprocessing import normalize, to_pixels, to_rgb
from linglos_deploy.signature import ModelSignature, TensorSpec
from tests.calibration.graphs import SIZE, SPEC, write_images

PIXELS = ModelSignature(inputs=(TensorSpec("pixels", "uint8", ("n", SIZE, SIZE, 3)),), outputs=())


class Heard:
    def __init__(self):
        self.warnings = []

    def stage(self, name, total=None):
        from linglos_deploy.progress import SILENT

        return SILENT.stage(name, total)

    def warn(self, message):
        self.warnings.append(message)


def _gif(path):
    frames = [Image.new("P", (20, 20), colour) for colour in (1, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def test_usable_images_of_every_kind_are_used_and_the_rest_is_listed(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 256, (20, 24, 4), dtype=np.uint8)).save(tmp_path / "rgba.png")
    Image.fromarray(rng.integers(0, 65536, (20, 24), dtype=np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg")
    _gif(tmp_path / "animated.gif")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    data = (tmp_path / "rgb.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(data[: len(data) // 2])
    (tmp_path / ".hidden.png").write_bytes(data)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    heard = Heard()
    dataset = open_dataset(tmp_path, SPEC, progress=heard)
    assert dataset.ids == ("animated.gif", "cmyk.jpg", "grey.png", "rgb.png", "rgba.png", "wide.png")
    assert len(dataset) == 6
    reasons = dict(dataset.skipped)
    assert reasons["notes.txt"] == "not an image that Pillow can read"
    assert reasons["empty.png"] == "empty file"
    assert reasons["truncated.png"].startswith("damaged")
    assert reasons["dangling.png"] == "not a file"
    assert "4 files are left out" in heard.warnings[0]
    assert "..." in heard.warnings[0]
    assert len(reasons) == 4


def test_batches_are_what_preprocessing_gives(tmp_path):
    write_images(tmp_path, 5)
    dataset = open_dataset(tmp_path, SPEC)
    pixels = np.stack([to_pixels(to_rgb(Image.open(tmp_path / name)), SPEC) for name in dataset.ids])
    batches = list(dataset.batches(2))
    assert [len(batch["image"]) for batch in batches] == [2, 2, 1]
    assert np.array_equal(np.concatenate([batch["image"] for batch in batches]), normalize(pixels, SPEC))
    raw = np.concatenate([batch["pixels"] for batch in dataset.batches(3, signature=PIXELS)])
    assert np.array_equal(raw, pixels)
    assert [samples.position for samples in dataset.samples(2, start=1)] == [3, 5]


def test_sub_folders_are_classes(tmp_path):
    write_images(tmp_path, 6, classes=("b", "a", "c"))
    dataset = open_dataset(tmp_path, SPEC)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.labels == (0, 0, 1, 1, 2, 2)
    assert dataset.ids[0] == "a/001.png"


@pytest.mark.parametrize("classes", [(), ("only",)])
def test_one_folder_has_no_classes(tmp_path, classes):
    write_images(tmp_path, 2, classes=classes)
    dataset = open_dataset(tmp_path, SPEC)
    assert dataset.labels is None
    assert dataset.class_names == ()


def test_links_that_lead_back_up_end(tmp_path):
    write_images(tmp_path / "a", 2)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(open_dataset(tmp_path, SPEC)) == 2


def test_exif_orientation_is_not_applied(tmp_path):
    image = Image.fromarray(np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(SIZE, SIZE, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    (batch,) = open_dataset(tmp_path, SPEC).batches(1, signature=PIXELS)
    assert np.array_equal(batch["pixels"][0], np.asarray(image))


def test_huge_images_are_not_decoded(tmp_path, monkeypatch, recwarn):
    write_images(tmp_path, 1)
    Image.new("L", (400, 400)).save(tmp_path / "big.png")
    monkeypatch.setattr(folder_module, "MAX_PIXELS", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    assert dict(open_dataset(tmp_path, SPEC).skipped)["big.png"] == "400 x 400 is more than 1000 pixels"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "more than 1000 pixels" in dict(open_dataset(tmp_path, SPEC).skipped)["big.png"]
    assert not recwarn.list


def test_a_folder_without_a_usable_image_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no usable image"):
        open_dataset(tmp_path, SPEC)
    for index in range(4):
        (tmp_path / f"{index}.txt").write_text("x")
    with pytest.raises(DataError, match=r"4 files that are no usable images: 0.txt .* \.\.\."):
        open_dataset(tmp_path, SPEC)


def test_a_folder_of_damaged_images_is_an_error(tmp_path):
    write_images(tmp_path, 1)
    data = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="No image is usable"):
        open_dataset(tmp_path, SPEC)


def test_an_unreadable_file_is_listed(tmp_path, monkeypatch):
    write_images(tmp_path, 2)
    real = Image.open

    def refuse(path, *rest):
        if path.name == "001.png":
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(Image, "open", refuse)
    assert "Permission denied" in dict(open_dataset(tmp_path, SPEC).skipped)["001.png"]


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_a_path_without_images_is_an_error(tmp_path, name):
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match="There are no images"):
        open_dataset(tmp_path / name, SPEC)


def test_without_verification_damaged_images_show_on_the_way(tmp_path):
    write_images(tmp_path, 4)
    data = (tmp_path / "001.png").read_bytes()
    (tmp_path / "001.png").write_bytes(data[: len(data) // 2])
    dataset = open_dataset(tmp_path, SPEC, verify=False)
    assert len(dataset) == 4
    found = list(dataset.samples(2))
    assert [samples.ids for samples in found] == [("000.png", "002.png"), ("003.png",)]
    assert found[0].skipped[0][0] == "001.png"
    assert found[1].count == 1


def test_a_batch_of_nothing_but_damaged_images_is_empty(tmp_path):
    write_images(tmp_path, 1)
    data = (tmp_path / "000.png").read_bytes()
    (tmp_path / "000.png").write_bytes(data[: len(data) // 2])
    dataset = open_dataset(tmp_path, SPEC, verify=False)
    assert next(dataset.batches(2))["image"].shape == (0, 3, SIZE, SIZE)
    assert next(dataset.batches(2, signature=PIXELS))["pixels"].shape == (0, SIZE, SIZE, 3)


def test_the_digest_ignores_names_and_order_but_not_content(tmp_path):
    write_images(tmp_path / "a", 3)
    write_images(tmp_path / "b", 3)
    (tmp_path / "b" / "000.png").rename(tmp_path / "b" / "zzz.png")
    write_images(tmp_path / "c", 3, seed=1)
    first, renamed, other = (open_dataset(tmp_path / name, SPEC).digest for name in "abc")
    assert first == renamed != other


def test_shards_cover_everything_once(tmp_path):
    write_images(tmp_path, 7)
    dataset = open_dataset(tmp_path, SPEC)
    shards = [dataset.shard(index, 3) for index in (1, 2, 3)]
    assert sorted(sum((shard.ids for shard in shards), ())) == list(dataset.ids)
    assert all(len(shard.records) == len(shard) for shard in shards)
    for wrong in [(0, 3), (4, 3), (1, 8)]:
        with pytest.raises(UsageError):
            dataset.shard(*wrong)
    with pytest.raises(UsageError, match="split again"):
        shards[0].shard(1, 2)


def test_a_limit_is_a_seeded_choice(tmp_path):
    write_images(tmp_path, 9)
    dataset = open_dataset(tmp_path, SPEC)
    few = dataset.limit(4, seed=1)
    assert len(few) == len(few.records) == 4
    assert few.ids == dataset.limit(4, seed=1).ids
    assert few.listing != dataset.listing
    assert dataset.limit(None) is dataset
    assert dataset.limit(9) is dataset
    with pytest.raises(UsageError):
        dataset.limit(0)


def test_synthetic_images_are_seeded_and_natural_enough():
    dataset = synthetic_dataset(SPEC, 4, seed=3)
    assert dataset.synthetic
    assert dataset.labels is None
    assert dataset.class_names == ()
    assert dataset.digest == synthetic_dataset(SPEC, 4, seed=3).digest != synthetic_dataset(SPEC, 4, seed=4).digest
    assert len(np.unique(next(dataset.batches(4))["image"])) > 100
    with pytest.raises(UsageError):
        synthetic_dataset(SPEC, 0)
    with pytest.raises(UsageError):
        next(dataset.batches(0))


def _pixels(count=4):
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("save", ["npy", "npz", "compressed", "among others"])
def test_pixels_in_arrays(tmp_path, save):
    pixels = _pixels()
    path = tmp_path / ("x.npy" if save == "npy" else "x.npz")
    {
        "npy": lambda: np.save(path, pixels),
        "npz": lambda: np.savez(path, pixels),
        "compressed": lambda: np.savez_compressed(path, images=pixels, labels=np.arange(4)),
        "among others": lambda: np.savez(path, other=np.zeros(3), images=pixels),
    }[save]()
    dataset = open_dataset(path, SPEC)
    assert len(dataset) == 4
    assert dataset.labels == ((0, 1, 2, 3) if save == "compressed" else None)
    assert np.array_equal(np.concatenate([b["image"] for b in dataset.batches(3)]), normalize(pixels, SPEC))
    assert dataset.ids[1] == f"{path.name}[1]"


def test_normalized_arrays_are_taken_as_they_are(tmp_path):
    planes = normalize(_pixels(), SPEC)
    np.save(tmp_path / "x.npy", planes)
    dataset = open_dataset(tmp_path / "x.npy", SPEC)
    assert np.array_equal(next(dataset.batches(4))["image"], planes)
    with pytest.raises(DataError, match="takes pixels"):
        next(dataset.batches(4, signature=PIXELS))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, SIZE, SIZE + 1, 3), np.uint8), "no form that can be used"),
        (np.zeros((SIZE, SIZE, 3), np.uint8), "no form that can be used"),
        (np.zeros((2, SIZE, SIZE, 3), np.float32), "no form that can be used"),
        (np.zeros((2, 3, SIZE, SIZE), np.float64), "no form that can be used"),
        (np.zeros((2, 3, SIZE, SIZE), ">f4"), "no form that can be used"),
        (np.zeros((0, SIZE, SIZE, 3), np.uint8), "holds no image"),
        (np.asfortranarray(np.zeros((2, SIZE, SIZE, 3), np.uint8)), "column by column"),
        (np.array([np.zeros(3), None], dtype=object), "pickled"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_another_form_are_errors(tmp_path, array, message, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, array)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(path, SPEC)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error(tmp_path, bad):
    planes = normalize(_pixels(), SPEC)
    planes[2, 1, 3, 4] = bad
    np.savez(tmp_path / "x.npz", planes)
    with pytest.raises(DataError, match="not finite") as caught:
        open_dataset(tmp_path / "x.npz", SPEC)
    assert "image 2" in caught.value.found


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_every_truncation_is_an_error(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, _pixels(2))
    data = path.read_bytes()
    for length in [0, 1, 6, 10, 60, 128, 500, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(DataError):
            open_dataset(path, SPEC)


def test_a_damaged_member_is_an_error(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, _pixels(2))
    data = bytearray(path.read_bytes())
    data[1000] ^= 255  # the checksum of the member no longer fits
    path.write_bytes(data)
    with pytest.raises(DataError):
        open_dataset(path, SPEC)


def test_an_archive_that_lies_about_its_size_is_an_error(tmp_path):
    path = tmp_path / "x.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, SIZE, SIZE, 3)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(DataError, match="header announces"):
        open_dataset(path, SPEC)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": _pixels(), "b": _pixels()}, "not clear which array"),
        ({"labels": np.arange(4)}, "not clear which array"),
        ({"images": _pixels(), "labels": np.arange(3)}, "another number of labels"),
        ({"images": _pixels(), "labels": np.zeros(4)}, "labels .* cannot be used"),
    ],
)
def test_archives_that_are_not_clear_are_errors(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "x.npz", SPEC)


def test_an_unknown_format_version_is_an_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, _pixels(1))
    data = bytearray(path.read_bytes())
    data[6] = 9
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(path, SPEC)


def test_images_cannot_feed_a_model_of_another_kind(tmp_path):
    write_images(tmp_path, 1)
    two = ModelSignature(inputs=(TensorSpec("a", "float32", (1,)), TensorSpec("b", "float32", (1,))), outputs=())
    with pytest.raises(DataError, match="one input"):
        next(open_dataset(tmp_path, SPEC).batches(1, signature=two))
