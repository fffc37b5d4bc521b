from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.errors import CheckpointError
from linglos_deploy.models.linglo import LinGlo, unloaded_linglo
from linglos_deploy.models.weights import assign_weights, state_digest
from tests.models.conftest import TINY

Weights = dict[str, torch.Tensor]

tensors = st.builds(
    lambda values, dtype: torch.tensor(values).to(dtype),
    st.lists(st.integers(-3, 3), max_size=4),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64]),
)
states = st.dictionaries(st.text("ab.", min_size=1, max_size=3), tensors, max_size=4)


@given(states, st.randoms())
def test_the_digest_does_not_depend_on_the_order_of_tensors(state: Weights, random: object) -> None:
    names = list(state)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert state_digest({name: state[name] for name in names}) == state_digest(state)


@given(states, states)
def test_equal_digests_mean_equal_names_types_shapes_and_values(first: Weights, second: Weights) -> None:
    equal = first.keys() == second.keys() and all(
        (value.dtype, value.shape) == (second[name].dtype, second[name].shape) and torch.equal(value, second[name])
        for name, value in first.items()
    )
    assert (state_digest(first) == state_digest(second)) == equal


def test_the_digest_sees_every_property_of_a_tensor() -> None:
    one = torch.arange(6, dtype=torch.float32)
    changed = (one.view(2, 3), one.view(torch.int32), one + 1)
    digests = {state_digest({"a": value}) for value in (one, *changed)} | {state_digest({"b": one})}
    assert len(digests) == 5


def test_the_digest_takes_views_and_scalars() -> None:
    square = torch.arange(9.0).view(3, 3)
    assert state_digest({"a": square.T}) == state_digest({"a": square.T.contiguous()})
    assert state_digest({"a": torch.tensor(1.0)}) != state_digest({"a": torch.tensor([1.0])})


def test_float32_weights_are_assigned_without_a_copy(tiny_weights: Weights) -> None:
    model = unloaded_linglo(TINY)
    assign_weights(model, tiny_weights, source="test")
    assert all(value.data_ptr() == tiny_weights[name].data_ptr() for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_float_types_become_float32(tiny_weights: Weights, dtype: torch.dtype) -> None:
    model = unloaded_linglo(TINY)
    stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tiny_weights.items()}
    assign_weights(model, stored, source="test")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert torch.equal(model.head.weight, stored["head.weight"].float())


def test_a_checkpoint_may_leave_the_step_counters_out(tiny_weights: Weights, tiny_model: LinGlo) -> None:
    stored = {name: value for name, value in tiny_weights.items() if not name.endswith("num_batches_tracked")}
    model = unloaded_linglo(TINY)
    assign_weights(model, stored, source="test")
    image = torch.ones(1, 3, 32, 32)
    assert torch.equal(model.eval()(image), tiny_model(image))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tiny_weights: Weights, poison: float) -> None:
    tiny_weights["stem.0.0.weight"][0, 0, 0, 1] = poison
    with pytest.raises(CheckpointError, match=r"'stem\.0\.0\.weight' in 'a\.pt' holds NaN or infinity[\s\S]*1 of 108"):
        assign_weights(unloaded_linglo(TINY), tiny_weights, source="a.pt")


def test_a_float64_weight_beyond_float32_is_refused(tiny_weights: Weights) -> None:
    tiny_weights["head.bias"] = torch.full((5,), 1e300, dtype=torch.float64)
    with pytest.raises(CheckpointError, match="finite numbers in float32"):
        assign_weights(unloaded_linglo(TINY), tiny_weights, source="a.pt")


def test_quantized_weights_are_refused(tiny_weights: Weights) -> None:
    tiny_weights["head.weight"] = tiny_weights["head.weight"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"int8[\s\S]*before quantization"):
        assign_weights(unloaded_linglo(TINY), tiny_weights, source="a.pt")
