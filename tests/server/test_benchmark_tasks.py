"""Benchmark tasks over HTTP: uploaded by name, named by path, and never a way out of the operator's directory."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.commands.client import Client
from server.errors import TooLargeError
from server.services.task_files import read_task_file
from steerzo_edge.errors import InputError, NotFoundError
from tests.server.conftest import PROFILE
from tests.server.process import ServerProcess, finished
from tests.server.test_bad_input import problem


def rte_rows(count: int) -> list[dict[str, Any]]:
    labels = ("entailment", "not_entailment")
    return [
        {
            "premise": f"It {'rains' if i % 3 else 'snows'}.",
            "hypothesis": "It rains.",
            "label": labels[i % 2],
            "idx": i,
        }
        for i in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tasks_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("operator")
    write(root / "tasks" / "rte" / "train.jsonl", rte_rows(24))
    write(root / "tasks" / "rte" / "dev.jsonl", rte_rows(6))
    write(root / "tasks" / "rte" / "broken.jsonl", [*rte_rows(2), {"premise": "a", "label": "entailment"}])
    write(root / "secret.jsonl", rte_rows(4))
    (root / "tasks" / "out.jsonl").symlink_to(root / "secret.jsonl")
    (root / "tasks" / "up").symlink_to(root)
    (root / "tasks" / "in.jsonl").symlink_to(root / "tasks" / "rte" / "dev.jsonl")
    (root / "tasks" / "circle").symlink_to(root / "tasks" / "circle")
    return root / "tasks"


@pytest.fixture(scope="module")
def with_tasks(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory, tasks_dir: Path) -> Iterator[Client]:
    data = tmp_path_factory.mktemp("benchmarks") / "data"
    with ServerProcess(tiny_path, data, TASKS_DIR=str(tasks_dir)) as process:
        yield process.start()
        assert process.stop() == 0, process.log.read_text()


def job_of(dataset: Any, **others: Any) -> dict[str, Any]:
    settings = {"steps": 4, "batch.max_tokens": 160, "evaluate.every": 4}
    return {"dataset": dataset, "profile": PROFILE, "overrides": settings, **others}


def test_an_upload_may_name_its_task(client: Client, tmp_path: Path) -> None:
    path = write(tmp_path / "rte.jsonl", rte_rows(8))
    with path.open("rb") as file:
        found = client.http.post("/datasets", files={"file": ("rte.jsonl", file)}, data={"task": "rte"}).json()
    assert (found["task"], found["metric"], found["format"], found["rows"]) == (
        "rte",
        "accuracy",
        "classification",
        8,
    )
    assert set(found["labels"]) == {"entailment", "not_entailment"}
    inline = client.post("/datasets", {"rows": rte_rows(8), "task": "rte"})
    assert inline["tokens"] == found["tokens"]
    job = client.post("/jobs", job_of(inline["id"]))
    done: Any = finished(client, job["id"])
    assert done["state"] == "succeeded", done["error"]
    assert 0 <= done["metrics"]["balanced_accuracy"] <= 1


def test_an_upload_that_does_not_fit_its_task(client: Client) -> None:
    rows = [*rte_rows(1), {"premise": 3, "label": "maybe"}]
    found = problem(client.http.post("/datasets", json={"rows": rows, "task": "rte"}), 422, "invalid-dataset")
    assert [(e["where"], e["field"]) for e in found["errors"]] == [
        ("line 2", "premise"),
        ("line 2", "hypothesis"),
        ("line 2", "label"),
    ]
    found = problem(client.http.post("/datasets", json={"rows": rows, "task": "mnli"}), 422, "invalid-task")
    assert "multirc" in found["hint"]


def test_a_job_may_read_an_upload_as_a_task(client: Client) -> None:
    """Rows of WSC look like labelled texts; the job says what they are."""
    rows = [
        {
            "text": f"Ann saw her {i}.",
            "target": {"span1_text": "Ann", "span2_text": "her"},
            "label": "true" if i % 2 else "false",
        }
        for i in range(12)
    ]
    path_id = client.http.post(
        "/datasets", files={"file": ("wsc.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())}
    ).json()
    assert path_id["format"] == "classification"
    assert "task" not in path_id
    job = client.post("/jobs", job_of({"task": "wsc", "dataset": path_id["id"]}))
    named = client.get(f"/datasets/{job['dataset']}")
    assert (named["task"], named["rows"]) == ("wsc", 12)
    again = client.post("/jobs", job_of({"task": "wsc", "dataset": named["id"]}))
    assert again["dataset"] == named["id"]
    for posted in (job, again):
        assert finished(client, posted["id"])["state"] == "succeeded"


def test_a_job_may_name_a_file_of_the_operators(with_tasks: Client) -> None:
    body = job_of({"task": "rte", "path": "rte/train.jsonl"}, validation={"task": "rte", "path": "in.jsonl"})
    headers = {"Idempotency-Key": "once"}
    job = with_tasks.http.post("/jobs", json=body, headers=headers).json()
    assert with_tasks.http.post("/jobs", json=body, headers=headers).json()["id"] == job["id"]
    dataset = with_tasks.get(f"/datasets/{job['dataset']}")
    assert (dataset["task"], dataset["rows"], dataset["name"]) == ("rte", 24, "rte/train.jsonl")
    done: Any = finished(with_tasks, job["id"])
    assert done["state"] == "succeeded", done["error"]
    assert done["metrics"]["examples"] == 6


def test_without_such_a_directory_it_is_refused_in_words(client: Client) -> None:
    response = client.http.post("/jobs", json=job_of({"task": "rte", "path": "rte/train.jsonl"}))
    found = problem(response, 422, "invalid-input")
    assert "no directory of task files" in found["detail"]
    assert "--tasks-dir" in found["hint"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("../secret.jsonl", 422, "invalid-input"),
        ("rte/../../secret.jsonl", 422, "invalid-input"),
        ("rte/../rte/train.jsonl", 422, "invalid-input"),
        ("/etc/passwd", 422, "invalid-input"),
        ("out.jsonl", 422, "invalid-input"),
        ("up/secret.jsonl", 422, "invalid-input"),
        ("rte/train.jsonl\0", 422, "invalid-input"),
        ("rte/none.jsonl", 404, "not-found"),
        ("rte", 404, "not-found"),
        (".", 404, "not-found"),
        ("circle", 404, "not-found"),
        ("x" * 600, 404, "not-found"),
        ("", 422, "invalid-input"),
        ("rte/broken.jsonl", 422, "invalid-dataset"),
    ],
)
def test_paths_outside_the_directory_are_refused(
    with_tasks: Client, tasks_dir: Path, path: str, status: int, code: str
) -> None:
    found = problem(with_tasks.http.post("/jobs", json=job_of({"task": "rte", "path": path})), status, code)
    assert str(tasks_dir.parent) not in json.dumps(found)
    assert with_tasks.http.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("dataset", "status", "code", "says"),
    [
        ({"task": "mnli", "path": "rte/train.jsonl"}, 422, "invalid-task", "mnli"),
        ({"task": "rte", "dataset": "ds_missing"}, 404, "not-found", "ds_missing"),
        ({"task": "rte"}, 422, "invalid-input", "either dataset or path"),
        ({"task": "rte", "dataset": "a", "path": "b"}, 422, "invalid-input", "either dataset or path"),
        ({"task": "rte", "pth": "b"}, 422, "invalid-input", "path"),
        ({"path": "rte/train.jsonl"}, 422, "invalid-input", "task"),
    ],
)
def test_rows_of_a_missing_file_are_refused(
    with_tasks: Client, dataset: dict[str, str], status: int, code: str, says: str
) -> None:
    assert says in problem(with_tasks.http.post("/jobs", json=job_of(dataset)), status, code)["detail"]


def test_a_template_together_with_a_task_is_refused(with_tasks: Client) -> None:
    body = job_of({"task": "rte", "path": "rte/train.jsonl"}, task={"template": "{text} so:"})
    assert "brings its own" in problem(with_tasks.http.post("/jobs", json=body), 422, "invalid-task")["detail"]


@pytest.mark.long
def test_a_job_goes_on_after_a_restart_though_the_file_is_gone(tiny_path: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "tasks" / "rte.jsonl", rte_rows(24))
    with ServerProcess(tiny_path, tmp_path / "data", TASKS_DIR=str(path.parent)) as server:
        client = server.start()
        body = job_of({"task": "rte", "path": "rte.jsonl"})
        body["overrides"] = {**body["overrides"], "steps": 60, "evaluate.every": 30}
        job = client.post("/jobs", body)
        while client.get(f"/jobs/{job['id']}")["step"] < 10:
            time.sleep(0.01)
        server.kill()
        path.unlink()
        client = server.start()
        done: Any = finished(client, job["id"])
        assert done["state"] == "succeeded", done["error"]
        states = [data["state"] for kind, data in client.events(job["id"]) if kind == "state"]
        assert "interrupted" in states
        assert server.stop() == 0


def test_missing_and_too_large_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", rte_rows(2))
    size = (tmp_path / "rows.jsonl").stat().st_size
    assert len(read_task_file(tmp_path, "rows.jsonl", size)) == size
    with pytest.raises(TooLargeError):
        read_task_file(tmp_path, "rows.jsonl", size - 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError):
        read_task_file(tmp_path, "pipe", size)
    # The directory itself may be a link: it is the operator's.
    (tmp_path / "link").symlink_to(tmp_path)
    assert read_task_file(tmp_path / "link", "rows.jsonl", size)
    with pytest.raises(InputError, match="does not lie inside"):
        read_task_file(tmp_path / "link", "../x", size)
