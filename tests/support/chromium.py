"""A real Chromium without a screen, driven over its DevTools protocol through a pipe: no driver program, no open port.

`async with Chromium() as browser, browser.page() as page: await page.open(url)`. What the page complains about – errors on its
console, exceptions, breaches of its content policy – is in `page.problems`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none, as in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
ANSWER_SECONDS = 60.0  # of the browser, on a busy machine
LOOK_SECONDS = 0.02  # between two looks at the page
MAX_MESSAGE = 64 << 20  # bytes: a screenshot is one message
KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, None),
    "Tab": (9, None),
    "ArrowDown": (40, None),
    "End": (35, None),
    " ": (32, " "),
}
SHIFT = 8


def executable() -> str | None:
    """CHROMIUM names one; else the first that is found."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One browser with a profile of its own, which is thrown away."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}  # by session
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        path = executable()
        assert path is not None, "there is no Chromium: name one with CHROMIUM"
        # The browser reads commands from descriptor 3 and writes to 4, each ended by a NUL.
        self._process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh"),
            *(path, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_MESSAGE,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reading
        self._profile.cleanup()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                message = json.loads((await self._process.stdout.readuntil(b"\0"))[:-1])
                if "id" in message:
                    waiting = self._waiting.pop(message["id"], None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
                elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                    page.told(message["method"], message["params"])
        except asyncio.IncompleteReadError:
            for waiting in self._waiting.values():
                waiting.set_exception(ConnectionError("Chromium has ended"))

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        answer = await asyncio.wait_for(waiting, ANSWER_SECONDS)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    @asynccontextmanager
    async def page(self, **looks: Any) -> AsyncIterator[Page]:
        """A page in a context of its own: no storage is shared with another. `looks` are those of `Page.look`."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        made = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        self._pages[page.session] = page
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.look(**looks)
        try:
            yield page
        finally:
            del self._pages[page.session]
            await self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.session = session
        self.problems: list[str] = []
        self._browser = browser

    def told(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.call(method, self.session, **params)

    async def look(
        self, width: int = 1280, height: int = 800, *, dark: bool = False, still: bool = True, phone: bool = False
    ) -> None:
        """The size of the window and what its reader prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        wanted = [{"name": name, "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=wanted)

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """What an expression is worth in the page."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, expression: str, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait for an expression to be true; its value."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not (value := await self.value(expression)):
            assert loop.time() < end, f"{expression} did not come true; the page shows:\n{await self.shown()}"
            await asyncio.sleep(LOOK_SECONDS)
        return value

    async def shown(self) -> str:
        return str(await self.value("document.body.innerText"))

    async def text(self, selector: str) -> str:
        """What the first such element shows."""
        return str(await self.value(f"document.querySelector({json.dumps(selector)})?.innerText"))

    async def press(self, key: str, *, shift: bool = False) -> None:
        code, text = KEYS[key]
        held = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": SHIFT if shift else 0}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.call("Input.dispatchKeyEvent", **held, **down)
        await self.call("Input.dispatchKeyEvent", **held, type="keyUp")

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """With the mouse, in the middle of the first such element."""
        found = f"document.querySelector({json.dumps(selector)})"
        await self.value(f"{found}.scrollIntoView({{block: 'nearest'}})")
        place = await self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({found}.getBoundingClientRect())"
        )
        at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        await self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    async def screenshot(self, scale: float = 1.0) -> bytes:
        """What the window shows, as PNG."""
        size = await self.value("[innerWidth, innerHeight]")
        clip = {"x": 0, "y": await self.value("scrollY"), "width": size[0], "height": size[1], "scale": scale}
        answer = await self.call("Page.captureScreenshot", format="png", clip=clip)
        return base64.b64decode(answer["data"])
