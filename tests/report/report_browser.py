"""A real headless Chromium over its debugging pipe, for tests of pages; needs no library."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
ENTER = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}


class Browser:
    """A browser with one page.

    Args:
        program: Path of Chromium.
        profile: An empty folder for its profile.
    """

    def __init__(self, program: str, profile: Path) -> None:
        out_read, out_write = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in os.pipe())
        in_read, in_write = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in os.pipe())
        silent = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, silent, fd) for fd in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, in_read, 3), (os.POSIX_SPAWN_DUP2, out_write, 4)]
        arguments = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._pid = os.posix_spawn(
            program, arguments, dict(os.environ), file_actions=actions, setsid=True
        )
        for fd in (in_read, out_write, silent):
            os.close(fd)
        self._in, self._out = in_write, out_read
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command to the page; returns its result."""
        return self._call(method, self._session, **params)

    def _call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(20)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            received = os.read(self._out, 1 << 16)
            if not received:
                raise EOFError("the browser has gone")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, page: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Opens a file at a window's size, and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._load("Page.navigate", url=page.resolve().as_uri())

    def reload(self) -> None:
        """Loads the page again."""
        self._load("Page.reload")

    def _load(self, method: str, **params: Any) -> None:
        before = len(self.events)
        self.call(method, **params)
        while all(e.get("method") != "Page.loadEventFired" for e in self.events[before:]):
            self.events.append(self._receive(20))

    def run(self, script: str) -> Any:
        """Evaluates an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, selector: str) -> None:
        """Clicks with the mouse on the first element that a selector finds."""
        found = json.dumps(selector)
        script = (
            f"(() => {{ const e = document.querySelector({found});"
            "e.scrollIntoView({block: 'center', inline: 'center'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        x, y = self.run(script)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press_enter(self) -> None:
        """Presses the enter key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **ENTER)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Writes a PNG of the page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path) -> None:
        """Prints the page."""
        answer = self.call(
            "Page.printToPDF", printBackground=False, preferCSSPageSize=True, paperWidth=8.27,
            paperHeight=11.69,
        )  # fmt: skip
        path.write_bytes(base64.b64decode(answer["data"]))

    def requests(self) -> list[str]:
        """Returns the addresses of all that was asked for."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[dict[str, Any]]:
        """Returns what stands in the console, errors and violated policies included."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded",
                 "Page.javascriptDialogOpening")  # fmt: skip
        return [event for event in self.events if event.get("method") in kinds]

    def close(self) -> None:
        """Ends the browser and all its processes."""
        for fd in (self._in, self._out):
            os.close(fd)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(20):
                if os.waitpid(self._pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.05)
            os.killpg(self._pid, sign)
        os.waitpid(self._pid, 0)
