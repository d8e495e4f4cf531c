"""A first visit in one tab: upload, start, watch, pause, try and cancel a job, in this order on one server."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import FURTHER
from tests.server.process import ServerProcess

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect


def steps_shown(page: Page) -> int:
    """Finished steps as the page says them."""
    text = page.get_by_text(re.compile(r"^step [\d,]+ of")).inner_text()
    return int(text.split()[1].replace(",", ""))


def curve(page: Page) -> str:
    """The description of the loss curve for screen readers."""
    return (
        page.locator(".chart", has=page.get_by_role("heading", name="Loss"))
        .locator("[role=img]")
        .get_attribute("aria-label")
        or ""
    )


def test_a_first_visit_ends_with_an_adapter(opened: Any, live: ServerProcess, rows: Path, tmp_path: Path) -> None:
    tab = opened()
    page = tab.go("/")
    expect(page.get_by_role("heading", name="Upload data")).to_be_visible()

    # A file with faults: every faulty line is listed, with how to fix it.
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "good", "label": "ok"}\n{"text": "no label"}\nno json\n')
    tab.answers(422)
    page.get_by_label("File with rows").set_input_files(bad)
    told = page.get_by_role("alert").filter(has_text="2 of 3 rows cannot be used")
    expect(told).to_be_visible()
    for words in ("line 2", "line 3", "it must be the name of a class", "one JSON object a line"):
        expect(told).to_contain_text(words)

    # A good file, dropped on the upload area.
    transfer = page.evaluate_handle(
        """text => {
          const all = new DataTransfer();
          all.items.add(new File([text], "sentences.jsonl"));
          return all;
        }""",
        rows.read_text(),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    expect(page.get_by_role("heading", level=1)).to_have_text("sentences.jsonl")
    expect(page.get_by_text("classification: a text and its label")).to_be_visible()
    expect(page.locator(".preview-row mark").first).to_have_text(re.compile("ok|no"))
    expect(page.locator(".bars").last).to_contain_text("20 · 50.0 %")

    # The form: the button is enabled once memory and time are estimated.
    page.get_by_role("link", name="Start a job").click()
    start = page.get_by_role("button", name="Start the job")
    expect(start).to_be_disabled()
    expect(start).to_be_enabled()
    panel = page.get_by_role("region", name="Before it starts")
    expect(panel).to_contain_text("available")
    assert re.search(r"about \d", panel.inner_text())
    drawn = panel.get_by_role("img", name=re.compile(r"^Memory and time\..*exact, memory lean"))
    expect(drawn.locator(".way")).to_have_count(6)
    expect(panel.locator(".ways tbody tr")).to_have_count(6)
    expect(panel).to_contain_text("not measured")

    # A mistake is shown at its field.
    page.get_by_label("Steps", exact=True).fill("0")
    expect(start).to_be_disabled()
    expect(page.locator(".field", has=page.get_by_label("Steps", exact=True)).get_by_role("alert")).to_contain_text(
        "greater than or equal to 1"
    )
    expect(page.get_by_label("Steps", exact=True)).to_have_attribute("aria-invalid", "true")

    page.get_by_label("Steps", exact=True).fill("60000")
    page.get_by_text("More settings").click()
    page.get_by_label("Learning rate").fill("0.01")
    page.get_by_label("Candidates a step").fill("4")
    page.get_by_label("Rows a step").fill("4")
    page.get_by_label("Name").fill("first try")
    expect(page.get_by_label("Steps", exact=True)).to_have_attribute("aria-invalid", "false")
    expect(start).to_be_enabled()
    start.click()

    # The curve grows by itself.
    expect(page.get_by_role("heading", level=1)).to_have_text("first try")
    expect(page.locator(".chart canvas").first).to_be_visible()
    before = steps_shown(page)
    expect(page.get_by_text(re.compile(r"^step [\d,]+ of"))).not_to_have_text(f"step {before} of 60,000")
    page.wait_for_function(FURTHER, arg=before + 20)
    began = re.search(r"training: first ([\d.]+)", curve(page))
    assert began

    # A reload in the middle shows the same beginning and continues.
    seen = steps_shown(page)
    page.reload()
    page.wait_for_function(FURTHER, arg=seen)
    expect(page.locator(".chart canvas").first).to_be_visible()
    page.get_by_role("button", name="Time", exact=True).click()
    assert "of compute time" in curve(page)

    # Pause and resume.
    page.get_by_role("button", name="Pause first try").click()
    expect(page.locator(".head .state")).to_have_text("paused")
    held = live.client.get("/jobs/first try")["step"]
    expect(page.locator("ol.log")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume first try").click()
    expect(page.locator(".head .state")).to_have_text("running")
    page.wait_for_function(FURTHER, arg=held)

    # Base model and adapter side by side, streamed, while the job runs.
    page.get_by_role("link", name="Try it").click()
    expect(page.locator(".answer")).to_have_count(2)
    page.get_by_label("Add a column").select_option("latest")
    expect(page.locator(".answer")).to_have_count(3)
    page.get_by_label("Prompt").fill("so good 3")
    page.get_by_label("Longest answer, in tokens").fill("12")
    with page.expect_response("**/generate") as answered:
        page.get_by_role("button", name="Ask").click()
    assert answered.value.headers["content-type"].startswith("text/event-stream")
    for name in ("Base model", "first try", "latest"):
        expect(page.get_by_role("region", name=f"Answer of {name}").locator(".speed")).to_contain_text(
            re.compile(r"\d+ tokens? · [\d.]+ tokens/s .*(length limit|finished)")
        )
    # A long answer can be stopped.
    page.get_by_label("Longest answer, in tokens").fill("230")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("region", name="Answer of Base model").locator(".speed")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    # Chat keeps the turns.
    page.get_by_role("button", name="Chat").click()
    page.get_by_label("Longest answer, in tokens").fill("6")
    for turn in ("hello", "again"):
        page.get_by_label("Prompt").fill(turn)
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("button", name="Ask")).to_be_visible()
    prompts = page.get_by_role("region", name="Answer of Base model").locator(".user-prompt")
    expect(prompts).to_have_text(["hello", "again"])

    # Cancelling asks for confirmation first.
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    row = page.get_by_role("row").filter(has_text="first try")
    expect(row).to_contain_text("steps/s")
    row.get_by_role("button", name="Cancel first try").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(row.locator(".state")).to_have_text("cancelled")
    with page.expect_download() as fetched:
        row.get_by_role("button", name="Download first try").click()
    assert fetched.value.suggested_filename == f"{live.client.get('/jobs/first try')['id']}.zip"
