"""A recording stand-in of a TensorRT release: it has the names of that release, no others, and runs one linear layer.

Reading or setting a name that the release lacks raises AttributeError, as the real module does. What is called is
recorded as ``Class.name``. Its contexts put their work on the streams of a played CUDA (``module.cuda``), and are as
particular as real ones: about addresses, shapes, profiles, and what may be recorded.
"""

from __future__ import annotations

import ctypes
import enum
import json
import weakref
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
    module.cuda = None
    module.data_dependent = False  # whether only rows with a positive sum are answered
    module.refuse = set()  # names of methods of a context that answer False
    module.contexts = weakref.WeakSet()
    module.context_limit = 100
    module.budget_limit = 1 << 60
    module.streamable = 9 << 32
    module.executed = []  # (profile, shape) of every enqueue
    for enum_name, members in enums.items():
        setattr(module, enum_name, enum.IntEnum(enum_name, {member: index for index, member in enumerate(members)}))
    for base in ("ILogger", "IProgressMonitor", "IProfiler", "IOutputAllocator"):
        setattr(module, base, _callback_class(base))
    behaviour = _behaviour(module, classes, calls)
    for constructor in ("Builder", "OnnxParser", "Runtime", "Refitter", "OnnxParserRefitter"):
        setattr(module, constructor, _constructor(constructor, behaviour))
    return module


class Strict:
    """An object with the names of one class of the surface; ``keep`` maps a name to what is kept of a value set."""

    def __init__(self, kind: str, names: frozenset[str], calls: list[str], **values: Any) -> None:
        unknown = set(values) - names
        assert not unknown, f"the stand-in gives {kind} names that the release lacks: {unknown}"
        self.__dict__.update(_kind=kind, _names=names, _calls=calls, _values=values, keep={})

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
        self._values[name] = self.keep.get(name, lambda given: given)(value)


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
            create_optimization_profile=optimization_profile,
            build_serialized_network=build,
        )

    def optimization_profile() -> Strict:
        ranges: dict[str, Any] = {}
        made = strict("IOptimizationProfile", set_shape=lambda name, *shapes: ranges.update({name: shapes}))
        made.__dict__["ranges"] = ranges
        return made

    def network(flags: int) -> Strict:
        module.network_flags = flags
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
        profiles: list[Any] = []

        def add_optimization_profile(profile: Strict) -> int:
            profiles.append(profile.ranges)
            return len(profiles) - 1

        made = strict(
            "IBuilderConfig",
            set_flag=flags.add,
            clear_flag=flags.discard,
            get_flag=flags.__contains__,
            add_optimization_profile=add_optimization_profile,
            create_timing_cache=lambda blob: timing_cache(bytes(blob)),
            set_timing_cache=lambda _cache, _ignore: True,
        )
        made.__dict__.update(flags_on=flags, profiles=profiles)
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
        return bytes(module.magic) + b"plan" + json.dumps(builder_config.profiles).encode()

    def deserialize(plan: bytes) -> Strict | None:
        return engine(json.loads(plan[8:])) if plan.startswith(module.magic) else None

    def runtime(_logger: Any) -> Strict:
        calls.append("Runtime")
        more = {}
        if "get_engine_validity" in names["Runtime"]:
            more["get_engine_validity"] = lambda _data: module.validity
        return strict(
            "Runtime",
            deserialize_cuda_engine=deserialize,
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

    def engine(profiles: list[dict[str, Any]]) -> Strict:
        more = {"create_runtime_config": runtime_config} if "IRuntimeCache" in names else {}
        made = strict(
            "ICudaEngine",
            **more,
            create_execution_context=lambda *_config: context(profiles),
            get_weight_streaming_automatic_budget=lambda: 5 << 32,
            streamable_weights_size=module.streamable,
            create_engine_inspector=lambda: strict(
                "EngineInspector",
                get_engine_information=lambda _format: json.dumps(
                    LAYERS["10" if module.__version__.startswith("10.") else "11"]
                ),
            ),
        )
        made.keep["weight_streaming_budget_v2"] = lambda budget: min(budget, module.budget_limit)
        return made

    def context(profiles: list[dict[str, Any]]) -> Strict | None:
        if len(module.contexts) >= module.context_limit:
            return None
        state: dict[str, Any] = {"profile": 0, "shape": None, "settled": None}
        addresses: dict[str, int] = {}
        allocators: dict[str, Any] = {}
        itself: list[Any] = []

        def refused(name: str) -> bool:
            return name in module.refuse

        def set_profile(index: int, _stream: int) -> bool:
            if refused("set_optimization_profile_async") or not 0 <= index < len(profiles):
                return False
            state.update(profile=index, shape=None)
            return True

        def set_input_shape(name: str, shape: tuple[int, ...]) -> bool:
            low, _, high = profiles[state["profile"]][name] if profiles else (shape, shape, shape)
            if refused("set_input_shape") or not all(a <= n <= z for a, n, z in zip(low, shape, high, strict=True)):
                return False
            state["shape"] = tuple(shape)
            return True

        def set_tensor_address(name: str, address: int) -> bool:
            addresses[name] = address
            return not refused("set_tensor_address")

        def set_output_allocator(name: str, allocator: Any) -> bool:
            allocators[name] = allocator
            return True

        def get_tensor_shape(_name: str) -> tuple[int, ...]:
            return (-1, 3) if module.data_dependent else (state["shape"][0], 3)

        def execute_async_v3(stream: int) -> bool:
            cuda, shape = module.cuda, state["shape"]
            module.executed.append((state["profile"], shape))
            ready = {"image", *(() if module.data_dependent else ("logits",))}
            if refused("execute_async_v3") or shape is None or not all(addresses.get(name) for name in ready):
                return False
            recording = cuda.capturing(stream)
            if recording and (state["settled"] != shape or module.data_dependent or refused("recording")):
                cuda.invalidate(stream)
                return False
            state["settled"] = shape
            device, image_at, logits_at = cuda.streams[stream].device, addresses["image"], addresses.get("logits", 0)
            if module.data_dependent:
                if int(cuda.cudaStreamSynchronize(stream)[0]) != 0:
                    return False
                found = compute(cuda.block(image_at, shape[0] * 16, device=device))
                kept = found[found.sum(axis=1) > 0]
                size = kept.nbytes
                logits_at = allocators["logits"].reallocate_output("logits", logits_at, size, 256)
                allocators["logits"].notify_shape("logits", kept.shape)
                if not logits_at:
                    return False

            def work() -> None:
                answer = compute(cuda.block(image_at, shape[0] * 16, device=device))
                if module.data_dependent:
                    answer = answer[answer.sum(axis=1) > 0]
                if recording and state["shape"] != shape:
                    answer = np.full_like(answer, np.nan)  # the scratch memory of the recording means other things now
                into = cuda.block(logits_at, answer.nbytes, device=device)
                ctypes.memmove(into, np.ascontiguousarray(answer).ctypes.data, answer.nbytes)
                cuda.kernels += 1
                held = itself[0]()  # no circle: a context that is dropped is gone at once
                profiler = held and held._values.get("profiler")
                if profiler is not None:
                    profiler.report_layer_time("head.fc/MatMul", 0.5)

            return int(cuda.enqueue(stream, work)) == 0

        made = strict(
            "IExecutionContext",
            set_input_shape=set_input_shape,
            set_tensor_address=set_tensor_address,
            set_output_allocator=set_output_allocator,
            execute_async_v3=execute_async_v3,
            set_optimization_profile_async=set_profile,
            get_tensor_shape=get_tensor_shape,
        )
        itself.append(weakref.ref(made))
        module.contexts.add(made)
        return made

    def compute(image: Any) -> Any:
        return np.frombuffer(bytes(image), np.float32).reshape(-1, 4) @ WEIGHT

    return {
        "Builder": builder,
        "OnnxParser": parser,
        "Runtime": runtime,
        "Refitter": lambda _engine, _logger: strict("Refitter", refit_cuda_engine=lambda: True),
        "OnnxParserRefitter": lambda _refitter, _logger: strict(
            "OnnxParserRefitter", refit_from_file=lambda _path: True
        ),
    }
