"""Running engines on a device that forgives nothing; see ``trt_fake_cuda``. The answers are computed, not assumed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linglos_deploy.artifacts import EngineArtifact, OnnxArtifact
from linglos_deploy.backends.base import Device, Noted
from linglos_deploy.backends.trt.backend import Options, TensorRt
from linglos_deploy.backends.trt.cuda import Cuda, Owner, owned
from linglos_deploy.backends.trt.flavour import TENSORRT, TENSORRT_RTX
from linglos_deploy.backends.trt.runner import GRAPHS, RunOptions
from linglos_deploy.engines.profiles import make_profile
from linglos_deploy.engines.spec import BuildSpec
from linglos_deploy.errors import DataError, MissingDependencyError, RunError
from linglos_deploy.reports.doctor import Gpu, Machine
from tests.backends.trt.trt_fake_cuda import FakeCuda
from tests.backends.trt.trt_graphs import save_linear
from tests.backends.trt.trt_standin import WEIGHT, make_rtx_standin, make_standin

MACHINE = Machine(
    system="Linux",
    platform="linux-x86_64",
    python="3.12",
    cpu="cpu",
    cpu_count=2,
    memory_bytes=8 << 30,
    gpus=(Gpu(0, "NVIDIA L4", "8.9", 24 << 30), Gpu(1, "NVIDIA L4", "8.9", 24 << 30)),
    driver="580.65.06",
    cuda="13.0",
)
Build = Callable[..., EngineArtifact]


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(devices=2)


@pytest.fixture
def module(cuda: FakeCuda) -> Any:
    standin = make_standin("11.4")
    standin.cuda = cuda
    return standin


@pytest.fixture
def backend(module: Any, cuda: FakeCuda) -> Callable[..., TensorRt]:
    def make(**run: Any) -> TensorRt:
        return TensorRt(
            TENSORRT,
            Options(cache=False, run=RunOptions(**run)),
            load=lambda _: module,
            load_cuda=lambda: cuda,
            look=lambda: MACHINE,
        )

    return make


@pytest.fixture
def build(backend: Callable[..., TensorRt], module: Any, cuda: FakeCuda, linear: OnnxArtifact, tmp_path: Path) -> Build:
    def make(*batches: tuple[int, int, int], **changes: Any) -> EngineArtifact:
        profiles = tuple(make_profile(linear.signature, {"batch": span}) for span in batches or ((1, 2, 64),))
        spec = replace(BuildSpec(profiles=profiles), **changes)
        engine = backend().compile(linear, spec, out=tmp_path / "m.engine")
        assert cuda.held() == {}
        cuda.calls.clear()
        module.executed.clear()
        cuda.kernels = 0
        return engine

    return make


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def check(runner: Any, count: int, seed: int = 0) -> np.ndarray:
    """Run a batch of its own and compare with the product."""
    batch = rows(count, seed)
    found = runner.run({"image": batch})["logits"]
    np.testing.assert_allclose(found, batch @ WEIGHT, rtol=1e-5)
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
def test_every_answer_is_that_of_its_own_batch(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, graphs: bool
) -> None:
    with backend(cuda_graphs=graphs).open(build()) as runner:
        for seed, count in enumerate((2, 2, 2, 1, 2, 5, 2, 1, 5, 1)):
            check(runner, count, seed)
    assert cuda.held() == {}


def test_answers_are_the_callers_own_even_after_the_runner_is_closed(
    build: Build, backend: Callable[..., TensorRt]
) -> None:
    with backend().open(build()) as runner:
        first = check(runner, 3, seed=1)
        kept = first.copy()
        check(runner, 3, seed=2)
        np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.owndata
    with pytest.raises(RunError, match="closed"):
        runner.run({"image": rows(1)})


def test_a_shape_is_recorded_once_and_then_launched(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, module: Any
) -> None:
    with backend().open(build()) as runner:
        for seed in range(4):
            check(runner, 3, seed)
        assert cuda.calls.count("cudaGraphInstantiate") == 1
        assert cuda.calls.count("cudaGraphLaunch") == 3
        assert cuda.kernels == 4, "one run a batch: the first one plain, a recording runs nothing"
        assert len(module.executed) == 2
        for seed in range(4):
            check(runner, 2, seed)
            check(runner, 3, seed)
        assert cuda.calls.count("cudaGraphInstantiate") == 2, "shapes that take turns are not recorded anew"
    assert cuda.held() == {}


def test_buffers_that_move_take_their_recordings_with_them(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda
) -> None:
    with backend().open(build()) as runner:
        check(runner, 2)
        check(runner, 2, seed=1)
        check(runner, 40)
        check(runner, 2, seed=2)
        check(runner, 2, seed=3)
        assert cuda.calls.count("cudaGraphInstantiate") == 3, "2, 40, and 2 again with the new addresses"
        assert len(cuda.graphs) == 2
    assert cuda.held() == {}


def test_buffers_are_reused_and_grow_only(build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda) -> None:
    with backend(cuda_graphs=False).open(build()) as runner:
        for count in (4, 1, 4, 2):
            check(runner, count)
        assert (cuda.calls.count("cudaMalloc"), cuda.calls.count("cudaHostAlloc")) == (2, 2)
        assert cuda.memory == {"device": 2, "host": 2}


def test_more_shapes_than_are_kept_drop_the_least_recently_used(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, module: Any
) -> None:
    with backend().open(build()) as runner:
        check(runner, 32)
        for count in range(1, GRAPHS):
            check(runner, count)
        check(runner, 32, seed=1)  # used again
        check(runner, 20)
        assert len(cuda.graphs) == len(module.contexts) == GRAPHS
        cuda.calls.clear()
        check(runner, 32, seed=2)
        assert "cudaGraphInstantiate" not in cuda.calls
        check(runner, 1)
        assert "cudaGraphInstantiate" in cuda.calls
    assert cuda.held() == {}


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize("name", ["cudaMalloc", "cudaHostAlloc"])
def test_after_running_out_of_memory_a_smaller_batch_works(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, name: str, graphs: bool
) -> None:
    with backend(cuda_graphs=graphs).open(build()) as runner:
        check(runner, 2)
        for nth in (1, 2):
            cuda.fail_at = {name: nth}
            with pytest.raises(RunError, match=f"{name}: memory"):
                runner.run({"image": rows(60)})
            assert cuda.memory["device"] == cuda.memory["host"] == 2, "nothing of the failed one is held"
            check(runner, 2, seed=nth)
            check(runner, 1, seed=nth)
        check(runner, 60)
    assert cuda.held() == {}


def test_a_device_too_small_for_a_batch_says_so_and_serves_a_smaller_one(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda
) -> None:
    cuda.limit = 1000
    with backend().open(build()) as runner:
        check(runner, 8)
        with pytest.raises(RunError, match="smaller batch"):
            runner.run({"image": rows(64)})
        check(runner, 8, seed=1)
        check(runner, 4, seed=1)


def test_contexts_that_are_kept_make_room_for_a_new_one(
    build: Build, backend: Callable[..., TensorRt], module: Any
) -> None:
    module.context_limit = 2
    with backend().open(build()) as runner:
        for seed, count in enumerate((1, 2, 3, 1, 2, 3)):
            check(runner, count, seed)
        module.context_limit = 0
        with pytest.raises(RunError, match="no execution context"):
            runner.run({"image": rows(9)})


@pytest.mark.parametrize(
    "what", ["recording", "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_a_recording_that_fails_ends_and_leaves_plain_runs_and_their_answers(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, module: Any, what: str
) -> None:
    (cuda.fail if what.startswith("cuda") else module.refuse).add(what)
    if what == "cudaStreamEndCapture":
        cuda.fail_at, cuda.fail = {}, set()
        cuda.cudaStreamEndCapture = _ends_invalid(cuda)  # type: ignore[method-assign]
    with backend().open(build()) as runner:
        for seed in range(3):
            check(runner, 2, seed)
        check(runner, 3)
        assert cuda.calls.count("cudaStreamBeginCapture") == 1, "not tried again"
        assert isinstance(runner, Noted)
        assert runner.notes[0].startswith("not run as a CUDA graph: ")
        assert not any(stream.capture for stream in cuda.streams.values())
    assert cuda.held() == {}


def _ends_invalid(cuda: FakeCuda) -> Callable[[int], Any]:
    """The end of a capture that something invalidated: it fails, and the stream records no longer."""
    end = type(cuda).cudaStreamEndCapture

    def fails(stream: int) -> Any:
        cuda.invalidate(stream)
        return end(cuda, stream)

    return fails


def test_without_a_recording_there_is_no_note(build: Build, backend: Callable[..., TensorRt]) -> None:
    with backend().open(build()) as runner:
        check(runner, 2)
        assert runner.notes == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize(
    "name", ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaSetDevice", "cudaMalloc", "cudaHostAlloc"]
)
def test_every_call_that_fails_is_our_error_and_the_next_batch_is_right(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, name: str, graphs: bool
) -> None:
    engine = build()
    failures = 0
    for nth in range(1, 9):
        with backend(cuda_graphs=graphs).open(engine) as runner:
            cuda.fail_at = {name: nth}
            try:
                check(runner, 2)
                check(runner, 50, seed=1)
            except RunError as error:
                failures += name in str(error)
            cuda.fail_at = {}
            check(runner, 60, seed=nth)  # buffers move, so nothing of the failed run may be under way
            check(runner, 3, seed=nth + 1)
        assert cuda.held() == {}
    assert failures


def test_a_launch_that_fails_is_our_error(build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda) -> None:
    with backend().open(build()) as runner:
        check(runner, 2)
        cuda.fail_at = {"cudaGraphLaunch": 1}
        with pytest.raises(RunError, match="cudaGraphLaunch"):
            runner.run({"image": rows(2)})
        check(runner, 2, seed=1)


@pytest.mark.parametrize("name", ["set_input_shape", "set_tensor_address", "execute_async_v3"])
def test_what_a_context_refuses_is_our_error_and_is_asked_again(
    build: Build, backend: Callable[..., TensorRt], module: Any, name: str
) -> None:
    with backend().open(build()) as runner:
        module.refuse.add(name)
        with pytest.raises(RunError, match="The engine refuses its"):
            runner.run({"image": rows(2)})
        module.refuse.clear()
        check(runner, 2)
        check(runner, 2, seed=1)


def test_the_device_is_selected_on_every_thread_that_runs(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda
) -> None:
    engine = build()
    failed: list[BaseException] = []

    def work(runner: Any, seed: int) -> None:
        try:
            assert cuda.current == 0, "a new thread starts with the first device"
            check(runner, 3, seed)
            assert cuda.current == 1
        except BaseException as error:
            failed.append(error)

    with backend().open(engine, device=Device("cuda", 1)) as runner:
        for seed in range(3):
            thread = threading.Thread(target=work, args=(runner, seed))
            thread.start()
            thread.join()
        cuda.cudaSetDevice(0)  # somebody else's work on this thread
        check(runner, 3, seed=9)
        cuda.cudaSetDevice(0)
    assert failed == []
    assert cuda.held() == {}


def test_runners_of_one_session_have_streams_and_buffers_of_their_own(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda
) -> None:
    with backend().open_session(build()) as session, session.runner() as one, session.runner() as two:
        assert one.stream != two.stream
        check(one, 1)
        check(two, 2)
        check(one, 1, seed=1)
    assert cuda.held() == {}


@pytest.mark.parametrize(
    ("batches", "count", "expected"),
    [
        (((1, 1, 2), (1, 8, 8)), 1, 0),
        (((1, 1, 2), (1, 8, 8)), 7, 1),
        (((1, 1, 2), (1, 8, 8)), 2, 0),
        (((1, 8, 8), (1, 1, 8)), 1, 1),
        (((1, 2, 64), (2, 2, 2)), 2, 1),
        (((1, 64, 64), (1, 4, 8)), 8, 1),
    ],
    ids=["small", "large", "between", "order does not count", "the narrower one", "by ratio"],
)
def test_the_profile_that_fits_best_is_taken(
    build: Build,
    backend: Callable[..., TensorRt],
    module: Any,
    batches: tuple[tuple[int, int, int], ...],
    count: int,
    expected: int,
) -> None:
    with backend().open(build(*batches)) as runner:
        check(runner, count)
        assert {profile for profile, _ in module.executed} == {expected}
        with pytest.raises(DataError, match=r"No profile of the engine covers[\s\S]*image \[65, 4\]"):
            runner.run({"image": rows(65)})


def test_outputs_whose_size_depends_on_the_data_have_the_size_that_the_run_gave_them(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, module: Any
) -> None:
    module.data_dependent = True
    with backend().open(build()) as runner:
        for seed, count in enumerate((3, 60, 3, 60, 1)):
            batch = rows(count, seed)
            expected = batch @ WEIGHT
            found = runner.run({"image": batch})["logits"]
            np.testing.assert_allclose(found, expected[expected.sum(axis=1) > 0], rtol=1e-5)
        none = runner.run({"image": np.zeros((2, 4), np.float32)})["logits"]
        assert none.shape == (0, 3)
        assert "cudaStreamBeginCapture" not in cuda.calls, "such a run cannot be recorded"
    assert cuda.held() == {}


def test_an_output_that_finds_no_room_is_our_error_and_a_smaller_one_works(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda, module: Any
) -> None:
    module.data_dependent = True
    with backend().open(build()) as runner:
        runner.run({"image": np.ones((2, 4), np.float32)})
        cuda.fail_at = {"cudaMalloc": 2}
        with pytest.raises(RunError, match="cudaMalloc: memory"):
            runner.run({"image": np.ones((60, 4), np.float32) @ np.diag(np.float32([1, 1, 1, 5]))})
        found = runner.run({"image": np.ones((3, 4), np.float32)})["logits"]
        assert found.shape[1] == 3


def test_streamed_weights_get_a_budget_of_more_than_32_bits_and_it_is_read_back(
    build: Build, backend: Callable[..., TensorRt], module: Any
) -> None:
    engine = build(weight_streaming=True)
    with backend().open(engine) as runner:
        check(runner, 2)
    module.budget_limit = module.streamable = 1 << 30
    with backend().open(engine) as runner:
        check(runner, 2)  # all weights fit: that is no refusal
    module.budget_limit, module.streamable = 1 << 31, 9 << 32
    with pytest.raises(RunError, match=rf"{1 << 31} bytes[\s\S]*{5 << 32} bytes"), backend().open(engine):
        pass


def test_the_device_is_current_before_anything_is_loaded(cuda: FakeCuda) -> None:
    Cuda(cuda, 1).select()
    assert cuda.current == 1


def test_a_missing_device_is_said(cuda: FakeCuda) -> None:
    with pytest.raises(MissingDependencyError, match="cuda:2"):
        Cuda(cuda, 2).select()


def test_errors_while_closing_never_hide_the_first_one_and_everything_is_tried(
    build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda
) -> None:
    with pytest.raises(ZeroDivisionError) as caught, backend().open(build()) as runner:
        check(runner, 2)
        cuda.fail = {"cudaFree", "cudaStreamSynchronize"}
        raise ZeroDivisionError
    assert any("cudaFree" in note for note in caught.value.__notes__)
    assert cuda.calls.count("cudaFreeHost") == 2
    assert cuda.streams == {}
    assert cuda.graphs == {}


def test_an_error_while_closing_alone_is_raised(build: Build, backend: Callable[..., TensorRt], cuda: FakeCuda) -> None:
    with pytest.raises(RunError, match="cudaStreamSynchronize"), backend().open(build()) as runner:
        check(runner, 2)
        cuda.fail = {"cudaStreamSynchronize"}
    assert cuda.held() == {}


def test_an_owner_gives_back_the_latest_first() -> None:
    order: list[int] = []
    with owned() as owner:
        for number in range(3):
            owner.callback(order.append, number)
    assert order == [2, 1, 0]
    assert not owner.open
    assert Owner().close() == []


@pytest.fixture
def rtx_module(rtx: Any, cuda: FakeCuda) -> Any:
    standin = make_rtx_standin(rtx)
    standin.validity = (standin.EngineValidity.VALID, 0)
    standin.cuda = cuda
    return standin


@pytest.mark.parametrize(("quick_start", "strategy"), [(False, "EAGER"), (True, "LAZY")])
def test_rtx_specializes_its_kernels_before_anything_is_checked_or_measured_unless_asked(
    rtx_module: Any,
    cuda: FakeCuda,
    linear: OnnxArtifact,
    spec: BuildSpec,
    tmp_path: Path,
    quick_start: bool,
    strategy: str,
) -> None:
    backend = TensorRt(
        TENSORRT_RTX,
        Options(run=RunOptions(quick_start=quick_start), cache_dir=tmp_path / "cache"),
        load=lambda _: rtx_module,
        load_cuda=lambda: cuda,
        look=lambda: MACHINE,
    )
    engine = backend.compile(linear, spec, out=tmp_path / "m.engine")
    with backend.open(engine) as runner:
        check(runner, 2)
        config = rtx_module.config
        assert config._values["dynamic_shapes_kernel_specialization_strategy"].name == strategy
        kernels = list((tmp_path / "cache" / "kernels").glob("*.bin"))
    (after,) = (tmp_path / "cache" / "kernels").glob("*.bin")
    assert after not in kernels, "kernels are kept at the end, when all of them are compiled"
    assert len(rtx_module.contexts) == 0


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> EngineArtifact:
    """An engine of one profile, for many runners."""
    folder = tmp_path_factory.mktemp("compiled")
    model = save_linear(folder / "graph")
    cuda, module = FakeCuda(), make_standin("11.4")
    module.cuda = cuda
    backend = TensorRt(
        TENSORRT, Options(cache=False), load=lambda _: module, load_cuda=lambda: cuda, look=lambda: MACHINE
    )
    spec = BuildSpec(profiles=(make_profile(model.signature, {"batch": (1, 2, 64)}),))
    return backend.compile(model, spec, out=folder / "m.engine")


FAILURES = ("", "cudaMalloc", "cudaHostAlloc", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch")
STEPS = st.lists(
    st.tuples(
        st.integers(1, 64),
        st.sampled_from(
            ["", "cudaMalloc", "cudaHostAlloc", "cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch"]
        ),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=12,
)


@given(steps=STEPS, graphs=st.booleans(), limit=st.sampled_from([1200, 1 << 30]), data_dependent=st.booleans())
def test_whatever_fails_and_whichever_sizes_come_every_answer_is_right_or_an_error(
    compiled: EngineArtifact,
    steps: list[tuple[int, str, int]],
    graphs: bool,
    limit: int,
    data_dependent: bool,
) -> None:
    cuda = FakeCuda(limit=limit)
    module = make_standin("11.4")
    module.cuda, module.data_dependent = cuda, data_dependent
    options = Options(cache=False, run=RunOptions(cuda_graphs=graphs))
    backend = TensorRt(TENSORRT, options, load=lambda _: module, load_cuda=lambda: cuda, look=lambda: MACHINE)
    with backend.open(compiled) as runner:
        for seed, (count, name, nth) in enumerate(steps):
            batch = rows(count, seed)
            expected = batch @ WEIGHT
            cuda.fail_at = {name: nth} if name else {}
            try:
                found = runner.run({"image": batch})["logits"]
            except RunError:
                assert name or limit == 1200
            else:
                wanted = expected[expected.sum(axis=1) > 0] if data_dependent else expected
                np.testing.assert_allclose(found, wanted, rtol=1e-5)
        cuda.fail_at = {}
        if not cuda.broken:
            runner.run({"image": rows(1)})
    assert not cuda.broken
    assert cuda.held() == {}
