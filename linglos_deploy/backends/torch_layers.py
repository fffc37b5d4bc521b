"""Where the time of a PyTorch model goes: ``torch.profiler``, with a mark around every module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from linglos_deploy.backends.layers import Executed, layer_profile, timed
from linglos_deploy.reports.profile import LayerProfile

if TYPE_CHECKING:
    import torch

MARK = "module:"


def torch_layers(module: torch.nn.Module, run: Callable[[], object], *, runs: int) -> LayerProfile:
    """Run a module ``runs`` times under the profiler.

    Args:
        module: What runs.
        run: Runs it once.
        runs: How often.

    Returns:
        The time that each operator itself took, without those that it calls, in the order in which they began.
    """
    from torch.profiler import ProfilerActivity, profile

    steps, latencies = [], []
    with _marked(module):
        run()
        for _ in range(runs):
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                latencies.append(timed(run))
            steps.append(_operators(profiler.events()))
    return layer_profile(steps, latencies)


@contextmanager
def _marked(module: torch.nn.Module) -> Iterator[None]:
    """Let every module say when it begins and ends."""
    import torch

    open_marks: list[Any] = []

    def begin(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            mark = torch.profiler.record_function(f"{MARK}{name}")
            mark.__enter__()  # type: ignore[no-untyped-call]
            open_marks.append(mark)

        return hook

    def end(*_: object) -> None:
        open_marks.pop().__exit__(None, None, None)

    hooks = []
    for name, part in module.named_modules():
        hooks += [part.register_forward_pre_hook(begin(name)), part.register_forward_hook(end)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _operators(events: Any) -> list[Executed]:
    found = []
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.name.startswith("aten::") and event.self_cpu_time_total > 0:
            module, above = "", event.cpu_parent
            while above is not None and not above.name.startswith(MARK):
                above = above.cpu_parent
            if above is not None:
                module = above.name.removeprefix(MARK)
            operator = event.name.removeprefix("aten::")
            milliseconds = event.self_cpu_time_total / 1e3
            found.append(Executed(f"{module}/{operator}".lstrip("/"), operator, "", milliseconds, module))
    return found
