"""A closed server as an operator runs it: its disk, its log and its metrics after all sorts of use."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from server.commands.client import Client
from tests.server.conftest import PROFILE, TASK
from tests.server.process import ServerProcess, finished

CANARY = "Zinnober-7f3a"
JSON = {"Content-Type": "application/json"}
HOSTILE_NAMES = (
    "../../outside.jsonl",
    "..\\..\\outside.jsonl",
    "/etc/cron.d/outside.jsonl",
    "~/outside.jsonl",
    "a\r\nX-Header: outside.jsonl",
    "$(touch outside).jsonl",
    "outside\x00.jsonl",
    ".jsonl",
    "CON.jsonl",
    "\u202elnosj.elif",
    "x" * 5000 + ".jsonl",
    "%2e%2e%2foutside.jsonl",
)


@pytest.fixture(scope="module")
def closed(guarded: ServerProcess) -> Client:
    """Without the jobs that another file's made-up requests may have left."""
    client = guarded.client
    for job in client.get("/jobs?limit=100")["jobs"]:
        if job["state"] not in ("succeeded", "failed", "cancelled"):
            client.post(f"/jobs/{job['id']}/cancel", {})
            finished(client, job["id"])
    return client


def test_the_log_and_the_metrics_hold_nothing_users_sent(
    guarded: ServerProcess, closed: Client, tmp_path: Path
) -> None:
    rows = [{"text": f"{CANARY} {index}", "label": ("ok", "no")[index % 2]} for index in range(24)]
    file = tmp_path / f"{CANARY}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = closed.upload(file, CANARY)["id"]
    http = closed.http
    # Well used: an upload, inline rows, a job under that name, prompts, events.
    task = {**TASK, "template": f"{CANARY} {{text}} => "}
    body = {"dataset": dataset, "profile": PROFILE, "task": task, "name": CANARY, "overrides": {"steps": 3}}
    job = closed.post("/jobs", body)
    done = finished(closed, job["id"])
    assert done["state"] == "succeeded", done["error"]
    assert CANARY in http.get(f"/jobs/{CANARY}").text
    assert list(closed.events(CANARY))
    closed.post("/generate", {"prompt": CANARY, "adapter": CANARY, "max_new_tokens": 2})
    chat = [{"role": "user", "content": CANARY}]
    closed.post("/generate", {"messages": chat, "max_new_tokens": 2})
    http.post("/v1/chat/completions", json={"model": CANARY, "messages": chat})
    http.post("/v1/chat/completions", json={"model": job["id"], "messages": chat, "stream": True, "max_tokens": 2})
    http.post("/v1/completions", json={"model": job["id"], "prompt": CANARY, "max_tokens": 2})
    # Badly used: wherever a text can stand that is not what it should be.
    http.get(f"/jobs/{CANARY}-x")
    http.get(f"/{CANARY}?q={CANARY}", headers={"X-Request-ID": CANARY, "User-Agent": CANARY})
    http.request(CANARY, f"/datasets/{CANARY}")
    http.get("/jobs", headers={"Host": f"{CANARY}.example"})
    http.get("/jobs", headers={"Authorization": f"Bearer {CANARY}"})
    http.post("/jobs", json={"dataset": CANARY, "overrides": {CANARY: CANARY}})
    http.post("/jobs", json={**body, "name": None, "overrides": {"objective": {"kind": CANARY}}})
    http.post("/jobs", content=f'{{"{CANARY}'.encode(), headers=JSON)
    http.post("/jobs", content=f"[{CANARY}]".encode(), headers={"Content-Type": CANARY})
    http.post("/generate", json={"prompt": CANARY * 200})
    http.post("/generate", json={"prompt": CANARY, "stop": [CANARY], CANARY: CANARY})
    http.post("/datasets", json={"rows": [{"prompt": CANARY}, {CANARY: "x"}]})
    http.post("/datasets", files={"file": (CANARY, f"{CANARY}\x00".encode())})
    http.post(
        "/datasets",
        content=f"--{CANARY}".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={CANARY}"},
    )
    http.post("/datasets", files={CANARY: (CANARY, CANARY.encode())}, data={CANARY: CANARY})
    log = guarded.log.read_text()
    assert "POST /generate" in log  # it does say what happened
    assert job["id"] in log
    assert CANARY.lower() not in log.lower(), [line for line in log.splitlines() if CANARY in line]
    assert CANARY.lower() not in closed.http.get("/metrics").text.lower()


def test_every_line_is_one_object_and_requests_have_names(guarded: ServerProcess, closed: Client) -> None:
    named = closed.http.post("/jobs/missing/cancel").headers["x-request-id"]
    deadline = time.monotonic() + 10
    while not (found := [line for line in _lines(guarded) if line.get("request") == named]):
        assert time.monotonic() < deadline  # the line is written after the answer
        time.sleep(0.05)
    (line,) = found
    assert line["message"] == "POST /jobs/{job_id}/cancel"
    assert (line["status"], line["code"]) == (404, "not-found")
    key = guarded.key
    assert key is not None
    assert key not in guarded.log.read_text()


def _lines(server: ServerProcess) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    return lines


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_of_files_are_the_servers_own(guarded: ServerProcess, closed: Client, name: str) -> None:
    row = b'{"prompt": "a", "completion": "b"}\n'
    # Written by hand: a client would fix such names.
    disposition = b'Content-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n\r\n'
    content = b"--b\r\n" + disposition + row + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = closed.http.post("/datasets", content=content, headers=headers)
    assert response.status_code in (201, 400, 422), response.text
    names = [path.name for path in guarded.data_dir.rglob("*")]
    assert not [one for one in names if "outside" in one or "lnosj" in one]
    assert all(one.isascii() and len(one) < 64 for one in names)
    assert not list(guarded.data_dir.parent.rglob("*outside*"))
    if response.status_code == 201:
        assert response.json()["id"].startswith("ds_")
        assert len(response.json()["name"]) <= 100


def test_what_is_written_is_for_the_owner_alone(guarded: ServerProcess) -> None:
    for path in (guarded.data_dir, *guarded.data_dir.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_second_server_is_refused_by_name(guarded: ServerProcess) -> None:
    environment = {**guarded.environment, "STEERZO_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "server", "serve"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"belongs to a running server (process {guarded.pid})" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_public_address_without_a_key_ends_with_the_command_that_makes_one(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERZO_")}
    command = [sys.executable, "-m", "server", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "data")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "0.0.0.0 can be reached from other machines, and there is no valid API key" in done.stderr
    assert f"steerzo keys create NAME --data-dir {tmp_path / 'data'}" in done.stderr


def test_training_is_in_the_metrics(closed: Client, guarded: ServerProcess) -> None:
    from tests.server.test_observed import samples

    rows = [{"prompt": f"item {index}:", "completion": f" {index}"} for index in range(12)]
    before = samples(closed.http.get("/metrics").text)
    job = closed.post("/jobs", {"dataset": rows, "profile": PROFILE, "overrides": {"steps": 4}})
    done = finished(closed, job["id"])
    assert done["state"] == "succeeded", done["error"]
    after = samples(closed.http.get("/metrics").text)

    def more(*name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more("steerzo_steps_total") == more("steerzo_step_seconds_count") == 4
    assert more("steerzo_forwards_total") == done["forwards"]
    assert more("steerzo_trained_tokens_total") > 0
    assert more("steerzo_jobs_ended_total", "succeeded") == 1
    assert more("steerzo_jobs", "succeeded") == 1
