"""A page in headless Chromium, spoken to through two pipes: what it logs, what it asks for, how it looks."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

chromium = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(chromium is None, reason="no Chromium; as root, 'make system' installs it")


@dataclass
class Page:
    """An open page.

    Attributes:
        complaints: What was logged as an error or warning, or thrown.
        requests: Every address that was asked for, the page itself first.
    """

    _commands: int
    _answers: int
    _session: str = ""
    _count: int = 0
    _rest: bytes = b""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _loaded: bool = False

    def call(self, method: str, **parameters: Any) -> Any:
        """Send one command of the DevTools protocol and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address: str) -> None:
        """Load a page and wait for it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        while not self._loaded:
            self._next()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 900, *, scale: float = 1) -> None:
        """Make the window so large, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def prefer(self, scheme: str) -> None:
        """Ask for the colours of a ``light`` or ``dark`` page."""
        self.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def print_preview(self) -> None:
        """Show the page as paper would, as wide as the window is."""
        self.call("Emulation.setEmulatedMedia", media="print")

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """Write what the page looks like, all of it or its top."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def leave(self) -> None:
        """Ask the browser to end."""
        os.write(self._commands, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._answers, 1 << 20)
            assert read, "Chromium went away"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        event: dict[str, Any] = json.loads(message)
        self._note(event.get("method", ""), event.get("params", {}))
        return event

    def _note(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith("data:"):
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
            self.complaints.append(str(parameters["args"]))


def end(process: subprocess.Popen[bytes], page: Page) -> None:
    """End a browser, in good order where it can still be asked."""
    try:
        page.leave()
        process.wait(10)
    except (OSError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


@contextmanager
def opened(what: Path | str, *, profile: Path) -> Iterator[Page]:
    """Open a file or an address in a browser of its own, and end the browser afterwards."""
    assert chromium is not None
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()

    def wire() -> None:  # the protocol's pipes are numbers 3 and 4, whatever the numbers were here
        read, write = os.dup(to_browser), os.dup(from_browser)
        os.dup2(read, 3)
        os.dup2(write, 4)

    process = subprocess.Popen(
        [chromium, *OPTIONS, f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=wire,
    )
    os.close(to_browser)
    os.close(from_browser)
    page = Page(commands, answers)
    try:
        page.open(what if isinstance(what, str) else what.resolve().as_uri())
        yield page
    finally:
        end(process, page)
        os.close(commands)
        os.close(answers)
