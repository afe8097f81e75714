"""Pages in a real Chromium: one browser a test process, each page with cookies of its own.

Whatever a page logs as an error, and each request that it makes to another host, fails the test.
Nothing reaches a network: no name resolves but the loopback address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.support.programs import find_program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

LOOPBACK = "127.0.0.1"
# The phone that the operator's page is made for, in CSS pixels.
WIDTH, HEIGHT = 384, 800
# How long a page may take to load, or an element to appear.
PATIENCE_MS = 10_000
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@cache
def missing_browser() -> str | None:
    """Return why there is no browser to test with, or None if there is one."""
    if find_spec("playwright") is None:
        return "playwright is not installed"
    return None if _chromium() else "Chromium is not installed"


def _chromium() -> str | None:
    return find_program("chromium", "chromium-browser", "google-chrome")


@contextmanager
def launched() -> Iterator[Browser]:
    """Yield a running Chromium; asking takes a second or two."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_options())
        yield browser
        browser.close()


def chromium_options() -> dict[str, Any]:
    """What playwright launches the system's Chromium with."""
    options = [f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {LOOPBACK}"]
    if os.geteuid() == 0:  # Chromium refuses root its sandbox
        options.append("--no-sandbox")
    return {"executable_path": _chromium(), "args": options}


class Browsing:
    """The pages of one test; closing it fails on what went wrong in any of them."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._tolerated: list[re.Pattern[str]] = []
        self.problems: list[str] = []

    def page(
        self,
        base_url: str | None = None,
        *,
        dark: bool = False,
        javascript: bool = True,
        width: int = WIDTH,
        height: int = HEIGHT,
    ) -> Page:
        """Return a blank page on a phone that has never been here.

        Paths that it is sent to are taken from ``base_url``; its time zone is UTC.
        """
        context = self._browser.new_context(
            base_url=base_url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            has_touch=True,
            is_mobile=True,
            timezone_id="UTC",
            locale="en-GB",
        )
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: self._see_request(request.url))
        context.on("console", self._see_console)
        context.on("weberror", lambda error: self._see(f"uncaught: {error.error}"))
        self._contexts.append(context)
        return context.new_page()

    def tolerate(self, pattern: str) -> None:
        """Let errors that match pass, as `status of 401` where the page is to answer that."""
        self._tolerated.append(re.compile(pattern))

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        bad = [text for text in self.problems if not any(t.search(text) for t in self._tolerated)]
        assert not bad, "in the browser: " + "; ".join(bad)

    def _see_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != LOOPBACK:
            self._see(f"request to another host: {url}")

    def _see_console(self, message: Any) -> None:
        if message.type == "error":
            self._see(f"console: {message.text}")

    def _see(self, problem: str) -> None:
        self.problems.append(problem)


def axe_problems(page: Page) -> list[str]:
    """Return what axe finds wrong with a page for people with disabilities, each with its place.

    The page must have JavaScript on, which axe itself is.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = {
        "runOnly": {"type": "tag", "values": AXE_RULES},
        "resultTypes": ["violations"],  # it need not tell each element that is well
    }
    found = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


def sideways_scroll(page: Page) -> int:
    """Return by how many CSS pixels a page is wider than its window."""
    wider: int = page.evaluate(
        "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    )
    return max(0, wider)
