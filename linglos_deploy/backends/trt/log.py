"""What a builder or a runtime said, kept: its tail goes into error messages, the whole of it beside the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

QUIET = frozenset({"VERBOSE"})


@dataclass(slots=True)
class Log:
    """Collects messages as ``(severity, text)``; ``verbose`` keeps those for the vendor's own engineers too."""

    verbose: bool = False
    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, severity: str, text: str) -> None:
        """Keep one message."""
        if self.verbose or severity not in QUIET:
            self.lines.append((severity, text.rstrip()))

    def errors(self) -> list[str]:
        """Return what was said at severity ERROR or worse, without repetitions."""
        return list(dict.fromkeys(text for severity, text in self.lines if severity.endswith("ERROR")))

    def tail(self, count: int = 8) -> str:
        """Return the last ``count`` messages, one a line."""
        return "\n".join(f"[{severity}] {text}" for severity, text in self.lines[-count:])

    def text(self) -> str:
        """Return everything, one message a line."""
        return "".join(f"[{severity}] {text}\n" for severity, text in self.lines)


def make_logger(module: Any, log: Log) -> Any:
    """Return a logger of the vendor's kind that writes into ``log``; keep it alive as long as what it is given to."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.add(getattr(severity, "name", str(severity)), message)

    return Logger()
