"""A page of the server in a real browser, and everything that may not happen there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

VIOLATION = "a policy was violated"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WATCH = f"""
addEventListener("securitypolicyviolation", (event) =>
  console.error("{VIOLATION}:", event.violatedDirective, event.blockedURI, event.sourceFile, event.lineNumber));
"""


class Opened:
    """One tab, and a list of what went wrong in it.

    Args:
        browser: The browser.
        url: The server's address.
        options: Of the context: viewport, color_scheme, ...
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.wrong: list[str] = []
        self.expected: set[int] = set()
        self.context: BrowserContext = browser.new_context(**options)
        self.context.set_default_timeout(20_000)
        self.context.add_init_script(WATCH)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"{error}\n{error.stack}"))
        self.context.on("request", self._asked)

    def go(self, path: str) -> Page:
        """Shows a view in a newly loaded page."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#{path}")
        return self.page

    def answers(self, *statuses: int) -> None:
        """Says which errors of the server are part of the test: a browser writes each to its console."""
        self.expected |= set(statuses)

    def issues(self) -> list[str]:
        """What axe finds serious or worse in the page as it stands."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['help']}: {json.dumps([node['html'][:160] for node in one['nodes'][:3]])}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]

    def close(self) -> list[str]:
        """Closes the tab; what went wrong in it."""
        self.context.close()
        return self.wrong

    def _said(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        statuses = [str(status) for status in self.expected]
        if message.text.startswith("Failed to load resource") and _names_one(message.text, statuses):
            return
        self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme not in ("blob", "data", "about") and asked.netloc != urlsplit(self.url).netloc:
            self.wrong.append(f"a request to another host: {request.url}")


def _names_one(text: str, statuses: Sequence[str]) -> bool:
    # 0 stands for a server that is not there at all.
    return any(f"status of {status} " in text for status in statuses) or ("0" in statuses and "net::ERR" in text)
