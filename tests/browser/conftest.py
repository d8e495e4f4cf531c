"""A browser, a server, and pages that may do nothing wrong.

Without Chromium these tests are skipped; STEERZO_BROWSER=required, as in CI, makes that a failure.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.commands.client import Client
from tests.conftest import labelled_rows
from tests.server.process import ServerProcess, finished

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PROFILE = {
    "subset": {"kind": "lora", "rank": 2},
    "method": {"kind": "all-losses", "pool": 4, "epsilon": 0.01},
    "rule": {"kind": "momentum", "learning_rate": 0.02},
    "batch": {"examples": 4, "max_tokens": 64},
    "steps": 40,
    "evaluate": {"every": 10, "holdout": 0.25},
}
TASK = {"template": "{text} => ", "options": {"ok": "y", "no": "n"}}
# Whether a job's page says that more than so many steps are done.
FURTHER = (
    "known => Number(document.body.innerText.match(/step ([\\d,]+) of/)?.[1].replaceAll(',', '') ?? 0) > known"
)
REQUIRED = os.environ.get("STEERZO_BROWSER") == "required"


def _missing() -> str | None:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install -e '.[dev]'"
    return None if Path(CHROMIUM).exists() else f"{CHROMIUM} is missing: apt-get install chromium"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _missing()
    if reason is None:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            if REQUIRED:
                raise pytest.UsageError(reason)
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Of a module: while it lives, this thread has a running event loop, which other tests could not bear.
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # machines of CI may be slow
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def live(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that the first visitor finds empty: another for every file, in whatever order they run."""
    with ServerProcess(tiny_path, tmp_path_factory.mktemp("browser") / "data") as process:
        process.start()
        yield process
        assert process.stop() == 0, process.log.read_text()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(40).rows()))
    return path


@pytest.fixture
def opened(browser: Any, live: ServerProcess) -> Iterator[Callable[..., Any]]:
    """Opens tabs; in the end nothing may have gone wrong in any of them."""
    from tests.browser.opened import Opened

    tabs: list[Opened] = []

    def open_tab(url: str | None = None, **options: Any) -> Opened:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        tabs.append(Opened(browser, url or f"http://127.0.0.1:{live.port}", **options))
        return tabs[-1]

    yield open_tab
    wrong = [one for tab in tabs for one in tab.close()]
    assert not wrong, "\n".join(wrong)


def job_of(client: Client, dataset: str, name: str, **overrides: Any) -> dict[str, Any]:
    """A job of the tiny base; quick, unless `steps` says otherwise."""
    body = {"dataset": dataset, "profile": PROFILE, "task": TASK, "name": name, "overrides": overrides}
    posted: dict[str, Any] = client.post("/jobs", body)
    return posted


def done_job(client: Client, dataset: str, name: str, **overrides: Any) -> dict[str, Any]:
    """A job that has succeeded."""
    done = finished(client, job_of(client, dataset, name, **overrides)["id"])
    assert done["state"] == "succeeded", done["error"]
    return done
