"""A real Chromium for the tests of pages, what it complains about, and axe-core inside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT_MS = 15_000
RUN_AXE = """axe.run(document, {resultTypes: ['violations']}).then((found) =>
  found.violations.map((one) => one.id + ': ' + one.help + ' at ' +
    one.nodes.map((node) => node.target.join(' ')).join(', ')))"""


@dataclass
class Watched:
    """A page and what its console said in anger: errors, warnings, exceptions, CSP violations."""

    page: Page
    complaints: list[str] = field(default_factory=list[str])

    def axe(self) -> list[str]:
        """Return what axe finds wrong on the page as it is now.

        axe is let in through the debugger, which the page's security policy does not stop; what
        the console says meanwhile is axe's own doing and is not counted.
        """
        before = len(self.complaints)
        session = self.page.context.new_cdp_session(self.page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text()})
        found = self.page.evaluate(RUN_AXE)
        session.detach()
        del self.complaints[before:]
        return [str(one) for one in found]


@contextmanager
def chromium() -> Generator[Browser]:
    """Yield a browser: `INPROD_CHROMIUM`, else the system's, else Playwright's own.

    Raises AssertionError that says what to install when there is none.
    """
    with sync_playwright() as playwright:
        browser = _launch(playwright)
        yield browser
        browser.close()


def _launch(playwright: Playwright) -> Browser:
    named = os.environ.get("INPROD_CHROMIUM", "")
    found = named or next(filter(None, map(shutil.which, NAMES)), "")
    path = found or playwright.chromium.executable_path
    assert Path(path).exists(), (
        f"no Chromium at {path}: install the system package `chromium`, "
        "run `playwright install chromium`, or set INPROD_CHROMIUM"
    )
    return playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))


@contextmanager
def context_of(
    browser: Browser, *, scheme: Literal["light", "dark"] = "light", width: int = 1280,
    javascript: bool = True,
) -> Generator[BrowserContext]:  # fmt: skip
    """Yield a fresh context: its own cookies, a scheme, a width, with or without JavaScript."""
    context = browser.new_context(
        color_scheme=scheme, locale="en-US", viewport={"width": width, "height": 900},
        java_script_enabled=javascript,
    )  # fmt: skip
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


def watch(context: BrowserContext) -> Watched:
    """Return a new page whose complaints are collected."""
    watched = Watched(page=context.new_page())
    watched.page.on(
        "console",
        lambda message: (
            watched.complaints.append(message.text)
            if message.type in ("error", "warning")
            else None
        ),
    )
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    return watched
