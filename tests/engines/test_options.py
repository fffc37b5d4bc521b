"""From what is asked for to a build: sizes of dynamic graphs, on the command line and in Python."""

from __future__ import annotations

import shlex
from pathlib import Path

import onnx
import pytest
import tomllib
from onnx import TensorProto, helper

from linglos_deploy.artifacts import open_onnx
from linglos_deploy.engines.options import EngineOptions
from linglos_deploy.engines.record import EngineRecord, read_record
from linglos_deploy.engines.spec import ShapeRange
from linglos_deploy.errors import UsageError
from tests.commandline import enter, run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a graph of any size, one of any multiple of 32, and one of fixed size."""
    save_pooling(tmp_path / "free.onnx", "height", "width")
    save_pooling(tmp_path / "strided.onnx", "height", "width", divisor=32)
    save_pooling(tmp_path / "fixed.onnx", 64, 64)
    return enter(tmp_path, monkeypatch)


def save_pooling(path: Path, *size: str | int, divisor: int | None = None) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, 1, 1])
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["image"], ["logits"])], "pool", [image], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if divisor is not None:
        helper.set_model_props(model, {"linglos.size_divisor": str(divisor)})
    onnx.save(model, path)


def profile_of(options: EngineOptions, graph: str, *, divisor: int | None = None) -> ShapeRange:
    spec = options.spec(
        open_onnx(Path(graph)).signature, backend="tensorrt-rtx", nominal_size=(224, 320), divisor=divisor
    )
    return spec.profiles[0]["image"]


def build(graph: str, out: str, *options: str) -> EngineRecord:
    outcome = run("build", graph, "--engine", "tensorrt-rtx", "-o", out, "-q", "--json", *options).expect(0).json[0]
    return read_record(Path(out) / outcome["file"])


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'linglos-deploy[tensorrt-rtx]'")


def test_sizes_that_were_asked_for_become_part_of_every_profile(here: Path) -> None:
    options = EngineOptions(((1, 2, 4),), size_profile=((32, 64), (64, 96), (128, 128)))
    assert profile_of(options, "strided.onnx", divisor=32) == ShapeRange(
        (1, 3, 32, 64), (2, 3, 64, 96), (4, 3, 128, 128)
    )


def test_without_any_an_engine_serves_from_half_to_twice_the_models_size(here: Path) -> None:
    assert profile_of(EngineOptions(), "strided.onnx", divisor=32) == ShapeRange(
        (1, 3, 96, 160), (1, 3, 224, 320), (8, 3, 448, 640)
    )


def test_a_graph_that_does_not_say_which_sizes_it_takes_is_not_second_guessed(here: Path) -> None:
    asked = EngineOptions(size_profile=((33, 33), (65, 65), (97, 97)))
    assert profile_of(asked, "free.onnx").max == (8, 3, 97, 97)
    with pytest.raises(UsageError, match="does not fit the model"):
        profile_of(asked, "strided.onnx", divisor=32)


def test_options_made_in_python_are_checked_too() -> None:
    with pytest.raises(UsageError, match="rises"):
        EngineOptions(size_profile=((64, 64), (32, 64), (128, 128)))


@pytest.mark.usefixtures("rtx")
def test_a_size_profile_goes_from_the_command_line_into_the_sidecar_and_the_cache_key(here: Path) -> None:
    record = build("strided.onnx", "a", "--profile", "1,2,4", "--size-profile", "32x64,64,128")
    assert record.spec.profiles == ({"image": ShapeRange((1, 3, 32, 64), (2, 3, 64, 64), (4, 3, 128, 128))},)
    again = build("strided.onnx", "b", "--profile", "1,2,4", "--size-profile", "32x64,64x64,128x128")
    assert again.digest == record.digest
    assert len(entries(here)) == 1, "the same sizes, written in another way, are the same engine"
    other = build("strided.onnx", "c", "--profile", "1,2,4", "--size-profile", "32x64,64,160")
    assert other.spec.profiles[0]["image"].max == (4, 3, 160, 160)
    assert len(entries(here)) == 2, "other sizes are another engine"


def entries(here: Path) -> list[Path]:
    return sorted(Path(f"{here}.cache").glob("linglos-deploy/engines/*"))


@pytest.mark.usefixtures("rtx")
def test_the_rebuild_command_of_doctor_makes_the_same_engine_from_the_cache(here: Path) -> None:
    flags = ("--profile", "1,1,1", "--profile", "1,8,32", "--size-profile", "32,96x64,160", "--target", "rtx")
    first = build("strided.onnx", ".", *flags, "--workspace", "1500K", "--optimization-level", "2", "--tf32")
    plan = next(here.glob("*.engine"))
    report = run("doctor", plan.name, "--json").json
    command = shlex.split(report["engines"][0]["rebuild"])
    assert command[0] == "linglos-deploy"
    assert "--shape image=1x3x32x32:8x3x96x64:32x3x160x160" in " ".join(command)
    for file in here.glob("strided.tensorrt*"):
        file.unlink()
    run(*command[1:], "-q").expect(0)
    again = read_record(next(here.glob("*.engine")))
    assert (again.spec, again.digest) == (first.spec, first.digest)
    assert len(entries(here)) == 1


WRONG = {
    "fixed": (("build", "fixed.onnx", "--size-profile", "32,64,96"), "dynamic resolution"),
    "divisor": (("build", "strided.onnx", "--size-profile", "32,72,96"), "divisible by 32"),
    "order": (("build", "free.onnx", "--size-profile", "96,64,32"), "rises"),
    "malformed": (("build", "free.onnx", "--size-profile", "32-96"), "HEIGHTxWIDTH"),
}


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("case", WRONG)
def test_a_size_profile_that_makes_no_sense_is_explained_before_anything_is_built(here: Path, case: str) -> None:
    arguments, words = WRONG[case]
    run(*arguments, "--engine", "tensorrt-rtx", "-o", "engines").explain(2, words)
    assert not (here / "engines").exists() or not list((here / "engines").iterdir())


@pytest.mark.usefixtures("rtx")
def test_a_configuration_file_gives_and_gets_the_size_profile(here: Path) -> None:
    first = build("strided.onnx", "a", "--size-profile", "32,64,96", "--save-config", "run.toml")
    assert tomllib.loads((here / "run.toml").read_text())["build"]["size-profile"] == "32,64,96"
    assert build("strided.onnx", "b", "--config", "run.toml").spec == first.spec
    (here / "single.toml").write_text("[build]\nsize-profile = 64\n")
    assert build("strided.onnx", "c", "--config", "single.toml").spec.profiles[0]["image"].max == (8, 3, 64, 64)
