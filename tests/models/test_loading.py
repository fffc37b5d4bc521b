from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.choices import Weights
from linglos_deploy.errors import CheckpointError, UsageError
from linglos_deploy.files import sha256_file
from linglos_deploy.images.preprocessing import Interpolation, PreprocessSpec
from linglos_deploy.models.checkpoint import save_checkpoint
from linglos_deploy.models.factory import ModelDescription
from linglos_deploy.models.linglo import LinGlo
from linglos_deploy.models.loading import HeldModel, ModelSource, check_image_size, load_model
from linglos_deploy.models.metadata import CheckpointMetadata
from linglos_deploy.models.weights import state_digest
from tests.models.conftest import TINY, TINY_LABELS, TINY_PREPROCESS

Tensors = dict[str, torch.Tensor]


def test_a_checkpoint_brings_everything_that_a_deployment_needs(tiny_checkpoint: Path, tiny_model: LinGlo) -> None:
    loaded = load_model(ModelSource(checkpoint=tiny_checkpoint))
    image = torch.rand(2, 3, 64, 96)
    assert torch.equal(loaded.module(image), tiny_model(image))
    assert loaded.name == "tiny"
    assert loaded.output_names == ("logits",)
    assert loaded.preprocess == TINY_PREPROCESS
    assert loaded.labels == TINY_LABELS
    assert loaded.size_divisor == 32
    assert loaded.weights is Weights.TRAINED
    assert loaded.digest == state_digest(tiny_model.state_dict())


def test_a_loaded_model_is_ready_for_export(tiny_checkpoint: Path) -> None:
    module = load_model(ModelSource(checkpoint=tiny_checkpoint)).module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert {str(value.device) for value in module.state_dict().values()} == {"cpu"}


def test_the_story_of_a_model_holds_no_paths(tiny_checkpoint: Path) -> None:
    (step,) = load_model(ModelSource(checkpoint=tiny_checkpoint)).lineage
    assert step.stage == "load"
    assert step.inputs == {"checkpoint": sha256_file(tiny_checkpoint)}
    assert step.config["dims"] == list(TINY.dims)
    assert "torch" in step.tools
    assert str(tiny_checkpoint.parent) not in repr(step)


def test_a_bare_state_dict_is_enough(tiny_weights: Tensors, tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "best model.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in tiny_weights.items()}}, path)
    loaded = load_model(ModelSource(checkpoint=path))
    assert loaded.digest == load_model(ModelSource(checkpoint=tiny_checkpoint)).digest
    assert loaded.preprocess == PreprocessSpec()
    assert (loaded.name, loaded.labels) == ("best_model", ())


def test_a_backbone_is_taken_out_of_a_classifier(tiny_checkpoint: Path, tiny_model: LinGlo) -> None:
    loaded = load_model(ModelSource(checkpoint=tiny_checkpoint, task="features"))
    image = torch.rand(1, 3, 64, 64)
    maps = loaded.module(image)
    assert loaded.output_names == ("features_4", "features_8", "features_16", "features_32")
    assert loaded.labels == ()
    logits = tiny_model.head(tiny_model.norm(maps[-1].mean((2, 3))))
    torch.testing.assert_close(logits, tiny_model(image))


def test_a_classifier_is_not_made_of_a_backbone(tiny_weights: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    backbone = {name: value for name, value in tiny_weights.items() if not name.startswith(("norm.", "head."))}
    save_checkpoint(path, backbone, metadata=CheckpointMetadata(dims=TINY.dims, depths=TINY.depths, num_classes=5))
    with pytest.raises(CheckpointError, match="--task features"):
        load_model(ModelSource(checkpoint=path))
    assert len(load_model(ModelSource(checkpoint=path, task="features")).output_names) == 4


def test_a_variant_has_random_weights_and_says_so() -> None:
    first, again, other = (load_model(ModelSource(variant="t", seed=seed)) for seed in (5, 5, 6))
    assert first.weights is Weights.RANDOM
    assert first.digest == again.digest != other.digest
    assert first.name == "linglo_t"
    assert first.preprocess == PreprocessSpec((224, 224))
    assert first.lineage[0].config["seed"] == 5


def test_a_checkpoint_of_a_variant_has_its_name(tmp_path: Path) -> None:
    module = load_model(ModelSource(variant="t")).module
    torch.save(module.state_dict(), tmp_path / "best.pt")
    for variant in (None, "t"):
        loaded = load_model(ModelSource(checkpoint=tmp_path / "best.pt", variant=variant))
        assert (loaded.name, loaded.weights) == ("linglo_t", Weights.TRAINED)


def test_a_checkpoint_of_another_variant_is_refused(tmp_path: Path) -> None:
    torch.save(load_model(ModelSource(variant="t")).module.state_dict(), tmp_path / "best.pt")
    with pytest.raises(CheckpointError) as caught:
        load_model(ModelSource(checkpoint=tmp_path / "best.pt", variant="s"))
    message = str(caught.value)
    assert "missing (stages." in message
    assert "of another shape (downsamples.1.project.0.weight 128x256x1x1 for 160x256x1x1" in message
    assert "nearest variant is 't'" in message


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pt")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(conv1\.weight\)[\s\S]*no variant of LinGlo"):
        load_model(ModelSource(checkpoint=tmp_path / "resnet.pt"))


def test_metadata_that_contradicts_the_weights_is_refused(tiny_weights: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tiny_weights, metadata=CheckpointMetadata(depths=(1, 1, 1, 1)))
    with pytest.raises(CheckpointError, match=r"unexpected \(stages\.1\.2"):
        load_model(ModelSource(checkpoint=path))


def test_an_image_size_may_be_chosen_and_keeps_the_rest_of_the_preprocessing(tiny_checkpoint: Path) -> None:
    loaded = load_model(ModelSource(checkpoint=tiny_checkpoint, image_size=(32, 160)))
    assert loaded.preprocess.input_size == (32, 160)
    assert loaded.preprocess.mean == TINY_PREPROCESS.mean


def test_an_image_size_that_does_not_fit_is_answered_with_two_that_do(tiny_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"224 x 160 or 256 x 160[\s\S]*--imgsz 256x160"):
        load_model(ModelSource(checkpoint=tiny_checkpoint, image_size=(230, 160)))


@given(height=st.integers(1, 400), width=st.integers(1, 400), divisor=st.integers(1, 40))
def test_sizes_are_accepted_exactly_if_they_are_multiples(height: int, width: int, divisor: int) -> None:
    if height % divisor == 0 and width % divisor == 0:
        check_image_size((height, width), divisor=divisor)
        return
    with pytest.raises(UsageError) as caught:
        check_image_size((height, width), divisor=divisor)
    offered = (caught.value.expected or "").partition("such as ")[2].split(" or ")
    for size in offered:
        sides = tuple(int(side) for side in size.split(" x "))
        check_image_size((sides[0], sides[1]), divisor=divisor)
        assert abs(sides[0] - height) < divisor
        assert abs(sides[1] - width) < divisor


def test_labels_may_come_from_a_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("1\n2\n3\n4\n5\n")
    source = ModelSource(checkpoint=tiny_checkpoint, labels=tmp_path / "names.txt")
    assert load_model(source).labels == ("1", "2", "3", "4", "5")


def test_too_few_labels_are_refused(tiny_checkpoint: Path, tiny_weights: Tensors, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("1\n2\n")
    with pytest.raises(UsageError, match=r"2 names\n +expected: +5"):
        load_model(ModelSource(checkpoint=tiny_checkpoint, labels=tmp_path / "names.txt"))
    save_checkpoint(tmp_path / "a.safetensors", tiny_weights, metadata=CheckpointMetadata(labels=("1", "2")))
    with pytest.raises(CheckpointError, match=r"2 names\n +expected: +5"):
        load_model(ModelSource(checkpoint=tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "No model was named"),
        ({"variant": "x"}, "did you mean"),
        ({"variant": "s", "factory": "a:b"}, "Two models were named"),
        ({"factory": "a"}, "does not name a model factory"),
        ({"variant": "s", "image_size": (0, 32)}, "height and a width"),
        ({"variant": "s", "image_size": (32,)}, "height and a width"),
        ({"variant": "s", "task": "features", "labels": Path("a")}, "no classes to label"),
        ({"variant": "s", "seed": -1}, "must not be negative"),
    ],
)
def test_sources_that_make_no_sense_are_refused_where_they_are_made(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelSource(**choices)


ZOO = """
import torch
from linglos_deploy.models.factory import ModelDescription, ModelInput
from linglos_deploy.images.preprocessing import PreprocessSpec

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.register_buffer("steps", torch.tensor(3))
    def forward(self, image):
        return self.model(image).mean((2, 3))

class Maps(Net):
    def forward(self, image):
        return self.model(torch.nn.functional.pad(image, (0, 1, 0, 1))), image[:, :, ::4, ::4]

def seeded():
    torch.manual_seed(0)
    return Net()

def described():
    torch.manual_seed(0)
    spec = PreprocessSpec((48, 64), crop_pct=1.0)
    return ModelDescription(Net().double().train(), "my net", spec, labels=("a", "b", "c", "d"), size_divisor=16)

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)

    def forward(self, other=None, mask=None, tokens=None):
        states = self.embed(tokens) * mask[..., None]
        return {"states": states, "parts": (states.sum(1), object())}

def encoder():
    tokens = ModelInput("tokens", ("batch", "length"), dtype="int64", sizes={"length": 6})
    return ModelDescription(Encoder(), inputs=(tokens, ModelInput("mask", ("batch", "length"))), trained=True)

def untrained():
    return ModelDescription(Net(), trained=False)

def mislabeled():
    return ModelDescription(Net(), labels=("a", "b"))
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "linglos_test_nets.py").write_text(ZOO)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "linglos_test_nets", raising=False)


@pytest.mark.usefixtures("zoo")
def test_a_factory_brings_any_module() -> None:
    loaded = load_model(ModelSource(factory="linglos_test_nets:seeded", image_size=(50, 70)))
    assert loaded.output_names == ("logits",)
    assert loaded.preprocess == PreprocessSpec((50, 70))
    assert (loaded.name, loaded.size_divisor, loaded.weights) == ("seeded", 1, Weights.UNKNOWN)
    assert loaded.lineage[0].config["factory"] == "linglos_test_nets:seeded"


@pytest.mark.usefixtures("zoo")
def test_a_described_module_is_made_ready_and_keeps_its_description() -> None:
    loaded = load_model(ModelSource(factory="linglos_test_nets:described"))
    assert (loaded.name, loaded.labels) == ("my_net", ("a", "b", "c", "d"))
    assert loaded.preprocess == PreprocessSpec((48, 64), crop_pct=1.0)
    assert not loaded.module.training
    assert {value.dtype for value in loaded.module.parameters()} == {torch.float32}
    with pytest.raises(UsageError, match="divisible by 16"):
        load_model(ModelSource(factory="linglos_test_nets:described", image_size=(50, 64)))


@pytest.mark.usefixtures("zoo")
def test_a_factory_says_what_its_module_takes_and_what_it_returns_is_seen() -> None:
    loaded = load_model(ModelSource(factory="linglos_test_nets:encoder"))
    assert [spec.describe() for spec in loaded.inputs] == ["tokens int64[batch, length]", "mask float32[batch, length]"]
    assert loaded.input_shapes(batch=3) == {"tokens": (3, 6), "mask": (3, 6)}
    assert loaded.output_names == ("states", "parts_0")
    assert loaded.preprocess is None
    assert "parts_1: object" in loaded.warnings[0]
    with pytest.raises(UsageError, match="no image"):
        load_model(ModelSource(factory="linglos_test_nets:encoder", image_size=(32, 32)))


@pytest.mark.usefixtures("zoo")
def test_weights_are_trained_only_if_somebody_says_so() -> None:
    found = {name: load_model(ModelSource(factory=f"linglos_test_nets:{name}")).weights for name in FACTORIES}
    assert found == FACTORIES


FACTORIES = {"encoder": Weights.TRAINED, "untrained": Weights.RANDOM, "described": Weights.UNKNOWN}


@pytest.mark.usefixtures("zoo")
def test_a_checkpoint_is_loaded_into_the_module_of_a_factory(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    weights = {"module.model.weight": torch.ones(4, 3, 3, 3), "module.model.bias": torch.zeros(4)}
    weights["module.steps"] = torch.tensor(9)
    metadata = CheckpointMetadata(
        image_size=(32, 32), interpolation=Interpolation.BILINEAR, labels=("a", "b", "c", "d")
    )
    save_checkpoint(path, weights, metadata=metadata)
    loaded = load_model(ModelSource(factory="linglos_test_nets:Net", checkpoint=path))
    assert loaded.module.state_dict()["steps"] == 9
    assert torch.equal(loaded.module(torch.ones(1, 3, 32, 32)), torch.full((1, 4), 27.0))
    assert loaded.preprocess == PreprocessSpec((32, 32), interpolation=Interpolation.BILINEAR)
    assert loaded.labels == ("a", "b", "c", "d")


@pytest.mark.usefixtures("zoo")
def test_a_checkpoint_of_another_module_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit the model of 'linglos_test_nets:Net'"):
        load_model(ModelSource(factory="linglos_test_nets:Net", checkpoint=tiny_checkpoint))


@pytest.mark.usefixtures("zoo")
def test_feature_maps_of_a_factory_are_named_by_their_strides(tmp_path: Path) -> None:
    source = ModelSource(factory="linglos_test_nets:Maps", task="features", image_size=(64, 64))
    assert load_model(source).output_names == ("features_2", "features_4")


@pytest.mark.usefixtures("zoo")
def test_labels_of_a_factory_must_fit_its_module(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of 'linglos_test_nets:mislabeled' do not fit"):
        load_model(ModelSource(factory="linglos_test_nets:mislabeled", image_size=(32, 32)))
    (tmp_path / "names.txt").write_text("1\n2\n")
    with pytest.raises(UsageError, match="no classes to label"):
        load_model(ModelSource(factory="linglos_test_nets:Maps", image_size=(32, 32), labels=tmp_path / "names.txt"))


def test_naming_a_source_does_not_import_torch() -> None:
    script = (
        "import sys; from linglos_deploy.models.loading import ModelSource as S; S('s'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout.strip() == b"False"


def test_a_module_of_the_users_own_must_hold_numbers() -> None:
    net = torch.nn.Conv2d(3, 2, 1)
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))  # infinity is meant
    load_model(HeldModel(module=ModelDescription(net, name="net")))
    net.weight.data[1, 2] = torch.nan
    with pytest.raises(CheckpointError, match=r"'weight' of 'net' holds NaN[\s\S]*1 of 6 values"):
        load_model(HeldModel(module=ModelDescription(net, name="net")))
