"""Containers of other runtimes, read back with their own schema as far as there is one. None has run on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from linglos_deploy.artifacts import OnnxArtifact
from linglos_deploy.engines.containers import CONTAINERS, find_containers
from linglos_deploy.engines.containers.epcontext import write_epcontext
from linglos_deploy.engines.containers.triton import write_triton
from linglos_deploy.engines.record import SCHEMA, UNKNOWN, EngineRecord, Target
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import UsageError
from linglos_deploy.files import sha256_bytes
from linglos_deploy.signature import ModelSignature, TensorSpec, unnamed
from tests.backends.trt.trt_graphs import save_linear
from tests.commandline import enter, run

PLAN = b"ftrt" + bytes(range(64))
FIELD = descriptor_pb2.FieldDescriptorProto


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "m.engine").write_bytes(PLAN)
    return tmp_path / "m.engine"


@pytest.fixture
def record(linear: OnnxArtifact, spec: BuildSpec) -> EngineRecord:
    return EngineRecord(
        schema=SCHEMA,
        backend="tensorrt",
        version="10.16.1.11",
        digest=sha256_bytes(PLAN),
        bytes=len(PLAN),
        onnx_digest=linear.digest,
        onnx_name="model.int8.onnx",
        target=Target(("8.9",)),
        spec=spec,
        flags=(),
        strongly_typed=True,
        host_code=False,
        precision=UNKNOWN,
        signature=linear.signature,
        lineage=(),
    )


def read_config(text: str) -> Any:
    """Parse a model configuration; the fields are those of the server's published ``ModelConfig`` that we write."""
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")
    kinds = ("TYPE_FP32", "TYPE_FP16", "TYPE_BF16", "TYPE_INT8", "TYPE_UINT8", "TYPE_INT32", "TYPE_INT64", "TYPE_BOOL")
    types = file.enum_type.add(name="DataType")
    types.value.add(name="TYPE_INVALID", number=0)
    for number, name in enumerate(kinds, 1):
        types.value.add(name=name, number=number)
    kind = file.enum_type.add(name="Kind")
    kind.value.add(name="KIND_AUTO", number=0)
    kind.value.add(name="KIND_GPU", number=1)
    messages: dict[str, list[tuple[str, int, bool, str]]] = {
        "Tensor": [
            ("name", FIELD.TYPE_STRING, False, ""),
            ("data_type", FIELD.TYPE_ENUM, False, ".t.DataType"),
            ("dims", FIELD.TYPE_INT64, True, ""),
        ],
        "Group": [("kind", FIELD.TYPE_ENUM, False, ".t.Kind"), ("profile", FIELD.TYPE_STRING, True, "")],
        "Pair": [("key", FIELD.TYPE_STRING, False, ""), ("value", FIELD.TYPE_STRING, False, "")],
        "Config": [
            ("name", FIELD.TYPE_STRING, False, ""),
            ("platform", FIELD.TYPE_STRING, False, ""),
            ("max_batch_size", FIELD.TYPE_INT32, False, ""),
            ("input", FIELD.TYPE_MESSAGE, True, ".t.Tensor"),
            ("output", FIELD.TYPE_MESSAGE, True, ".t.Tensor"),
            ("instance_group", FIELD.TYPE_MESSAGE, True, ".t.Group"),
            ("cc_model_filenames", FIELD.TYPE_MESSAGE, True, ".t.Pair"),
        ],
    }
    for message, fields in messages.items():
        made = file.message_type.add(name=message)
        for number, (name, type_, repeated, of) in enumerate(fields, 1):
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            made.field.add(name=name, number=number, type=type_, label=label, type_name=of or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return text_format.Parse(text, message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Config"))())


def test_a_triton_repository_names_the_plan_for_its_gpu_and_no_default(
    plan: Path, record: EngineRecord, tmp_path: Path
) -> None:
    write_triton(plan, replace(record, spec=replace(record.spec, profiles=record.spec.profiles * 2)), tmp_path / "r")
    model = tmp_path / "r" / "model_int8"
    assert [file.name for file in (model / "1").iterdir()] == ["model.sm89.plan"], "no model.plan for other GPUs"
    assert (model / "1" / "model.sm89.plan").read_bytes() == PLAN
    config = read_config((model / "config.pbtxt").read_text())
    assert (config.name, config.platform, config.max_batch_size) == ("model_int8", "tensorrt_plan", 0)
    assert [(it.name, it.data_type, list(it.dims)) for it in config.input] == [("image", 1, [-1, 4])]
    assert [(it.name, it.data_type, list(it.dims)) for it in config.output] == [("logits", 1, [-1, 3])]
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert [(pair.key, pair.value) for pair in config.cc_model_filenames] == [("8.9", "model.sm89.plan")]


def test_an_engine_for_later_gpus_is_listed_for_each_that_is_known(
    plan: Path, record: EngineRecord, tmp_path: Path
) -> None:
    write_triton(plan, replace(record, target=Target(minimum_compute_capability="8.9")), tmp_path / "r")
    config = read_config((tmp_path / "r" / "model_int8" / "config.pbtxt").read_text())
    listed = [pair.key for pair in config.cc_model_filenames]
    assert listed[:2] == ["8.9", "9.0"]
    assert "12.0" in listed
    assert not {"7.5", "8.0", "8.6"} & set(listed)


@pytest.mark.parametrize("tensor", [TensorSpec("x", "float64", (1,)), TensorSpec("x", "float32", ())])
def test_what_triton_has_no_words_for_is_refused(
    plan: Path, record: EngineRecord, tmp_path: Path, tensor: TensorSpec
) -> None:
    odd = replace(record, signature=ModelSignature((tensor,), record.signature.outputs))
    with pytest.raises(UsageError, match="takes no tensor like 'x'"):
        write_triton(plan, odd, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("limit", [1 << 30, 8])
def test_an_epcontext_file_holds_the_plan_and_the_graphs_inputs_and_outputs(
    plan: Path, record: EngineRecord, tmp_path: Path, limit: int
) -> None:
    inputs = (*record.signature.inputs, TensorSpec("ids", "int64", (unnamed("ids", 0), 7)))
    (tmp_path / "c").mkdir()
    changed = replace(record, signature=ModelSignature(inputs, record.signature.outputs))
    write_epcontext(plan, changed, tmp_path / "c", embedded_bytes=limit)
    model = onnx.load(tmp_path / "c" / "model_int8_ctx.onnx")
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    attributes = {it.name: onnx.helper.get_attribute_value(it) for it in node.attribute}
    assert (node.domain, node.op_type) == ("com.microsoft", "EPContext")
    assert (list(node.input), list(node.output)) == (["image", "ids"], ["logits"])
    assert attributes["source"] == b"NvTensorRTRTXExecutionProvider"
    assert attributes["main_context"] == 1
    shapes = [[dim.dim_param or dim.dim_value for dim in it.type.tensor_type.shape.dim] for it in model.graph.input]
    assert shapes == [["batch", 4], [0, 7]]
    if limit > len(PLAN):
        assert (attributes["embed_mode"], attributes["ep_cache_context"]) == (1, PLAN)
    else:
        assert (attributes["embed_mode"], attributes["ep_cache_context"]) == (0, b"model_int8_ctx.engine")
        assert (tmp_path / "c" / "model_int8_ctx.engine").read_bytes() == PLAN


def test_onnx_runtime_knows_the_node_and_says_that_its_provider_is_missing(
    plan: Path, record: EngineRecord, tmp_path: Path
) -> None:
    import onnxruntime

    (tmp_path / "c").mkdir()
    write_epcontext(plan, record, tmp_path / "c")
    with pytest.raises(Exception, match="EPContext"):
        onnxruntime.InferenceSession(tmp_path / "c" / "model_int8_ctx.onnx", providers=["CPUExecutionProvider"])


def test_containers_are_found_by_name_once() -> None:
    assert find_containers(["triton", "epcontext", "triton"]) == (CONTAINERS["triton"], CONTAINERS["epcontext"])
    with pytest.raises(UsageError, match="no container 'docker'"):
        find_containers(["docker"])


def test_build_writes_the_containers_that_read_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'linglos-deploy[tensorrt-rtx]'")
    save_linear(tmp_path)
    here = enter(tmp_path, monkeypatch)
    rtx = ("build", "model.onnx", "--engine", "tensorrt-rtx", "-o", "out")
    run(*rtx, "--container", "triton").explain(2, "Triton Inference Server does not read these engines")
    run(*rtx, "--container", "docker").expect(2, "no container 'docker'")
    assert not (here / "out").exists()
    outcome = run(*rtx, "--container", "epcontext", "--json").expect(0, "has not been run yet").json[0]
    (name,) = outcome["containers"]
    (node,) = onnx.load(here / "out" / name / "model_ctx.onnx").graph.node
    embedded = next(it.s for it in node.attribute if it.name == "ep_cache_context")
    assert embedded == (here / "out" / outcome["file"]).read_bytes()
    assert np.frombuffer(embedded[:4], "S4")[0] == b"vtrt"
