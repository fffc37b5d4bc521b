from __future__ import annotations

from dataclasses import replace

import pytest

from linglos_deploy.backends.trt.flavour import FLAVOURS
from linglos_deploy.choices import HardwareCompatibility
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.engines.targets import PRESETS, apply_preset, find_preset
from linglos_deploy.errors import UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_a_valid_spec_for_each_of_its_backends(name: str):
    preset = find_preset(name)
    assert preset.name == name
    assert set(preset.backends) <= set(FLAVOURS)
    for backend in preset.backends:
        spec = apply_preset(preset, BuildSpec(profiles=()), backend=backend)
        assert bool(spec.compute_capabilities) == FLAVOURS[backend].ahead_of_time


def test_what_the_user_says_stays():
    asked = BuildSpec(profiles=(), compute_capabilities=("8.6",), workspace_bytes=5)
    assert apply_preset(find_preset("rtx-ada"), asked, backend="tensorrt-rtx") == asked
    jetson = apply_preset(find_preset("jetson-orin"), replace(asked, compute_capabilities=()), backend="tensorrt")
    assert jetson.workspace_bytes == 5


def test_one_engine_for_several_gpus_needs_hardware_compatibility():
    spec = apply_preset(find_preset("datacenter"), BuildSpec(profiles=()), backend="tensorrt")
    assert spec.hardware_compatibility is HardwareCompatibility.AMPERE_PLUS


def test_a_backend_that_does_not_run_there_is_refused_with_the_one_that_does():
    with pytest.raises(UsageError, match="--engine tensorrt"):
        apply_preset(find_preset("jetson-orin"), BuildSpec(profiles=()), backend="tensorrt-rtx")


def test_a_misspelt_target_is_recognized():
    with pytest.raises(UsageError, match="did you mean 'jetson-orin'"):
        find_preset("jetson-orion")
    with pytest.raises(UsageError, match="leave out --target"):
        find_preset("xyz")
