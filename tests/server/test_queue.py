"""The queue as its users see it: pause, resume, delete, priorities, pages, and `steerzo jobs`."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.commands.app import app
from server.commands.client import Client
from tests.server.conftest import PROFILE, TASK
from tests.server.process import finished


def post(client: Client, dataset: str, steps: int = 5000, **more: Any) -> dict[str, Any]:
    overrides = {"steps": steps, "evaluate.holdout": 0}
    return client.post(
        "/jobs", {"dataset": dataset, "profile": PROFILE, "task": TASK, "overrides": overrides, **more}
    )


def wait(client: Client, job: str, state: str = "running", step: int = 0) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        found = client.get(f"/jobs/{job}")
        if found["state"] == state and found["step"] >= step:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


@contextmanager
def busy(client: Client, dataset: str) -> Iterator[dict[str, Any]]:
    """A job that runs for as long as the block lasts."""
    job = post(client, dataset)
    wait(client, job["id"], step=2)
    try:
        yield job
    finally:
        client.http.post(f"/jobs/{job['id']}/cancel")
        finished(client, job["id"])


def test_a_paused_job_lets_the_next_one_run_and_goes_on_where_it_was(client: Client, dataset: str) -> None:
    with busy(client, dataset) as job:
        second = post(client, dataset, steps=3)
        assert second["waiting_for"] == "1 job ahead"
        asked = client.post(f"/jobs/{job['id']}/pause", {})
        assert asked["state"] == "paused" or "to be paused" in asked["waiting_for"]
        paused = wait(client, job["id"], "paused", step=2)
        assert paused["waiting_for"] == f"POST /jobs/{job['id']}/resume"
        assert paused["adapter"]["step"] == paused["step"]
        assert finished(client, second["id"])["state"] == "succeeded"
        assert client.get(f"/jobs/{job['id']}")["step"] == paused["step"]
        body = {"prompt": "good =>", "max_new_tokens": 2, "adapter": job["id"]}
        assert client.post("/generate", body)["adapter"] == job["id"]
        client.post(f"/jobs/{job['id']}/resume", {})
        wait(client, job["id"], "running", step=paused["step"] + 2)
        steps = [one["step"] for one in client.get(f"/jobs/{job['id']}/metrics")["steps"]]
        assert steps == list(range(len(steps)))


def test_higher_priorities_come_first(client: Client, dataset: str) -> None:
    with busy(client, dataset):
        low, high = post(client, dataset, steps=1, priority=-1), post(client, dataset, steps=1, priority=7)
        assert high["waiting_for"] == "1 job ahead"
        assert client.get(f"/jobs/{low['id']}")["waiting_for"] == "2 jobs ahead"
        assert high["priority"] == 7
    assert finished(client, low["id"])["started"] > finished(client, high["id"])["started"]


def test_a_running_job_is_not_deleted_and_an_ended_one_is_gone(client: Client, dataset: str) -> None:
    with busy(client, dataset) as job:
        refused = client.http.delete(f"/jobs/{job['id']}")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert client.http.delete(f"/jobs/{job['id']}").status_code == 204
    for path in ("", "/events", "/metrics", "/journal", "/adapter"):
        assert client.http.get(f"/jobs/{job['id']}{path}").status_code == 404
    assert client.http.delete(f"/jobs/{job['id']}").status_code == 404


def test_jobs_come_in_pages(client: Client, dataset: str) -> None:
    made = [post(client, dataset, steps=1)["id"] for _ in range(3)]
    for job in made:
        finished(client, job)
    first = client.get("/jobs?limit=2")["jobs"]
    assert [job["id"] for job in first] == made[:0:-1]
    assert client.get(f"/jobs?limit=1&before={first[-1]['id']}")["jobs"][0]["id"] == made[0]
    assert made[0] in [job["id"] for job in client.get("/jobs?state=succeeded")["jobs"]]
    assert client.http.get("/jobs?state=dreaming").status_code == 422
    assert client.http.get("/jobs?before=nobody").status_code == 404


def test_an_idempotency_key_also_means_one_job_where_rows_come_inline(client: Client) -> None:
    rows = [{"prompt": f"{index} and", "completion": "so on"} for index in range(8)]
    body = {"dataset": rows, "profile": {**PROFILE, "steps": 1}}
    headers = {"Idempotency-Key": "inline"}
    datasets = len(client.get("/datasets")["datasets"])
    first = client.http.post("/jobs", json=body, headers=headers)
    assert first.status_code == 202, first.text
    assert client.http.post("/jobs", json=body, headers=headers).json()["id"] == first.json()["id"]
    assert len(client.get("/datasets")["datasets"]) == datasets + 1
    other = client.http.post("/jobs", json={**body, "dataset": rows[1:]}, headers=headers)
    assert other.status_code == 409
    finished(client, first.json()["id"])


@pytest.mark.long
def test_a_late_reader_gets_the_same_events(client: Client, dataset: str) -> None:
    """Readers of the running job, of its end, and from the middle: the same bytes, whatever they were read from."""
    job = post(client, dataset, steps=120)
    early = client.events(job["id"])
    first = next(early)
    wait(client, job["id"], step=40)
    late = list(client.events(job["id"]))
    assert [first, *early] == late == list(client.events(job["id"]))
    steps = [data["step"] for kind, data in client.events(job["id"], last_event_id=99) if kind == "step"]
    assert steps == list(range(100, 120))
    assert late[-1] == ("state", {"state": "succeeded"})


@pytest.fixture
def steerzo(client: Client) -> Any:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["jobs", *arguments], env={"STEERZO_URL": str(client.http.base_url)})

    return run


def test_the_commands(client: Client, dataset: str, steerzo: Any) -> None:
    with busy(client, dataset) as job:
        listed = steerzo("list")
        assert listed.exit_code == 0
        assert job["id"] in listed.output
        assert "running" in listed.output
        assert steerzo("pause", job["name"]).exit_code == 0
        wait(client, job["id"], "paused")
        assert json.loads(steerzo("resume", job["name"], "--json").output)["state"] in ("queued", "running")
        assert json.loads(steerzo("show", job["id"]).output)["name"] == job["name"]
        assert "cancelled" in steerzo("cancel", job["id"]).output
        finished(client, job["id"])
        again = steerzo("cancel", job["id"])
        assert (again.exit_code, again.exception and type(again.exception)) == (1, SystemExit)
        assert "cannot become cancelled" in again.output
    lines = [json.loads(line) for line in steerzo("list", "--json", "--limit", "1").output.splitlines()]
    assert lines[0]["id"] == job["id"]
    assert steerzo("delete", job["id"]).exit_code == 0
    assert steerzo("show", job["id"]).exit_code == 2


def test_watch_follows_to_the_end(client: Client, dataset: str, steerzo: Any) -> None:
    job = post(client, dataset, steps=30)
    watched = steerzo("watch", job["id"], "--json")
    assert watched.exit_code == 0, watched.output
    lines = [json.loads(line) for line in watched.output.splitlines()]
    steps = [line["step"] for line in lines if line.get("event") == "step"]
    assert steps == list(range(steps[0], 30))
    assert lines[-1]["result"]["state"] == "succeeded"
    assert steerzo("watch", "nobody").exit_code == 2


def test_commands_without_a_server_say_so(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["jobs", "list", "--url", "http://127.0.0.1:9"])
    assert found.exit_code == 1
    assert "no server answers" in found.output
    assert "steerzo serve" in found.output
