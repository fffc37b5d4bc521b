from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import DataError, UsageError
from linglos_deploy.images.preprocessing import PreprocessSpec
from linglos_deploy.models.factory import ModelDescription, ModelInput, check_spec, describe_factory

ZOO = """
import torch
from linglos_deploy.errors import DataError
from linglos_deploy.models.factory import ModelDescription
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.variants import LinGloConfig
from linglos_deploy.images.preprocessing import PreprocessSpec

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Conv2d(3, 4, 3)
    def forward(self, image):
        return self.model(image).mean((2, 3))

class Shelf:
    @staticmethod
    def net():
        return Net()

def described():
    return ModelDescription(Net(), preprocess=PreprocessSpec((48, 64)), labels=["a", "b", "c", "d"], size_divisor=16)

def linglo():
    return LinGlo(LinGloConfig(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_classes=3, image_size=64))

def fails():
    raise RuntimeError("no weights here")

def data_missing():
    raise DataError("The weights were not downloaded.")

def nothing(): pass
def wrong(): return ModelDescription("Net")
constant = 3
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "path_of_zoo" / "linglos_test_zoo"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(ZOO)
    (package / "broken.py").write_text("1 / 0")
    (package / "needs_more.py").write_text("import linglos_test_absent")
    monkeypatch.syspath_prepend(str(package.parent))


@pytest.mark.usefixtures("zoo")
def test_a_function_a_class_and_a_static_method_are_factories() -> None:
    for name in ("Net", "Shelf.net"):
        described = describe_factory(f"linglos_test_zoo.nets:{name}")
        assert isinstance(described.module, torch.nn.Module)
        assert described.name == name
        assert described.preprocess is None


@pytest.mark.usefixtures("zoo")
def test_a_factory_may_describe_its_model() -> None:
    described = describe_factory("linglos_test_zoo.nets:described")
    assert described.preprocess == PreprocessSpec((48, 64))
    assert described.labels == ("a", "b", "c", "d")
    assert (described.name, described.size_divisor) == ("described", 16)


@pytest.mark.usefixtures("zoo")
def test_a_linglo_from_a_factory_describes_itself() -> None:
    described = describe_factory("linglos_test_zoo.nets:linglo")
    assert (described.preprocess, described.size_divisor) == (PreprocessSpec((64, 64)), 32)


@pytest.mark.parametrize(
    "spec", ["", "net", "package.module", "package:", ":net", "a:b:c", "a b:c", "a.:c", "1a:c", "a/b.py:net", "a:net()"]
)
def test_other_forms_than_module_and_factory_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"package\.module:factory"):
        check_spec(spec)


@given(st.text("ab.:_1 ", max_size=8))
def test_a_name_is_accepted_exactly_if_python_could_import_it(spec: str) -> None:
    module, colon, attribute = spec.partition(":")
    possible = bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))
    if possible:
        check_spec(spec)
    else:
        with pytest.raises(UsageError):
            check_spec(spec)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("linglos_test_absent:net", "no module named 'linglos_test_absent'"),
        ("linglos_test_zoo.absent:net", r"no module named 'linglos_test_zoo\.absent'"),
        ("linglos_test_zoo.needs_more:net", "no module named 'linglos_test_absent'"),
        ("linglos_test_zoo.broken:net", "ZeroDivisionError: division by zero"),
        ("linglos_test_zoo.nets:absent", r"There is no 'absent'[\s\S]*Net, Shelf, described"),
        ("linglos_test_zoo.nets:Shelf.absent", r"There is no 'Shelf.absent'[\s\S]*a function named 'absent'"),
        ("linglos_test_zoo.nets:constant", "TypeError: 'int' object is not callable"),
        ("linglos_test_zoo.nets:fails", "RuntimeError: no weights here"),
        ("linglos_test_zoo.nets:nothing", "a NoneType"),
        ("linglos_test_zoo.nets:wrong", "a str"),
    ],
)
def test_a_factory_that_gives_no_model_is_explained(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        describe_factory(spec)
    assert caught.value.next_step


@pytest.mark.usefixtures("zoo")
def test_a_factory_may_explain_itself_with_an_error_of_this_package() -> None:
    with pytest.raises(DataError, match="not downloaded"):
        describe_factory("linglos_test_zoo.nets:data_missing")


def test_a_size_divisor_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ModelDescription(torch.nn.Identity(), size_divisor=0)


TOKENS = ModelInput("tokens", ("batch", "length"), dtype="int64", sizes={"length": 8})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda: ModelInput("a-b", ("batch",)), "no name of an input"),
        (lambda: ModelInput("a", ("batch", 3), dtype="complex64"), "unknown element type"),
        (lambda: ModelInput("a", ("batch", 0)), "below 1"),
        (lambda: describe(TOKENS, TOKENS), "one name"),
        (lambda: describe(ModelInput("a", ("batch", "length"))), "Axis 'length' has no size"),
        (lambda: describe(TOKENS, ModelInput("a", ("length",), sizes={"length": 9})), "two sizes"),
        (lambda: ModelDescription(torch.nn.Linear(2, 2), preprocess=PreprocessSpec(), inputs=(TOKENS,)), "both"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(inputs: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        inputs()


def describe(*inputs: ModelInput) -> ModelDescription:
    return ModelDescription(torch.nn.Linear(2, 2), inputs=inputs)


def test_inputs_share_the_sizes_of_axes_of_one_name() -> None:
    described = describe(TOKENS, ModelInput("mask", ("batch", "length")))
    assert [each.name for each in described.inputs] == ["tokens", "mask"]
