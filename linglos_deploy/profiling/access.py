"""What an engine may need to be opened, beyond its files: a device, its weights, consent to the code in it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linglos_deploy.backends import registry
from linglos_deploy.backends.base import Device
from linglos_deploy.errors import UsageError
from linglos_deploy.profiling.plan import Candidate, OptionValue


@dataclass(frozen=True, slots=True)
class EngineAccess:
    """How engines are opened.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``N``; empty for each backend's default.
        allow_host_code: Whether engines that hold code for the host may be loaded; loading one runs that code.
        weights: ONNX file that engines without weights take them from; ``None`` looks for the graph that each was
            compiled from.
    """

    device: str = ""
    allow_host_code: bool = False
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.device:
            object.__setattr__(self, "device", str(Device.parse(self.device)))

    def candidate(self, backend: str, engine: Path, *, label: str) -> Candidate:
        """Return an engine as a candidate, with the options that its backend knows."""
        return Candidate(backend, engine, label=label, options=self.options_for(backend), device=self.device)

    def options_for(self, backend: str) -> dict[str, OptionValue]:
        """Return those of the options that a backend knows."""
        known = inspect.signature(registry.factory(backend)).parameters
        return {name: value for name, value in self._options().items() if name in known}

    def where(self) -> dict[str, Device]:
        """Return the device as an argument of a runtime's ``open``; nothing leaves it to the backend."""
        return {"device": Device.parse(self.device)} if self.device else {}

    def check_used(self, candidates: Sequence[Candidate]) -> None:
        """Check that something among the candidates has a use for every option that was given.

        Raises:
            UsageError: Nothing has.
        """
        for name in self._options():
            if not any(name in candidate.options for candidate in candidates):
                raise UsageError(
                    f"None of the models has a use for --{name.replace('_', '-')}.",
                    found=", ".join(candidate.label for candidate in candidates),
                    expected="an engine of a compiler that has this option",
                    next_step=f"leave out --{name.replace('_', '-')}",
                )

    def _options(self) -> dict[str, OptionValue]:
        given: dict[str, OptionValue] = {}
        if self.allow_host_code:
            given["allow_host_code"] = True
        if self.weights is not None:
            given["weights"] = str(self.weights.absolute())
        return given
