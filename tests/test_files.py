from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from linglos_deploy.errors import OutputError
from linglos_deploy.files import atomic_directory, atomic_file, check_free, sha256_bytes, sha256_file


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_atomic_file_appears_whole_with_the_usual_permissions(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model.onnx"
    with atomic_file(target) as partial:
        partial.write_bytes(b"whole")
        assert not target.exists()
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode == plain.stat().st_mode
    assert names(target.parent) == ["model.onnx"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_partial_one(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(failure), atomic_file(target) as partial:
        partial.write_bytes(b"half")
        raise failure
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["model.onnx"]


def test_a_full_disk_is_said_to_be_full_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no room left") as caught, atomic_file(tmp_path / "model.onnx"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "nothing was left behind" in str(caught.value)
    assert names(tmp_path) == []


def test_another_os_error_is_not_dressed_up(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="loop"), atomic_file(tmp_path / "model.onnx"):
        raise OSError(errno.ELOOP, "loop")


def test_an_atomic_directory_replaces_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(OutputError, match="not empty"), atomic_directory(target):
        pytest.fail("must refuse before any work")
    with atomic_directory(target, replace=True) as partial:
        (partial / "new").touch()
        assert names(target) == ["old"]
    assert names(target) == ["new"]
    assert names(tmp_path) == ["bundle"]


def test_an_empty_directory_is_taken_over(tmp_path: Path) -> None:
    with atomic_directory(tmp_path) as partial:
        (partial / "new").touch()
    assert names(tmp_path) == ["new"]


def test_an_interrupted_directory_leaves_the_old_one_untouched(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic_directory(target, replace=True) as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt
    assert names(target) == ["old"]
    assert names(tmp_path) == ["bundle"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.touch()
    with pytest.raises(OutputError, match="in the way"):
        check_free(target, replace=True)


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not writable"):
        check_free(tmp_path / "file" / "bundle", replace=False)


def test_a_folder_without_write_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match="not writable"):
        check_free(tmp_path / "bundle", replace=False)


def test_a_read_only_place_found_while_writing_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), atomic_file(tmp_path / "model.onnx"):
        raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("name", ["model.onnx", "made/model.onnx"])
def test_a_system_that_makes_no_files_in_a_folder_is_our_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(self: Path | None = None, *_: object, **named: object) -> None:
        where = str(self) if self else f"{tmp_path}/{named['prefix']}x{named['suffix']}"
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", where)  # as /proc and /sys answer

    monkeypatch.setattr(Path, "mkdir", refuse) if "/" in name else monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match="cannot be written"), atomic_file(tmp_path / name):
        pass


def test_a_file_that_is_missing_while_another_is_written_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "model.onnx"):
        (tmp_path / "image.png").read_bytes()


def test_digests_of_a_file_and_of_its_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_file(tmp_path / "file") == sha256_bytes(b"abc")
    assert sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
