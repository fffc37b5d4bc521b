from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device, LayerTimer, Noted, Runner, Runtime
from linglos_deploy.backends.compilers.openvino import OpenVino
from linglos_deploy.backends.cpu import CpuFeatures, Int8Mode
from linglos_deploy.codec import write_json
from linglos_deploy.engines.compiler import Compiler
from linglos_deploy.engines.record import open_engine, read_record, sidecar_path
from linglos_deploy.engines.spec import BuildSpec, ShapeRange
from linglos_deploy.errors import ArtifactError, BuildError, DataError, MissingDependencyError, RunError, UsageError
from linglos_deploy.files import sha256_file
from tests.backends.graphs import affine_graph, saturating_graph

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'linglos-deploy[openvino]'")

WITHOUT_VNNI = CpuFeatures("an old one", "x86_64", ("avx2",))
WITH_VNNI = CpuFeatures("a new one", "x86_64", ("avx2", "avx512_vnni"))
ONES = np.ones((2, 64, 4, 4), np.float32)


def widths(low: int, high: int) -> BuildSpec:
    return BuildSpec(({"x": ShapeRange((1, low), (1, low), (4, high))},))


@pytest.fixture
def affine(tmp_path: Path) -> OnnxArtifact:
    return affine_graph(tmp_path / "affine.onnx")


@pytest.fixture
def quantized(tmp_path: Path) -> OnnxArtifact:
    return saturating_graph(tmp_path / "quantized.onnx")


def test_the_registry_gives_a_runtime_that_also_compiles_and_times_operators() -> None:
    backend = registry.create("openvino", threads=1)
    assert isinstance(backend, Runtime)
    assert isinstance(backend, Compiler)
    assert isinstance(backend, LayerTimer)


def test_a_graph_gives_its_known_answers_at_several_shapes(affine: OnnxArtifact) -> None:
    with OpenVino(threads=1).open(affine) as runner:
        assert isinstance(runner, Runner)
        for shape in ((1, 3), (4, 5)):
            x = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
            outputs = runner.run({"x": x})
            np.testing.assert_allclose(outputs["y"], 2 * x + 1)
            np.testing.assert_allclose(outputs["total"], x.sum(axis=1))


def test_a_batch_that_does_not_fit_is_refused(affine: OnnxArtifact) -> None:
    with OpenVino().open(affine) as runner, pytest.raises(DataError, match="Input 'x'"):
        runner.run({"x": np.zeros((1, 2), np.float64)})


def test_a_float_graph_is_computed_in_float32_even_where_bfloat16_is_faster(affine: OnnxArtifact) -> None:
    x = np.full((1, 4), 1 + 2**-12, np.float32)  # bfloat16 would round this to 1
    with OpenVino(threads=1).open(affine) as runner:
        np.testing.assert_array_equal(runner.run({"x": x})["y"], 2 * x + 1)
        assert isinstance(runner, Noted)
        assert runner.notes == ()


def test_int8_without_vnni_is_computed_exactly_and_said_so(quantized: OnnxArtifact) -> None:
    with OpenVino(threads=1, cpu=WITHOUT_VNNI).open(quantized) as runner:
        assert isinstance(runner, Noted)
        assert "no VNNI" in runner.notes[0]
        np.testing.assert_allclose(np.abs(runner.run({"x": ONES})["y"]), 64, rtol=0.01)


def test_int8_with_vnni_uses_its_kernels_and_says_so(quantized: OnnxArtifact) -> None:
    with warnings.catch_warnings(), OpenVino(cpu=WITH_VNNI).open(quantized) as runner:
        assert isinstance(runner, Noted)
        assert "avx512_vnni" in runner.notes[0]


def test_asking_for_overflowing_kernels_warns(quantized: OnnxArtifact) -> None:
    backend = OpenVino(threads=1, int8=Int8Mode.FAST, cpu=WITHOUT_VNNI)
    with ExitStack() as stack:
        with pytest.warns(RuntimeWarning, match="overflow silently"):
            runner = stack.enter_context(backend.open(quantized))
        assert isinstance(runner, Noted)
        assert "overflow" in runner.notes[0]


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no emulated CPU without VNNI: apt install qemu-user")
def test_on_an_emulated_cpu_without_vnni_only_the_exact_mode_gives_the_answer_of_the_graph(
    quantized: OnnxArtifact,
) -> None:
    script = """if True:
        import json, sys, warnings
        import numpy as np
        from pathlib import Path
        from linglos_deploy.artifacts import open_onnx
        from linglos_deploy.backends.cpu import CpuFeatures
        from linglos_deploy.backends.compilers.openvino import OpenVino
        warnings.simplefilter("ignore")
        cpu, found = CpuFeatures("emulated", "x86_64", ("avx2",)), {}
        for mode in ("exact", "fast"):
            with OpenVino(threads=1, int8=mode, cpu=cpu).open(open_onnx(Path(sys.argv[1]))) as runner:
                found[mode] = float(np.abs(runner.run({"x": np.ones((2, 64, 4, 4), np.float32)})["y"]).mean())
        print(json.dumps(found))"""
    command = ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", script, str(quantized.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    assert found["exact"] == pytest.approx(64, rel=0.01)
    assert abs(found["fast"] - 64) > 5


def test_a_blob_answers_like_its_graph_and_tells_its_story(affine: OnnxArtifact, tmp_path: Path) -> None:
    backend = OpenVino(threads=1)
    engine = backend.compile(affine, widths(2, 6), out=tmp_path / "affine.openvino.blob")
    assert open_engine(engine.path) == engine
    assert engine.lineage[-1].stage == "build"
    assert engine.lineage[-1].inputs == {"onnx": affine.digest}
    with backend.open(engine) as runner:
        x = np.ones((3, 4), np.float32)
        np.testing.assert_array_equal(runner.run({"x": x})["y"], 3 * x)


def test_a_blob_takes_no_shape_beyond_its_profiles(affine: OnnxArtifact, tmp_path: Path) -> None:
    engine = OpenVino().compile(affine, widths(2, 6), out=tmp_path / "affine.blob")
    with OpenVino().open(engine) as runner, pytest.raises(RunError, match="OpenVINO failed"):
        runner.run({"x": np.ones((1, 9), np.float32)})


def test_a_blob_remembers_how_its_int8_kernels_were_chosen(quantized: OnnxArtifact, tmp_path: Path) -> None:
    spec = BuildSpec(({"x": ShapeRange((1, 64, 4, 4), (1, 64, 4, 4), (2, 64, 4, 4))},))
    fast = OpenVino(int8=Int8Mode.FAST, cpu=WITHOUT_VNNI).compile(quantized, spec, out=tmp_path / "fast.blob")
    with pytest.warns(RuntimeWarning, match="overflow silently"), OpenVino(cpu=WITHOUT_VNNI).open(fast):
        pass


def test_a_damaged_blob_is_refused(affine: OnnxArtifact, tmp_path: Path) -> None:
    engine = OpenVino().compile(affine, widths(2, 6), out=tmp_path / "affine.blob")
    data = engine.path.read_bytes()
    engine.path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="changed since it was built"), OpenVino().open(engine):
        pass
    engine.path.unlink()
    with pytest.raises(ArtifactError, match="missing"), OpenVino().open(engine):
        pass


def test_a_blob_of_another_openvino_or_cpu_is_refused_with_the_reason(affine: OnnxArtifact, tmp_path: Path) -> None:
    engine = OpenVino(cpu=WITH_VNNI).compile(affine, widths(2, 6), out=tmp_path / "affine.engine")
    with (
        pytest.raises(ArtifactError, match=r"instructions: .*lacks avx512_vnni"),
        OpenVino(cpu=WITHOUT_VNNI).open(engine),
    ):
        pass
    record = read_record(engine.path)
    write_json(replace(record, version="2031.1"), sidecar_path(engine.path))
    with pytest.raises(ArtifactError, match=r"version: .*2031\.1") as caught, OpenVino(cpu=WITH_VNNI).open(engine):
        pass
    assert "--engine openvino --shape x=1x2:1x2:4x6" in str(caught.value.next_step)


def test_junk_that_has_a_sidecar_is_an_error_of_ours(affine: OnnxArtifact, tmp_path: Path) -> None:
    engine = OpenVino().compile(affine, widths(2, 6), out=tmp_path / "affine.engine")
    engine.path.write_bytes(b"not a blob")
    record = replace(read_record(engine.path), digest=sha256_file(engine.path), bytes=10)
    write_json(record, sidecar_path(engine.path))
    with pytest.raises(ArtifactError, match="does not load here"), OpenVino().open(engine):
        pass


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"workspace_bytes": 1 << 20}, "--workspace"),
        ({"tf32": True}, "--tf32"),
        ({"strip_weights": True}, "--strip-weights"),
    ],
)
def test_what_openvino_does_not_offer_is_refused(
    affine: OnnxArtifact, tmp_path: Path, change: dict[str, Any], option: str
) -> None:
    with pytest.raises(UsageError, match=option):
        OpenVino().compile(affine, replace(widths(2, 6), **change), out=tmp_path / "a.engine")


def test_a_second_build_of_a_blob_comes_from_the_cache(affine: OnnxArtifact, tmp_path: Path) -> None:
    backend = OpenVino(cache_dir=tmp_path / "cache")
    first = backend.compile(affine, widths(2, 6), out=tmp_path / "a.engine")
    again = backend.compile(affine, widths(2, 6), out=tmp_path / "b.engine")
    assert (again.digest, again.lineage) == (first.digest, first.lineage)
    assert len(list((tmp_path / "cache" / "engines").iterdir())) == 1
    other = OpenVino(cache_dir=tmp_path / "cache", cpu=WITHOUT_VNNI)
    other.compile(affine, widths(2, 6), out=tmp_path / "c.engine")
    assert len(list((tmp_path / "cache" / "engines").iterdir())) == 2, "another CPU is another blob"


def test_engines_of_other_backends_and_gpus_are_refused(affine: OnnxArtifact) -> None:
    engine = EngineArtifact(affine.path, affine.signature, affine.digest, "tensorrt", {})
    with pytest.raises(ArtifactError, match="an engine of 'tensorrt'"), OpenVino().open(engine):
        pass
    with pytest.raises(MissingDependencyError, match="CPU only"), OpenVino().open(affine, device=Device("cuda")):
        pass


def test_files_that_are_no_graphs_are_refused(affine: OnnxArtifact, tmp_path: Path) -> None:
    missing = replace(affine, path=tmp_path / "missing.onnx")
    with pytest.raises(ArtifactError, match="no such file"), OpenVino().open(missing):
        pass
    (tmp_path / "damaged.onnx").write_bytes(affine.path.read_bytes()[:40])
    with (
        pytest.raises(ArtifactError, match="cannot read"),
        OpenVino().open(replace(affine, path=tmp_path / "damaged.onnx")),
    ):
        pass


def test_impossible_shapes_are_a_build_error_and_leave_no_file(quantized: OnnxArtifact, tmp_path: Path) -> None:
    spec = BuildSpec(({"x": ShapeRange((1, 63, 4, 4), (1, 63, 4, 4), (1, 63, 4, 4))},))
    out = tmp_path / "out"
    with pytest.raises(BuildError, match="cannot compile"):
        OpenVino().compile(quantized, spec, out=out / "q.blob")
    assert not out.exists() or not any(out.iterdir())


def test_layer_times_name_the_layers_of_the_graph(quantized: OnnxArtifact) -> None:
    found = OpenVino(threads=1).layer_times(quantized, {"x": ONES}, runs=2)
    assert found is not None
    assert any("Convolution" in entry.operator for entry in found.layers)
    assert sum(entry.share for entry in found.layers) == pytest.approx(1)


def test_negative_threads_are_refused() -> None:
    with pytest.raises(UsageError, match="negative"):
        OpenVino(threads=-1)


def test_probing_is_quick_and_imports_no_openvino() -> None:
    script = (
        "import sys; from linglos_deploy.backends import registry; found = registry.probe('openvino'); "
        "assert 'openvino' not in sys.modules and found.runs and found.compiles; print(found.version)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_probing_says_what_int8_does_on_this_cpu() -> None:
    assert "no VNNI" in OpenVino(cpu=WITHOUT_VNNI).probe().detail
    assert "avx512_vnni" in OpenVino(cpu=WITH_VNNI).probe().detail


def test_without_openvino_the_probe_and_the_error_say_how_to_get_it(
    affine: OnnxArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = OpenVino().probe()
    assert not found.installed
    assert "pip install" in found.how_to_get
    with pytest.raises(MissingDependencyError, match="pip install"), OpenVino().open(affine):
        pass
