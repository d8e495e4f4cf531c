"""Takes pictures of every view of the page into docs/img, with real jobs of the bundled base on the bundled rows.

    python -m tools.screenshots                # takes minutes: trains its jobs first
    python -m tools.screenshots --data DIR     # keeps the jobs in DIR and reuses them the next time

Most views are taken in light and dark, each wide and on a phone. Empty views, and views with errors, are taken in
light and wide and in dark on a phone only.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from server.commands.client import Client
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.server.process import ServerProcess, finished

ROOT: Final = Path(__file__).parent.parent
INTENTS: Final = ROOT / "steerzo_edge" / "assets" / "intents"
SIZES: Final = {"wide": (1440, 900), "phone": (390, 844)}
COLOURS: Final = ("light", "dark")
FEW: Final = (("wide", "light"), ("phone", "dark"))
ALL: Final = tuple((size, colour) for size in SIZES for colour in COLOURS)
SETTLED_MS: Final = 1500
MOST_COLOURS: Final = 128
KEY: Final = "a-key-for-pictures"


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture to take.

    Args:
        name: The first part of the file name; size and colours follow.
        path: The path of the view.
        act: Prepares the view, for example fills in a form.
        kinds: Sizes and colours to take it in.
    """

    name: str
    path: str
    act: Callable[[Page], None] = lambda page: None
    kinds: tuple[tuple[str, str], ...] = ALL


def main() -> None:
    """Takes all pictures."""
    parser = argparse.ArgumentParser(description="Pictures of the page.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "img")
    parser.add_argument("--data", type=Path, help="Keep the jobs in this directory, and reuse them the next time.")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, _browser() as browser:
        with ServerProcess("bundled", Path(directory) / "empty", API_KEY=KEY) as process:
            process.start()
            _take(browser, process, out, _empty_views(Path(directory)), key=KEY)
            _take(browser, process, out, (Shot("key", "/jobs", _wrong_key, FEW),))
        with ServerProcess("bundled", given.data or Path(directory) / "full") as process:
            client = process.start()
            jobs = _work(client)
            _take(browser, process, out, _views(jobs))


def _empty_views(directory: Path) -> tuple[Shot, ...]:
    bad = directory / "reviews.jsonl"
    good = {"text": "Warm, quick, and it fits.", "label": "good"}
    lines = [
        json.dumps(good),
        '{"text": "It broke on the second day."}',
        "text,label",
        '{"text": "", "label": "bad"}',
    ]
    bad.write_text("\n".join(lines) + "\n")

    def upload(page: Page) -> None:
        page.get_by_label("File with rows").set_input_files(bad)
        page.get_by_role("alert").wait_for()

    return (
        Shot("jobs-empty", "/jobs", kinds=FEW),
        Shot("data-empty", "/data", kinds=FEW),
        Shot("data-faults", "/data", upload, FEW),
        Shot("playground-empty", "/playground", kinds=FEW),
        Shot("start-empty", "/start", kinds=FEW),
    )


def _views(jobs: dict[str, str]) -> tuple[Shot, ...]:
    pair = ",".join((jobs["all-losses"], jobs["two-point"]))
    return (
        Shot("jobs", "/jobs"),
        Shot("job", f"/jobs/{jobs['all-losses']}"),
        Shot("job-running", f"/jobs/{jobs['running']}", kinds=FEW),
        Shot("compare", f"/compare?jobs={pair}"),
        Shot("start", f"/start?dataset={jobs['dataset']}"),
        Shot("start-faults", f"/start?dataset={jobs['dataset']}", _mistakes, FEW),
        Shot("data", "/data"),
        Shot("dataset", f"/data/{jobs['dataset']}"),
        Shot("playground", f"/playground?adapter={jobs['all-losses']}", _ask),
        Shot("chat", f"/playground?adapter={jobs['all-losses']}", _chat, FEW),
        Shot("system", "/system"),
    )


def _work(client: Client) -> dict[str, str]:
    """Makes jobs in several states: finished, paused, cancelled, running and waiting."""
    train, test = (client.upload(INTENTS / f"{part}.jsonl", f"voice-{part}")["id"] for part in ("train", "test"))
    common = {"dataset": train, "validation": test, "task": json.loads((INTENTS / "task.json").read_text())}

    def post(name: str, **overrides: Any) -> str:
        body = {**common, "name": name, "overrides": {"evaluate.every": 50, **overrides}}
        job = client.http.post("/jobs", json=body, headers={"Idempotency-Key": name}).raise_for_status().json()
        return str(job["id"])

    done = {
        "all-losses": post("voice-all-losses", steps=300),
        "two-point": post("voice-two-point", steps=400, **{"method.kind": "two-point"}),
    }
    for job in done.values():
        finished(client, job, 1800)
    halted = post("voice-greedy", steps=800, **{"method.kind": "greedy"})
    _until(client, halted, 30)
    if client.get(f"/jobs/{halted}")["state"] == "running":
        client.post(f"/jobs/{halted}/pause", {})
    stopped = post("voice-two-rows", steps=300, **{"batch.examples": 2})
    _until(client, stopped, 20)
    if client.get(f"/jobs/{stopped}")["state"] == "running":
        client.post(f"/jobs/{stopped}/cancel", {})
    running = post("voice-longer", steps=20_000)
    post("voice-next", steps=500)
    _until(client, running, 60)
    return {**done, "running": running, "dataset": train}


def _until(client: Client, job: str, step: int) -> None:
    while client.get(f"/jobs/{job}")["step"] < step:
        time.sleep(0.2)


def _mistakes(page: Page) -> None:
    page.get_by_label("Steps", exact=True).fill("0")
    page.get_by_label("Prompt").fill("This is about")
    page.get_by_label("Name").fill("?")
    page.wait_for_timeout(SETTLED_MS)


def _ask(page: Page) -> None:
    page.get_by_label("Prompt").fill("will it rain in Bergen tomorrow")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.speed')].every(one => /tokens?.*·.*·/.test(one.textContent))"
    )


def _chat(page: Page) -> None:
    page.get_by_role("button", name="Chat").click()
    page.get_by_label("Longest answer, in tokens").fill("40")
    page.get_by_label("Prompt").fill("Tell me about a fox and a river.")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Ask").wait_for()


def _wrong_key(page: Page) -> None:
    page.get_by_label("API key").fill("an-old-key")
    page.get_by_label("API key").press("Enter")
    page.get_by_text("does not know this key").wait_for()


def _take(
    browser: Browser, process: ServerProcess, out: Path, shots: tuple[Shot, ...], key: str | None = None
) -> None:
    for size, colour in ALL:
        width, height = SIZES[size]
        options: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": colour}
        context = browser.new_context(**options)
        if key is not None:
            context.add_init_script(
                f"location.protocol === 'http:' && sessionStorage.setItem('steerzo-key', '{key}')"
            )
        page = context.new_page()
        for shot in shots:
            if (size, colour) in shot.kinds:
                page.goto("about:blank")
                page.set_viewport_size({"width": width, "height": height})
                page.goto(f"http://127.0.0.1:{process.port}/#{shot.path}")
                page.wait_for_timeout(SETTLED_MS)
                shot.act(page)
                _save(page, out / f"{shot.name}-{size}-{colour}.png", width, height)
        context.close()


def _save(page: Page, path: Path, width: int, height: int) -> None:
    """Saves a picture of the whole view. The window is made as high as the view: fixed bars cover nothing."""
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(height, whole)})
    page.wait_for_timeout(400)
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(palette=_palette(image), dither=Image.Dither.NONE).save(path, optimize=True)


def _palette(image: Image.Image) -> Image.Image:
    """The most frequent colours: the colours of the page stay exact, those at the edges of letters are rounded."""
    counted: list[Any] = image.getcolors(1 << 24) or []
    colours = sorted(counted, reverse=True)[:MOST_COLOURS]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in colours for part in colour])
    return palette


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


if __name__ == "__main__":
    main()
