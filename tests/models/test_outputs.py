from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch

from linglos_deploy.artifacts import IMAGE_INPUT
from linglos_deploy.errors import UsageError
from linglos_deploy.models.factory import ModelDescription
from linglos_deploy.models.outputs import Observed, observe_outputs, run_once
from linglos_deploy.signature import TensorSpec
from linglos_deploy.tasks.registry import load_task

Pair = namedtuple("Pair", "left right")


class Returns(torch.nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, image: torch.Tensor) -> Any:
        return self.result


class Cache:
    """Stands for what a language model keeps between calls."""


def observe(module: torch.nn.Module, size: tuple[int, int] = (32, 32), **description: Any) -> Observed:
    described = ModelDescription(module, **description)
    shapes = {"image": (1, 3, *size)}
    return observe_outputs(described, (IMAGE_INPUT,), shapes, task=None, settings={}, spec="a:b")


def names_of(result: Any) -> tuple[str, ...]:
    return observe(Returns(result)).described.output_names


def test_dicts_and_named_tuples_name_their_outputs_by_their_keys():
    one = torch.zeros(1, 5)
    assert names_of({"logits": one}) == ("logits",)
    assert names_of({"boxes": one, "scores": {"left": one, "right": one}}) == ("boxes", "scores.left", "scores.right")
    assert names_of({"maps": (one, one), "aux": None}) == ("maps_0", "maps_1")
    assert names_of(Pair(one, [one])) == ("left", "right_0")


def test_positions_alone_name_outputs_by_what_they_are():
    one = torch.zeros(1, 5)
    assert names_of(one) == ("logits",)
    assert names_of((one,)) == ("logits",)
    assert names_of((one, [one, one])) == ("output_0", "output_1", "output_2")


def test_no_output_is_called_like_an_input_or_like_another_output():
    one = torch.zeros(1, 5)
    assert names_of({"image": one, "a b": one, "a/b": one, 3: one}) == ("image_0", "a_b", "a_b_2", "output_3")


def test_numbers_are_outputs_too_and_nothing_is_not():
    assert names_of({"logits": torch.zeros(1, 5), "count": 3, "found": True, "loss": None}) == (
        "logits",
        "count",
        "found",
    )


def test_what_is_no_tensor_is_left_out_and_said():
    observed = observe(Returns({"logits": torch.zeros(1, 5), "past": Cache()}))
    assert observed.described.output_names == ("logits",)
    assert "past: Cache" in observed.warnings[0]
    assert observe(Returns(torch.zeros(1, 5))).warnings == ()


@pytest.mark.parametrize(("result", "found"), [((), "a tuple"), (Cache(), "a Cache"), (None, "a NoneType")])
def test_a_model_that_returns_no_tensor_is_refused(result: Any, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        observe(Returns(result))


def test_a_model_that_cannot_run_at_this_size_says_so() -> None:
    with pytest.raises(UsageError, match=r"32 x 48[\s\S]*mat1 and mat2"):
        observe(torch.nn.Linear(10, 2), (32, 48))


def test_inputs_are_given_by_keyword_where_the_module_names_them_else_by_position():
    class Keywords(torch.nn.Module):
        def forward(self, other=None, *, mask=None, tokens=None):
            return tokens * mask

    class Positions(torch.nn.Module):
        def forward(self, first, second):
            return first - second

    inputs = (TensorSpec("tokens", "int64", ("batch", 4)), TensorSpec("mask", "bool", ("batch", 4)))
    shapes = {"tokens": (2, 4), "mask": (2, 4)}
    found = run_once(Keywords(), inputs, shapes, spec="a:b")
    assert [(name, tensor.dtype) for name, tensor in found.tensors] == [("", torch.int64)]
    swapped = {"b": (1, 2), "a": (1, 2)}
    floats = tuple(TensorSpec(name, "float32", ("batch", 2)) for name in swapped)
    assert run_once(Positions(), floats, swapped, spec="a:b").tensors[0][1].shape == (1, 2)


@pytest.mark.parametrize(
    ("shapes", "task", "names"),
    [
        (((1, 10),), "classify", ("logits",)),
        (((1, 10), (1, 2)), "classify", ("output_0", "output_1")),
        (((1, 8, 16, 16), (1, 9, 2, 2)), "features", ("features_4", "features_32")),
        (((1, 8, 16, 16), (1, 9, 16, 16)), "features", ("output_0", "output_1")),
        (((1, 8),), "features", ("output_0",)),
    ],
)
def test_outputs_are_named_by_what_they_are(shapes: Any, task: str, names: tuple[str, ...]) -> None:
    assert load_task(task).name_outputs(shapes, (64, 64), {}) == names


def test_what_an_author_said_about_the_outputs_is_kept() -> None:
    described = observe(Returns(torch.zeros(1, 7)), output_names=("scores",)).described
    assert (described.output_names, described.num_classes) == (("scores",), 7)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("a", "a")])
def test_names_that_do_not_fit_the_outputs_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="2 different names"):
        observe(Returns((torch.zeros(1, 7), torch.zeros(1, 7))), output_names=names)


def test_a_number_of_classes_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match=r"found: +8\n  expected: 7"):
        observe(Returns(torch.zeros(1, 7)), num_classes=8)
