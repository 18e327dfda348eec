"""A real browser for tests of pages: Chromium without a window, over its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["CHROMIUM", "Page", "open_page"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """A page; what goes wrong in its scripts is in `problems`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.problems: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command, and its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            told = await self._socket.receive_json(timeout=60)
            if told.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(told["params"]))
            if told.get("id") == self._number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    async def value(self, script: str) -> Any:
        """What a script comes to; awaited if it is a promise."""
        told = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def press(self, key: str) -> None:
        """Presses and releases a key; " " and letters too."""
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def go(self, file: Path) -> None:
        """Opens a file and waits until it is loaded."""
        await self.call("Page.navigate", url=file.as_uri())
        await self.value(
            f"new Promise(done => {{ const look = () => location.href == {json.dumps(file.as_uri())} &&"
            " document.readyState == 'complete' ? done(1) : setTimeout(look, 20); look(); })"
        )


@asynccontextmanager
async def open_page(home: Path) -> AsyncIterator[Page]:
    """A page of a browser of its own, which downloads into `home`."""
    assert CHROMIUM
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *arguments,
        "--remote-debugging-port=0",
        f"--user-data-dir={home / 'profile'}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert browser.stderr
        address = ""
        async with asyncio.timeout(60):
            while not address:
                line = (await browser.stderr.readline()).decode()
                assert line, "the browser ended"
                if found := re.search(r"ws://([^/]+)/", line):
                    address = found[1]
        drained = asyncio.create_task(browser.stderr.read())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/json") as listed:
                targets = [one for one in await listed.json() if one["type"] == "page"]
            async with session.ws_connect(targets[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.call("Runtime.enable")
                await page.call("Page.enable")
                await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(home))
                yield page
        drained.cancel()
    finally:
        if browser.returncode is None:
            browser.terminate()
        await browser.wait()
