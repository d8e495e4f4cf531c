"""Every view: accessible in both colours, usable on a phone, and with a server that restarts or asks for a key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import FURTHER, done_job, job_of
from tests.server.process import ServerProcess

pytest.importorskip("playwright")
from playwright.sync_api import expect

VIEWS = (
    "/jobs",
    "/start",
    "/jobs/one",
    "/compare?jobs={one},{two}",
    "/data",
    "/data/{dataset}",
    "/playground",
    "/system",
)


@pytest.fixture(scope="module")
def there(live: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two jobs that have ended, and their rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [{"text": f"{'good' if n % 2 else 'bad'} {n}", "label": "ok" if n % 2 else "no"} for n in range(40)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = live.client.upload(path, "rows")["id"]
    one = done_job(live.client, dataset, "one")
    two = done_job(live.client, dataset, "two", **{"method.kind": "two-point"})
    return {"dataset": dataset, "one": one["id"], "two": two["id"]}


@pytest.fixture(scope="module")
def closed(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a key."""
    with ServerProcess(tiny_path, tmp_path_factory.mktemp("closed") / "data", API_KEY="open-sesame") as process:
        process.start()
        yield process


@pytest.mark.long
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious(opened: Any, there: dict[str, str], colours: str) -> None:
    tab = opened(color_scheme=colours)
    found = {}
    for view in VIEWS:
        page = tab.go(view.format(**there))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_timeout(500)
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        found[view] = tab.issues()
    assert not any(found.values()), json.dumps(found, indent=1)


def test_nothing_is_cut_off_on_a_phone(opened: Any, there: dict[str, str]) -> None:
    tab = opened(viewport={"width": 360, "height": 740}, has_touch=True)
    for view in VIEWS:
        page = tab.go(view.format(**there))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_timeout(400)
        wide = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
            " && !e.closest('.scroll, pre, canvas, .u-wrap')).map(e => e.outerHTML.slice(0, 120))"
        )
        assert not wide, (view, wide[:3])


def test_jobs_are_compared_on_one_chart(opened: Any, there: dict[str, str], live: ServerProcess) -> None:
    page = opened().go("/jobs")
    for name in ("one", "two"):
        page.get_by_role("checkbox", name=f"Compare {name}").check()
    page.get_by_role("link", name="Compare 2").click()
    chart = page.locator(".chart", has=page.get_by_role("heading", name="Training loss"))
    expect(chart.locator("canvas")).to_be_visible()
    words = chart.locator("[role=img]").get_attribute("aria-label") or ""
    assert re.search(r"one: first [\d.]+, last [\d.]+; two: first [\d.]+, last [\d.]+", words), words
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    methods = {method["kind"]: method["name"] for method in live.client.get("/methods")["methods"]}
    expect(rows.nth(1)).to_contain_text(methods["two-point"])


def test_a_method_that_only_the_api_knows_is_shown(opened: Any, there: dict[str, str], live: ServerProcess) -> None:
    """The page has no list of methods: GET /methods is all it needs to show a new one."""
    known = live.client.get("/methods")["methods"]
    spiral = {
        "kind": "spiral",
        "name": "Spiral (made up)",
        "about": "walks in circles.",
        "automatic_rate": "that of a snail",
        "settings": {"pool": 6},
        "forwards": 15,
        "forwards_per_candidate": 2,
    }
    profiles = live.client.get("/profiles")["profiles"]
    for profile in profiles:
        profile["method"] = {"kind": "spiral", "pool": 8}
    tab = opened()
    tab.context.route("**/methods", lambda route: route.fulfill(json={"methods": [*known, spiral]}))
    tab.context.route("**/profiles", lambda route: route.fulfill(json={"profiles": profiles}))

    page = tab.go(f"/start?dataset={there['dataset']}")
    facts = page.locator(".meaning")
    expect(facts).to_contain_text("Spiral (made up): 19 forward passes a step")
    page.get_by_text("More settings").click()
    for method in known:
        page.get_by_label("Method").select_option(method["kind"])
        expect(facts).to_contain_text(f"{method['name']}: ")
        expect(page.locator(".field", has=page.get_by_label("Method"))).to_contain_text(method["about"][1:])
        expect(page.get_by_label("Candidates a step")).to_be_visible(visible="pool" in method["settings"])

    job = live.client.get("/jobs/one")
    job["profile"]["method"]["kind"] = "spiral"
    tab.context.route("**/jobs/one", lambda route: route.fulfill(json=job))
    page = tab.go("/jobs/one")
    expect(page.get_by_text("Spiral (made up): 11 forward passes a step")).to_be_visible()


def test_a_finished_job_can_be_read_without_its_curves(
    opened: Any, there: dict[str, str], live: ServerProcess
) -> None:
    page = opened().go("/jobs/one")
    page.get_by_text("All evaluations as a table").click()
    checks = live.client.get(f"/jobs/{there['one']}/metrics")["evals"]
    rows = page.locator("details tbody tr")
    expect(rows).to_have_count(len(checks))
    assert [int(row.split("\t")[0]) for row in rows.all_inner_texts()] == [one["step"] for one in checks]
    expect(page.locator("ol.log")).to_contain_text("Finished")


def test_thousands_of_points_are_thinned_for_the_browser(opened: Any) -> None:
    page = opened().go("/system")
    found = page.evaluate(
        """async () => {
          const { Series } = await import("/page/js/series.js");
          const series = new Series();
          series.load({ steps: [], evals: [], decisions: [{ seconds: 2 }] });
          for (let step = 0; step < 50000; step += 1)
            series.addStep({ step, forwards: step, loss: 1 / (step + 1), seconds: 0.5, dropped: step % 2 });
          const { step, elapsed, lost } = series.columns;
          return { points: series.length, first: step[0], last: step.at(-1), elapsed: elapsed.at(-1),
            lost: lost.at(-1), rising: step.every((one, index) => index === 0 || one > step[index - 1]) };
        }"""
    )
    assert found["points"] <= 4000
    assert found == {
        "points": found["points"],
        "first": 0,
        "last": 49999,
        "elapsed": 25002,
        "lost": 25000,
        "rising": True,
    }


def test_the_key_is_asked_for_once_and_stays_in_the_session(opened: Any, closed: ServerProcess) -> None:
    tab = opened(f"http://127.0.0.1:{closed.port}")
    tab.answers(401)
    page = tab.go("/data")
    box = page.get_by_label("API key")
    box.fill("wrong")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    assert page.get_by_role("dialog").count() == 1
    tab_issues = tab.issues()
    assert not tab_issues, tab_issues
    page.get_by_label("API key").fill("open-sesame")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="What rows look like")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="What rows look like")).to_be_visible()
    assert page.get_by_role("dialog").count() == 0
    assert "open-sesame" not in json.dumps(tab.context.storage_state())
    # The example dataset can be uploaded with a key too.
    page.get_by_role("button", name=re.compile("Use the example")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("intents.jsonl")


def test_a_key_that_was_revoked_is_asked_for_again(opened: Any, closed: ServerProcess) -> None:
    tab = opened(f"http://127.0.0.1:{closed.port}")
    tab.answers(401)
    page = tab.go("/system")
    page.evaluate("sessionStorage.setItem('steerzo-key', 'of-yesterday')")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("or it was revoked")


def test_a_restarted_server_is_found_again(opened: Any, closed: ServerProcess, rows: Path) -> None:
    job = job_of(closed.client, closed.client.upload(rows, "rows")["id"], "long", steps=50_000)
    tab = opened(f"http://127.0.0.1:{closed.port}")
    tab.context.add_init_script(
        "location.protocol === 'http:' && sessionStorage.setItem('steerzo-key', 'open-sesame')"
    )
    tab.answers(0, 503)
    page = tab.go(f"/jobs/{job['id']}")
    expect(page.locator(".head .state")).to_have_text("running")
    page.wait_for_function(FURTHER, arg=5)
    closed.kill()
    expect(page.get_by_text("The connection to the server is lost")).to_be_visible()
    closed.start()
    known = closed.client.get(f"/jobs/{job['id']}")["step"]
    page.wait_for_function(FURTHER, arg=known + 5, timeout=30_000)
    expect(page.get_by_text("The connection to the server is lost")).to_be_hidden()
    expect(page.locator("ol.log")).to_contain_text("Continuing at step")


def test_missing_pages_and_jobs_are_reported(opened: Any) -> None:
    tab = opened()
    tab.answers(404)
    for path in ("/jobs/nobody", "/data/nothing"):
        page = tab.go(path)
        expect(page.get_by_role("alert")).to_contain_text("there is no")


def test_the_keyboard_is_enough(opened: Any, there: dict[str, str]) -> None:
    page = opened().go("/jobs")
    expect(page.get_by_role("link", name="one", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New job")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("New job")
    expect(page.locator("main")).to_be_focused()


def test_a_theme_is_kept(opened: Any) -> None:
    page = opened(color_scheme="light").go("/system")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Auto").click()
    assert page.evaluate(ground) == light


def test_examples_have_the_right_address_and_can_be_copied(
    opened: Any, live: ServerProcess, there: dict[str, str]
) -> None:
    tab = opened(permissions=["clipboard-read", "clipboard-write"])
    page = tab.go("/system")
    page.get_by_role("button", name="openai").click()
    page.get_by_role("button", name="Copy: Ask the adapter").click()
    expect(page.get_by_text("Copied: Ask the adapter.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert f'base_url="http://127.0.0.1:{live.port}/v1"' in copied
    assert "STEERZO_API_KEY" in copied
    assert "piece.choices[0].text" in copied  # a rename in the page's own code had once changed this field
    compile(copied, "example", "exec")
