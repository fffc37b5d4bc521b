"""A recording stand-in of a TensorRT release: it has the names of that release, no others, and computes nothing.

Reading or setting a name that the release lacks raises AttributeError, as the real module does. What is called is
recorded as ``Class.name``.
"""

from __future__ import annotations

import ctypes
import enum
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from linglos_deploy.artifacts import onnx_signature

SURFACES = Path(__file__).parent / "surfaces"
RELEASES = tuple(sorted(path.stem.removeprefix("tensorrt-") for path in SURFACES.glob("tensorrt-*.json")))
WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
LAYERS = {
    "10": {
        "Layers": [
            {
                "Name": "head.fc/MatMul",
                "LayerType": "gemm",
                "Inputs": [{"Name": "image", "Format/Datatype": "Row major linear FP32"}],
                "Outputs": [{"Name": "logits", "Format/Datatype": "Row major linear FP32"}],
            }
        ],
        "Bindings": ["image", "logits"],
    },
    "11": {
        "Layers": [
            {
                "Name": "head.fc/MatMul",
                "LayerType": "gemm",
                "Inputs": [{"Name": "image", "Format": "Row major linear", "DataType": "Float"}],
                "Outputs": [{"Name": "logits", "Format": "Row major linear", "DataType": "Float"}],
            }
        ],
        "I/O Tensors": [{"Name": "image"}, {"Name": "logits"}],
    },
}


def make_standin(release: str) -> Any:
    """Return a module-like object with the surface of ``release``, such as ``"10.3"``."""
    surface = json.loads((SURFACES / f"tensorrt-{release}.json").read_text())
    classes = {name: frozenset(text.split()) for name, text in surface["classes"].items()}
    enums = {name: tuple(text.split()) for name, text in surface["enums"].items()}
    return _make("tensorrt", surface["version"], classes, enums)


def make_rtx_standin(rtx: Any) -> Any:
    """Return a module-like object with the surface of the installed TensorRT-RTX."""
    classes = {
        name: frozenset(attribute for attribute in dir(getattr(rtx, name)) if not attribute.startswith("_"))
        for name in (*_CLASSES, "IRuntimeConfig", "IRuntimeCache")
    }
    enums = {name: tuple(getattr(rtx, name).__members__) for name in dir(rtx) if _is_enum(getattr(rtx, name))}
    return _make("tensorrt_rtx", rtx.__version__, classes, enums)


_CLASSES = (
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "OnnxParser",
    "IOptimizationProfile",
    "ITensor",
    "Runtime",
    "ICudaEngine",
    "IExecutionContext",
    "EngineInspector",
    "ITimingCache",
    "Refitter",
    "OnnxParserRefitter",
)


def _is_enum(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "__members__")


def _make(name: str, version: str, classes: dict[str, frozenset[str]], enums: dict[str, tuple[str, ...]]) -> Any:
    calls: list[str] = []
    module = SimpleNamespace(
        __name__=name, __version__=version, calls=calls, magic=b"vtrt" if "rtx" in name else b"ftrt"
    )
    for enum_name, members in enums.items():
        setattr(module, enum_name, enum.IntEnum(enum_name, {member: index for index, member in enumerate(members)}))
    for base in ("ILogger", "IProgressMonitor", "IProfiler"):
        setattr(module, base, _callback_class(base))
    behaviour = _behaviour(module, classes, calls)
    for constructor in ("Builder", "OnnxParser", "Runtime", "Refitter", "OnnxParserRefitter"):
        setattr(module, constructor, _constructor(constructor, behaviour))
    return module


class Strict:
    """An object with the names of one class of the surface."""

    def __init__(self, kind: str, names: frozenset[str], calls: list[str], **values: Any) -> None:
        unknown = set(values) - names
        assert not unknown, f"the stand-in gives {kind} names that the release lacks: {unknown}"
        self.__dict__.update(_kind=kind, _names=names, _calls=calls, _values=values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._names:
            raise AttributeError(f"'{self._kind}' object has no attribute '{name}'")
        self._calls.append(f"{self._kind}.{name}")
        return self._values.get(name, lambda *_args: None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._names:
            raise AttributeError(f"'{self._kind}' object has no attribute '{name}'")
        self._calls.append(f"{self._kind}.{name}=")
        self._values[name] = value


def _callback_class(name: str) -> type:
    return type(name, (), {"__init__": lambda self: None})


def _constructor(name: str, behaviour: Any) -> Any:
    return lambda *arguments: behaviour[name](*arguments)


def _behaviour(module: Any, names: dict[str, frozenset[str]], calls: list[str]) -> dict[str, Any]:
    """Just enough behaviour for our functions to run from end to end."""

    def strict(kind: str, **values: Any) -> Strict:
        return Strict(kind, names[kind], calls, **values)

    def builder(_logger: Any) -> Strict:
        calls.append("Builder")
        return strict(
            "Builder",
            create_network=network,
            create_builder_config=config,
            create_optimization_profile=lambda: strict("IOptimizationProfile"),
            build_serialized_network=build,
        )

    def network(_flags: int) -> Strict:
        tensors: dict[str, list[Strict]] = {"inputs": [], "outputs": []}
        made = strict(
            "INetworkDefinition",
            get_input=lambda index: tensors["inputs"][index],
            get_output=lambda index: tensors["outputs"][index],
            num_inputs=0,
            num_outputs=0,
        )
        made.__dict__["tensors"] = tensors
        return made

    def config() -> Strict:
        flags: set[Any] = {module.BuilderFlag.TF32}
        made = strict(
            "IBuilderConfig",
            set_flag=flags.add,
            clear_flag=flags.discard,
            get_flag=flags.__contains__,
            add_optimization_profile=lambda _profile: 0,
            create_timing_cache=lambda blob: timing_cache(bytes(blob)),
            set_timing_cache=lambda _cache, _ignore: True,
        )
        made.__dict__["flags_on"] = flags
        return made

    def timing_cache(blob: bytes) -> Strict:
        state = {"blob": blob}

        def combine(other: Strict, _ignore: bool) -> bool:
            state["blob"] += other.serialize()
            return True

        return strict("ITimingCache", combine=combine, serialize=lambda: state["blob"] + b"timing;")

    def parser(net: Strict, _logger: Any) -> Strict:
        calls.append("OnnxParser")

        def parse_from_file(path: str) -> bool:
            signature = onnx_signature(onnx.load(path))
            types = {"float32": "FLOAT", "float16": "HALF"}
            for kind, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
                net.tensors[kind] += [
                    strict("ITensor", name=spec.name, dtype=module.DataType[types[spec.dtype]]) for spec in specs
                ]
                net._values[f"num_{kind}"] = len(specs)
            return True

        return strict("OnnxParser", parse_from_file=parse_from_file, num_errors=0)

    def build(_network: Strict, builder_config: Strict) -> bytes | None:
        monitor = builder_config._values["progress_monitor"]
        monitor.phase_start("Building engine", None, 2)
        for step in range(2):
            if not monitor.step_complete("Building engine", step):
                return None
        monitor.phase_finish("Building engine")
        return bytes(module.magic) + b"plan"

    def runtime(_logger: Any) -> Strict:
        calls.append("Runtime")
        more = {}
        if "get_engine_validity" in names["Runtime"]:
            more["get_engine_validity"] = lambda _data: module.validity
        return strict(
            "Runtime",
            deserialize_cuda_engine=lambda data: engine() if data.startswith(module.magic) else None,
            **more,
        )

    def runtime_config() -> Strict:
        module.config = strict("IRuntimeConfig", create_runtime_cache=runtime_cache)
        return module.config

    def runtime_cache() -> Strict:
        state = {"blob": b""}
        return strict(
            "IRuntimeCache",
            deserialize=lambda blob: state.update(blob=bytes(blob)),
            serialize=lambda: state["blob"] + b"kernel;",
        )

    def engine() -> Strict:
        more = {"create_runtime_config": runtime_config} if "IRuntimeCache" in names else {}
        return strict(
            "ICudaEngine",
            **more,
            create_execution_context=context,
            create_engine_inspector=lambda: strict(
                "EngineInspector",
                get_engine_information=lambda _format: json.dumps(
                    LAYERS["10" if module.__version__.startswith("10.") else "11"]
                ),
            ),
        )

    def context(*_config: Strict) -> Strict:
        shapes: dict[str, tuple[int, ...]] = {}
        addresses: dict[str, int] = {}

        def set_input_shape(name: str, shape: tuple[int, ...]) -> bool:
            shapes[name] = shape
            return True

        def set_tensor_address(name: str, address: int) -> bool:
            addresses[name] = address
            return True

        def execute_async_v3(_stream: int) -> bool:
            rows = shapes["image"][0]
            image = np.frombuffer((ctypes.c_uint8 * (rows * 16)).from_address(addresses["image"]), np.float32)
            logits = np.frombuffer((ctypes.c_uint8 * (rows * 12)).from_address(addresses["logits"]), np.float32)
            logits.reshape(rows, 3)[...] = image.reshape(rows, 4) @ WEIGHT
            profiler = made._values.get("profiler")
            if profiler is not None:
                profiler.report_layer_time("head.fc/MatMul", 0.5)
            return True

        made = strict(
            "IExecutionContext",
            set_input_shape=set_input_shape,
            set_tensor_address=set_tensor_address,
            execute_async_v3=execute_async_v3,
            set_optimization_profile_async=lambda _profile, _stream: True,
            get_tensor_shape=lambda _name: (shapes["image"][0], 3),
        )
        return made

    return {
        "Builder": builder,
        "OnnxParser": parser,
        "Runtime": runtime,
        "Refitter": lambda _engine, _logger: strict("Refitter", refit_cuda_engine=lambda: True),
        "OnnxParserRefitter": lambda _refitter, _logger: strict(
            "OnnxParserRefitter", refit_from_file=lambda _path: True
        ),
    }
