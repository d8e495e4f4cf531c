"""On the page: several settings are tried at once, and the fields of a file are chosen with a preview."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import done_job
from tests.server.process import ServerProcess

pytest.importorskip("playwright")
from playwright.sync_api import expect


def test_several_settings_of_a_job_are_tried(opened: Any, live: ServerProcess, rows: Path) -> None:
    done_job(live.client, live.client.upload(rows, "rows")["id"], "one", steps=4)
    tab = opened()
    page = tab.go("/jobs/one")
    page.get_by_role("link", name="Try several settings").click()
    start = page.get_by_role("button", name=re.compile("^Start"))
    expect(start).to_be_disabled()
    tab.answers(422)
    page.get_by_label("Values of setting 1").fill("0.01, -1")
    expect(page.locator("form")).to_contain_text("greater than 0")
    page.get_by_label("Values of setting 1").fill("0.001, 0.02")
    page.get_by_label("Values of setting 2").fill("3, 4")
    page.get_by_label("Most steps of a job").fill("3")
    page.get_by_label("Name").fill("rates")
    expect(page.get_by_text(re.compile("^4 jobs, about .* of memory"))).to_be_visible()
    assert not tab.issues()
    start.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("rates")
    expect(page.locator("tbody .state.succeeded")).to_have_count(4)
    expect(page.get_by_text("Best so far")).to_contain_text(re.compile(r"rates-\d, accuracy"))
    sweep = live.client.get("/sweeps")["sweeps"][0]
    assert page.locator("tbody tr td:first-child").all_inner_texts() == [run["adapter"] for run in sweep["runs"]]
    assert not tab.issues()
    page.get_by_role("link", name=re.compile("rates-")).first.click()
    page.get_by_role("link", name="Its sweep").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("rates")


def test_fields_are_chosen_with_a_preview(opened: Any, tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text("question;answer;by\nWhere?;Here.;Ann\nWhen?;Now.;Bob\nWho?;Me.;Ann\nWhy?;So.;Bob\n")
    tab = opened()
    tab.answers(422)
    page = tab.go("/data")
    page.get_by_label("File with rows").set_input_files(path)
    card = page.locator("section", has=page.get_by_role("heading", name="Fields of faq.csv"))
    expect(card).to_contain_text("The file has the fields question, answer, by. Choose a format.")
    card.get_by_label("Format").select_option("completion")
    upload = card.get_by_role("button", name="Upload with these fields")
    expect(upload).to_be_disabled()
    card.get_by_label("prompt").select_option("question")
    card.get_by_label("completion").select_option("answer")
    expect(card.locator(".preview-row")).to_have_count(3)
    expect(card.locator(".preview-row mark").first).to_contain_text("Here.")
    assert not tab.issues()
    upload.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("faq.csv")
    expect(page.get_by_text("Not used: by (4 rows).")).to_be_visible()
