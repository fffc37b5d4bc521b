from __future__ import annotations

from typing import Any

import pytest
import torch

from linglos_deploy.errors import UsageError
from linglos_deploy.models.factory import ModelDescription
from linglos_deploy.models.outputs import name_outputs, observe_outputs, output_shapes
from linglos_deploy.models.variants import Task


class Returns(torch.nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, image: torch.Tensor) -> Any:
        return self.result


def test_shapes_of_all_outputs_are_seen() -> None:
    module = Returns((torch.zeros(1, 5), [torch.zeros(1, 2, 3, 4)][0]))
    assert output_shapes(module, (32, 32), spec="a:b") == ((1, 5), (1, 2, 3, 4))
    assert output_shapes(torch.nn.AvgPool2d(4), (32, 64), spec="a:b") == ((1, 3, 8, 16),)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"logits": torch.zeros(1)}, "a dict"),
        ((torch.zeros(1), 3), "a tuple of Tensor, int"),
        ((), "a tuple"),
        (1, "a int"),
    ],
)
def test_other_results_than_tensors_are_refused(result: Any, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        output_shapes(Returns(result), (32, 32), spec="a:b")


def test_a_model_that_cannot_run_at_this_size_says_so() -> None:
    with pytest.raises(UsageError, match=r"32 x 48[\s\S]*mat1 and mat2"):
        output_shapes(torch.nn.Linear(10, 2), (32, 48), spec="a:b")


@pytest.mark.parametrize(
    ("shapes", "task", "names"),
    [
        (((1, 10),), Task.CLASSIFY, ("logits",)),
        (((1, 10), (1, 2)), Task.CLASSIFY, ("output_0", "output_1")),
        (((1, 8, 16, 16), (1, 9, 2, 2)), Task.FEATURES, ("features_4", "features_32")),
        (((1, 8, 16, 16), (1, 9, 16, 16)), Task.FEATURES, ("output_0", "output_1")),
        (((1, 8),), Task.FEATURES, ("output_0",)),
    ],
)
def test_outputs_are_named_by_what_they_are(shapes: Any, task: Task, names: tuple[str, ...]) -> None:
    assert name_outputs(shapes, (64, 64), task) == names


def test_what_an_author_said_about_the_outputs_is_kept() -> None:
    described = ModelDescription(Returns(torch.zeros(1, 7)), output_names=("scores",))
    observed = observe_outputs(described, (32, 32), task=Task.CLASSIFY, spec="a:b")
    assert (observed.output_names, observed.num_classes) == (("scores",), 7)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("a", "a")])
def test_names_that_do_not_fit_the_outputs_are_refused(names: tuple[str, ...]) -> None:
    described = ModelDescription(Returns((torch.zeros(1, 7), torch.zeros(1, 7))), output_names=names)
    with pytest.raises(UsageError, match="2 different names"):
        observe_outputs(described, (32, 32), task=Task.CLASSIFY, spec="a:b")


def test_a_number_of_classes_that_the_model_has_not_is_refused() -> None:
    described = ModelDescription(Returns(torch.zeros(1, 7)), num_classes=8)
    with pytest.raises(UsageError, match=r"found: +8\n  expected: 7"):
        observe_outputs(described, (32, 32), task=Task.CLASSIFY, spec="a:b")
