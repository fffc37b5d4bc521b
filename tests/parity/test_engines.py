"""An engine is checked like a graph where it runs, and where it does not, the verdict says so and how to check it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from linglos_deploy import pipeline
from linglos_deploy.artifacts import Artifact, EngineArtifact, OnnxArtifact, load_onnx, open_onnx
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import CPU, Device, Runner
from linglos_deploy.backends.compilers.openvino import OpenVino
from linglos_deploy.choices import Precision
from linglos_deploy.codec import to_json
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import UsageError
from linglos_deploy.exporters.config import ExportConfig
from linglos_deploy.models.loading import ModelSource
from linglos_deploy.profiling import access
from linglos_deploy.profiling.access import EngineAccess
from linglos_deploy.progress import SILENT, Progress, Silent
from linglos_deploy.verbs import verdicts
from linglos_deploy.verbs.check_parity import ParityRequest, check
from tests.cluster import HereClient
from tests.commandline import run, write_images

pytestmark = [
    pytest.mark.xdist_group("engines"),
    pytest.mark.skipif(
        importlib.util.find_spec("openvino") is None, reason="no OpenVINO: pip install 'linglos-deploy[openvino]'"
    ),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a float32 graph and the OpenVINO engine that was built of it."""
    report = pipeline.export_bundle(
        pipeline.ExportRequest(
            ModelSource(factory="tests.parity.networks:convnet", image_size=(32, 32)),
            tmp_path_factory.mktemp("engines"),
            name="bundle",
            graph=ExportConfig(precision=Precision.FP32),
            engine="openvino",
            measure_latency=False,
            threads=1,
        )
    )
    assert report.passed, report.parity
    assert len(report.parity) == 2, "the engine was not checked by export"
    return Path(report.bundle)


def test_the_engine_of_a_bundle_is_checked_against_pytorch(bundle: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 5, side=40, seed=2)
    outcome = check(ParityRequest(bundle, data=data, threads=1))
    assert outcome.passed
    engine = outcome.reports[-1]
    assert engine.candidate != "model.onnx"
    assert {output.images for output in engine.outputs} >= {"data"}
    assert engine.outputs[0].metrics.sqnr_db < 300  # other kernels: it was really run
    assert any(finding.name.startswith("an image answers the same") for finding in engine.findings)
    assert not any(finding.name.startswith("engine ") and finding.passed is None for finding in engine.findings)


def test_a_cluster_runs_graphs_and_engines_while_pytorch_answers_here_and_that_is_said(
    bundle: Path, tmp_path: Path, cluster_here: HereClient
) -> None:
    class Listening(Silent):
        def warn(self, message: str) -> None:
            heard.append(message)

    heard: list[str] = []
    data = write_images(tmp_path / "data", 10, side=40, seed=2)
    source = ModelSource(factory="tests.parity.networks:convnet", image_size=(32, 32))
    request = ParityRequest(bundle, source=source, data=data, threads=1, batch=4)
    alone = to_json(check(request))
    assert cluster_here.submitted == 0
    assert to_json(check(replace(request, dask="tcp://here"), progress=Listening())) == alone
    assert cluster_here.submitted == 6  # three batches, for the graph and for the engine
    assert "The PyTorch model answers here; the cluster runs what is compared with it." in heard


def test_where_an_engine_cannot_run_the_verdict_says_so_and_how_to_check_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = registry.probe

    def absent(name: str) -> object:
        if name == "openvino":
            return type("Absent", (), {"runs": False, "detail": "no such device"})()
        return probe(name)

    monkeypatch.setattr(verdicts.registry, "probe", absent)
    outcome = check(ParityRequest(bundle, threads=1))
    assert [report.candidate for report in outcome.reports] == ["model.onnx"]
    named = [finding for finding in outcome.reports[0].findings if finding.name.startswith("engine ")]
    left = [finding for finding in named if finding.passed is None]
    assert [(finding.passed, finding.found) for finding in left] == [(None, "not checked here: no such device")]
    assert left[0].expected == f"run 'linglos-deploy parity {bundle}' on the target"
    assert outcome.passed, "what was not checked is said, and is no failure"


class Spy:
    """Runs engines as OpenVINO does, and notes what it was given."""

    name = "openvino"

    def __init__(self, **options: object) -> None:
        self.options = options
        self.devices: list[Device] = []

    @contextmanager
    def open(self, artifact: Artifact, *, device: Device = CPU) -> Iterator[Runner]:
        self.devices.append(device)
        with OpenVino().open(artifact) as runner:
            yield runner


def test_an_engine_is_opened_on_the_device_with_the_weights_and_with_the_consent_that_were_given(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spies: list[Spy] = []

    def runtime(name: str, **options: object) -> Spy:
        assert name == "openvino"
        spies.append(Spy(**options))
        return spies[-1]

    def factory(_name: str) -> Callable[..., object]:
        def make(*, allow_host_code: bool = False, weights: str | None = None) -> None:
            """Stand for a backend with these options."""

        return make

    monkeypatch.setattr(verdicts.registry, "runtime", runtime)
    monkeypatch.setattr(access.registry, "factory", factory)
    monkeypatch.setattr(verdicts.registry, "probe", lambda _name: OpenVino().probe())
    weights = bundle / "model.onnx"
    given = EngineAccess("cuda:1", allow_host_code=True, weights=weights)
    assert check(ParityRequest(bundle, threads=1, access=given)).passed
    assert [spy.options for spy in spies] == [{"allow_host_code": True, "weights": str(weights)}]
    assert {str(device) for device in spies[0].devices} == {"cuda:1"}


def test_what_is_said_about_engines_is_refused_where_none_has_a_use_for_it(bundle: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 2, side=40, seed=2)
    with pytest.raises(UsageError, match="None of the models has a use for --allow-host-code"):
        check(ParityRequest(bundle, threads=1, access=EngineAccess(allow_host_code=True)))
    graph = bundle / "model.onnx"
    with pytest.raises(UsageError, match="no engine among what is checked"):
        check(ParityRequest(graph, reference=graph, data=data, threads=1, access=EngineAccess("cpu")))
    run("parity", bundle, "--allow-host-code").explain(2, "None of the models has a use for --allow-host-code")
    run("parity", graph, "--reference", graph, "--data", data, "--weights", graph).explain(
        2, "no engine among what is checked"
    )


class Careless:
    """Compiles as OpenVINO does, and takes one convolution's bias for zero."""

    name = "openvino"

    def compile(
        self, model: OnnxArtifact, spec: BuildSpec, *, out: Path, progress: Progress = SILENT
    ) -> EngineArtifact:
        graph = load_onnx(model.path)
        bias = [node for node in graph.graph.node if node.op_type == "Conv"][1].input[2]
        (tensor,) = (it for it in graph.graph.initializer if it.name == bias)
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), bias))
        onnx.save(graph, out.with_suffix(".onnx"))
        return OpenVino().compile(open_onnx(out.with_suffix(".onnx")), spec, out=out, progress=progress)


def test_the_first_layer_that_a_compiler_gets_wrong_is_located(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = check(ParityRequest(bundle, threads=1, locate=True))
    (place,) = (it for it in clean.locations if "compiled again" in it.candidate)
    assert (place.tensor, place.layer) == (None, None)
    monkeypatch.setattr("linglos_deploy.verbs.recompiled.compiler", lambda name: Careless())
    (place,) = (
        it for it in check(ParityRequest(bundle, threads=1, locate=True)).locations if "compiled again" in it.candidate
    )
    second = [node for node in load_onnx(bundle / "model.onnx").graph.node if node.op_type == "Conv"][1]
    assert place.layer == place.node == second.name
    assert place.runs <= 2 * np.log2(place.tensors) + 5
