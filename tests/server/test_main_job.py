"""The main job over HTTP, against a real server process: upload, train, watch, generate."""

import hashlib
import io
import json
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from server.commands.client import Client
from tests.server.conftest import PROFILE, TASK
from tests.server.process import finished


def stream(client: Client, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    events = []
    with client.http.stream("POST", "/generate", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                kind = value
            elif field == "data":
                events.append((kind, json.loads(value)))
    return events


def test_an_upload_says_what_was_found(client: Client, rows_file: Path) -> None:
    with rows_file.open("rb") as file:
        response = client.http.post("/datasets", files={"file": ("rows.jsonl", file)}, data={"name": "mine"})
    found = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/datasets/{found['id']}"
    assert (found["rows"], found["format"], found["name"]) == (40, "classification", "mine")
    assert found["labels"] == ["ok", "no"]
    assert found["truncated"] == 0
    assert 0 < found["tokens"]["mean"] <= found["tokens"]["longest"]
    assert client.get(f"/datasets/{found['id']}") == found
    assert found in client.get("/datasets")["datasets"]


def test_rows_may_come_as_json(client: Client) -> None:
    found = client.post("/datasets", {"rows": [{"prompt": "a", "completion": "b"}], "name": "inline"})
    assert (found["rows"], found["format"], found["name"]) == (1, "completion", "inline")


def test_a_posted_job_is_accepted_at_once(client: Client, dataset: str) -> None:
    response = client.http.post("/jobs", json={"dataset": dataset, "profile": PROFILE, "task": TASK})
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert job["state"] in ("queued", "running")
    assert finished(client, job["id"])["state"] == "succeeded"


def test_a_finished_job_tells_everything(client: Client, job: dict[str, Any]) -> None:
    assert (job["step"], job["steps"], job["forwards"]) == (12, 12, 48)
    assert job["metrics"]["examples"] == 10
    assert 0 <= job["metrics"]["accuracy"] <= 1
    assert job["seconds_left"] is None
    assert job["error"] is None
    assert job["profile"]["method"]["pool"] == 4
    assert client.get("/jobs/first")["id"] == job["id"]
    assert job["id"] in [other["id"] for other in client.get("/jobs")["jobs"]]


def test_events_come_in_order_and_end(client: Client, job: dict[str, Any]) -> None:
    events = list(client.events(job["id"]))
    assert [data["step"] for kind, data in events if kind == "step"] == list(range(12))
    assert [data["step"] for kind, data in events if kind == "eval"] == [0, 5, 10, 12]
    assert [data["state"] for kind, data in events if kind == "state"] == ["queued", "running", "succeeded"]
    assert events[-1] == ("state", {"state": "succeeded"})
    assert [data["message"][:16] for kind, data in events if kind == "log"] == ["Back-propagation"]
    step = next(data for kind, data in events if kind == "step")
    wanted = {"step", "loss", "slope", "learning_rate", "epsilon", "forwards", "tokens", "seconds", "dropped"}
    assert wanted <= set(step)


def test_last_event_id_continues_after_that_step(client: Client, job: dict[str, Any]) -> None:
    steps = [data["step"] for kind, data in client.events(job["id"], last_event_id=7) if kind == "step"]
    assert steps == [8, 9, 10, 11]
    with client.http.stream("GET", f"/jobs/{job['id']}/events", headers={"Last-Event-ID": "10"}) as response:
        lines = list(response.iter_lines())
    assert [line for line in lines if line.startswith("id:")] == ["id: 11"]


def test_metrics_are_the_whole_series(client: Client, job: dict[str, Any]) -> None:
    series = client.get(f"/jobs/{job['id']}/metrics")
    assert [step["step"] for step in series["steps"]] == list(range(12))
    assert len(series["evals"]) == 4
    thin = client.get(f"/jobs/{job['id']}/metrics?points=4")["steps"]
    assert [step["step"] for step in thin] == [0, 4, 7, 11]


def test_the_adapter_is_a_peft_directory(client: Client, job: dict[str, Any]) -> None:
    response = client.http.get(f"/jobs/{job['id']}/adapter")
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert sorted(archive.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
    weights = archive.read("adapter_model.safetensors")
    assert hashlib.sha256(weights).hexdigest() == job["adapter"]["sha256"]
    assert json.loads(archive.read("adapter_config.json"))["peft_type"] == "LORA"


def test_the_journal_can_be_fetched(client: Client, job: dict[str, Any]) -> None:
    lines = client.http.get(f"/jobs/{job['id']}/journal").text.splitlines()
    assert len(lines) == 1 + 12 + 4


def test_generate_with_and_without_an_adapter(client: Client, job: dict[str, Any]) -> None:
    body = {"prompt": "good =>", "max_new_tokens": 8}
    base = client.post("/generate", body)
    assert base["adapter"] is None
    assert base["finish_reason"] in ("stop", "length")
    assert base["usage"]["prompt_tokens"] == 7
    adapted = client.post("/generate", {**body, "adapter": "first"})
    assert adapted["adapter"] == job["id"]
    assert client.post("/generate", body) == base


def test_a_streamed_answer_is_the_same_in_pieces(client: Client, job: dict[str, Any]) -> None:
    body = {"prompt": "good =>", "max_new_tokens": 8, "adapter": job["id"]}
    events = stream(client, body)
    kinds = [kind for kind, _ in events]
    assert kinds == ["token"] * (len(events) - 1) + ["done"]
    assert "".join(data["text"] for kind, data in events if kind == "token") == events[-1][1]["text"]
    assert events[-1][1] == client.post("/generate", body)


def test_a_conversation_is_answered(client: Client) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_new_tokens": 4}
    assert client.post("/generate", body)["usage"]["prompt_tokens"] == 5


def test_while_a_job_runs_prompts_see_finished_steps_only(client: Client, dataset: str) -> None:
    """Answers of the running job's adapter equal those of a replay up to some finished step, never a probe's."""
    changes = {"steps": 400, "rule.learning_rate": 0.05, "evaluate.holdout": 0}
    posted = client.post(
        "/jobs", {"dataset": dataset, "profile": PROFILE, "task": TASK, "overrides": changes, "seed": 3}
    )
    body = {"prompt": "so good =>", "max_new_tokens": 6, "adapter": posted["id"]}
    while client.get(f"/jobs/{posted['id']}")["step"] < 5:
        time.sleep(0.02)
    answers = [client.post("/generate", body) for _ in range(10)]
    assert stream(client, {**body, "adapter": "latest"})[-1][1]["adapter"] == posted["id"]
    assert client.get(f"/jobs/{posted['id']}")["state"] == "running"
    assert {answer["adapter"] for answer in answers} == {posted["id"]}
    assert client.http.post(f"/jobs/{posted['id']}/cancel").status_code == 202
    done = finished(client, posted["id"])
    assert done["state"] == "cancelled"
    assert 5 <= done["step"] < 400
    assert done["adapter"]["sha256"]


def test_many_prompts_at_once_are_answered_as_if_alone_while_a_job_runs(
    client: Client, dataset: str, job: dict[str, Any]
) -> None:
    bodies: list[dict[str, Any]] = [
        {
            "prompt": "so good" + "x" * number + " =>",
            "max_new_tokens": 4 + 3 * number,
            "temperature": 0.8 if number % 3 == 2 else 0,
            "seed": number,
            **({"adapter": job["id"]} if number % 2 else {}),
        }
        for number in range(8)
    ]
    alone = [client.post("/generate", body) for body in bodies]
    slow = {"dataset": dataset, "profile": PROFILE, "task": TASK, "overrides": {"steps": 100_000}}
    running = client.post("/jobs", slow)["id"]
    while client.get(f"/jobs/{running}")["step"] < 1:
        time.sleep(0.02)
    before = client.get(f"/jobs/{running}")["step"]

    def ask(body: dict[str, Any]) -> list[dict[str, Any]]:
        with Client(str(client.http.base_url)) as own:
            return [own.post("/generate", body) for _ in range(3)]

    with ThreadPoolExecutor(len(bodies)) as pool:
        together = list(pool.map(ask, bodies))
    done = client.get(f"/jobs/{running}")
    client.post(f"/jobs/{running}/cancel", {})
    finished(client, running)
    assert together == [[answer] * 3 for answer in alone]
    assert len({answer["text"] for answer in alone}) > 4
    assert done["state"] == "running"
    assert done["step"] > before


def test_a_waiting_job_is_cancelled_at_once_and_cannot_be_cancelled_twice(client: Client, dataset: str) -> None:
    slow = {"dataset": dataset, "profile": PROFILE, "task": TASK, "overrides": {"steps": 5000}}
    first, second = client.post("/jobs", slow), client.post("/jobs", slow)
    assert client.get(f"/jobs/{second['id']}")["waiting_for"] == "1 job ahead"
    assert client.post(f"/jobs/{second['id']}/cancel", {})["state"] == "cancelled"
    client.post(f"/jobs/{first['id']}/cancel", {})
    finished(client, first["id"])
    response = client.http.post(f"/jobs/{second['id']}/cancel")
    assert response.status_code == 409
    assert response.json()["code"] == "conflict"


def test_watchers_see_steps_while_they_happen(client: Client, dataset: str) -> None:
    posted = client.post(
        "/jobs", {"dataset": dataset, "profile": PROFILE, "task": TASK, "overrides": {"steps": 60}}
    )
    seen: list[list[tuple[str, dict[str, Any]]]] = [[] for _ in range(5)]

    def watch(into: list[tuple[str, dict[str, Any]]]) -> None:
        with Client(str(client.http.base_url)) as own:
            into.extend(own.events(posted["id"]))

    threads = [threading.Thread(target=watch, args=(into,)) for into in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(events == seen[0] for events in seen)
    assert [data["step"] for kind, data in seen[0] if kind == "step"] == list(range(60))


def test_an_idempotency_key_makes_one_job(client: Client, dataset: str) -> None:
    body = {"dataset": dataset, "profile": PROFILE, "task": TASK}
    headers = {"Idempotency-Key": "once"}
    first = client.http.post("/jobs", json=body, headers=headers).json()
    assert client.http.post("/jobs", json=body, headers=headers).json()["id"] == first["id"]
    other = client.http.post("/jobs", json={**body, "seed": 9}, headers=headers)
    assert other.status_code == 409
    finished(client, first["id"])


def test_equal_seeds_give_equal_adapters_and_others_do_not(
    client: Client, dataset: str, job: dict[str, Any]
) -> None:
    body = {"dataset": dataset, "profile": PROFILE, "task": TASK}
    again, other = client.post("/jobs", body), client.post("/jobs", {**body, "seed": 1})
    sha = [finished(client, posted["id"])["adapter"]["sha256"] for posted in (again, other)]
    assert sha[0] == job["adapter"]["sha256"] != sha[1]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/profiles", "/profiles/cpu-demo", "/methods"])
def test_routes_that_need_no_job(client: Client, path: str) -> None:
    assert client.http.get(path).status_code == 200
