from __future__ import annotations

import torch
from torch import nn

from linglos_deploy.exporters.folding import fold_batch_norms
from tests.exporters.conftest import trained


def _conv_norm(**options) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 6, 3, **options), nn.BatchNorm2d(6), nn.ReLU())


def test_folding_keeps_the_function_and_removes_the_norm():
    for options in ({"bias": True}, {"bias": False}, {"bias": True, "groups": 2}):
        torch.manual_seed(0)
        module = trained(_conv_norm(**options)).double()
        image = torch.randn(2, 4, 7, 5, dtype=torch.float64)
        with torch.no_grad():
            before = module(image)
            assert fold_batch_norms(module) == 1
            torch.testing.assert_close(module(image), before, rtol=1e-12, atol=1e-12)
        assert not any(isinstance(child, nn.BatchNorm2d) for child in module.modules())


def test_a_norm_without_affine_part_is_folded():
    torch.manual_seed(0)
    module = trained(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, affine=False)))
    image = torch.randn(1, 2, 3, 3)
    with torch.no_grad():
        before = module(image)
        assert fold_batch_norms(module) == 1
        torch.testing.assert_close(module(image), before)


def test_a_convolution_used_twice_keeps_its_weights():
    shared = nn.Conv2d(4, 4, 1)
    module = nn.Sequential(nn.Sequential(shared, nn.BatchNorm2d(4)), nn.Sequential(shared, nn.BatchNorm2d(4)))
    assert fold_batch_norms(module.eval()) == 0


def test_a_norm_with_batch_statistics_or_a_hook_is_left_alone():
    without = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    hooked = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    hooked[0].register_forward_hook(lambda *_: None)
    assert fold_batch_norms(without.eval()) == fold_batch_norms(hooked.eval()) == 0


def test_children_of_a_container_with_its_own_forward_are_left_alone():
    class Reversed(nn.Sequential):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self[0](self[1](image))

    assert fold_batch_norms(Reversed(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()) == 0
