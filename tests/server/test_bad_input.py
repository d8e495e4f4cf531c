"""Bad input: each a 4xx problem with a hint, and the server stays up."""

import json
from typing import Any

import pytest

from server.commands.client import Client
from tests.server.conftest import PROFILE, TASK

JSON = {"Content-Type": "application/json"}


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["status"], document["code"]) == (status, status, code), document
    assert document["hint"]
    assert document["detail"]
    assert "Traceback" not in response.text
    return document


@pytest.fixture(autouse=True)
def _stays_up(client: Client) -> Any:
    yield
    assert client.http.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.jsonl", b"", "empty"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not UTF-8"),
        ("archive.zip", b"PK\x03\x04\x14\x00\x00\x00", "NUL"),
        ("rows.jsonl", b'{"text": "a"}\n{"text": "b", "label": "x"}', "line 1, field 'label'"),
        ("rows.csv", b"name,value\n1,2\n", "no known format"),
    ],
)
def test_files_that_cannot_be_used(client: Client, name: str, data: bytes, says: str) -> None:
    document = problem(client.http.post("/datasets", files={"file": (name, data)}), 422, "invalid-dataset")
    assert says in document["detail"]


def test_every_bad_row_is_listed(client: Client) -> None:
    data = b'{"text": "a"}\n{"label": "b"}\nnonsense\n{"text": "b", "label": "x"}'
    response = client.http.post("/datasets", files={"file": ("rows.jsonl", data)})
    errors = problem(response, 422, "invalid-dataset")["errors"]
    assert [(error["where"], error["field"]) for error in errors] == [
        ("line 1", "label"),
        ("line 2", "text"),
        ("line 3", ""),
    ]
    assert all(error["found"] and error["fix"] for error in errors)


def test_uploads_of_the_wrong_kind(client: Client) -> None:
    problem(
        client.http.post("/datasets", content=b"x", headers={"Content-Type": "text/plain"}), 422, "invalid-input"
    )
    problem(client.http.post("/datasets", data={"name": "x"}, files={"other": b"x"}), 422, "invalid-input")
    problem(client.http.post("/datasets", content=b"{", headers=JSON), 422, "invalid-input")
    problem(client.http.post("/datasets", json={"rows": []}), 422, "invalid-input")
    problem(client.http.post("/datasets", json={"rows": [{"txt": "a"}]}), 422, "invalid-dataset")


def test_a_profile_key_that_does_not_exist(client: Client, dataset: str) -> None:
    body = {"dataset": dataset, "overrides": {"stpes": 3}}
    document = problem(client.http.post("/jobs", json=body), 422, "invalid-profile")
    assert "did you mean 'steps'" in document["detail"]
    body = {"dataset": dataset, "profile": {"method": {"kind": "greedy", "poool": 3}}}
    assert "'pool'" in problem(client.http.post("/jobs", json=body), 422, "invalid-profile")["detail"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "says"),
    [
        ({"dataset": "ds_missing"}, 404, "not-found", "ds_missing"),
        ({"validation": "ds_missing"}, 404, "not-found", "ds_missing"),
        ({"profile": "gpu-8bg"}, 404, "not-found", "gpu-8bg"),
        ({"profile": "/etc/passwd.yaml"}, 422, "invalid-input", "but not a file"),
        ({"profile": 7}, 422, "invalid-input", "profile"),
        ({"modle": "x"}, 422, "invalid-input", "model"),
        ({"model": "other/base"}, 409, "conflict", "other/base"),
        ({"name": "../../x"}, 422, "invalid-input", "name"),
        ({"seed": -1}, 422, "invalid-input", "seed"),
        ({"task": {"template": "no place"}}, 422, "invalid-input", "{text}"),
        ({"task": {"options": {"ok": "y", "never": "n"}}}, 422, "invalid-task", "'no'"),
        ({"overrides": {"subset.targets": ["q_prj"]}}, 422, "invalid-profile", "q_prj"),
        ({"overrides": {"subset": {"kind": "last-n-layers", "layers": 9}}}, 422, "invalid-profile", "9"),
        ({"overrides": {"objective": {"kind": "f1"}}}, 422, "invalid-profile", "prompt/completion rows"),
        ({"overrides": {"objective": {"kind": "scorer"}}}, 422, "invalid-profile", "name"),
        (
            {"dataset": [{"prompt": "a", "completion": "b"}] * 9, "task": None}
            | {"overrides": {"objective": {"kind": "scorer", "name": "os:system"}}},
            422,
            "invalid-profile",
            "there is no scorer 'os:system'",
        ),
        ({"validation": [{"prompt": "a", "completion": "b"}]}, 422, "invalid-dataset", "completion"),
    ],
)
def test_jobs_that_cannot_be_run(
    client: Client, dataset: str, changes: dict[str, Any], status: int, code: str, says: str
) -> None:
    body = {"dataset": dataset, "profile": PROFILE, "task": TASK, **changes}
    documents = [problem(client.http.post(path, json=body), status, code) for path in ("/estimate", "/jobs")]
    assert says in documents[0]["detail"]
    assert documents[0] == documents[1]


def test_rows_whose_target_does_not_fit(client: Client) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "long " * 40}]
    body = {"dataset": rows, "profile": PROFILE, "overrides": {"evaluate.holdout": 0}}
    document = problem(client.http.post("/jobs", json=body), 422, "invalid-dataset")
    assert document["errors"][0]["where"] == "line 2"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": "x" * 300, "max_new_tokens": 4}, 422, "prompt-too-long"),
        ({"prompt": "x", "max_new_tokens": 4000}, 422, "prompt-too-long"),
        ({"prompt": ""}, 422, "invalid-input"),
        ({}, 422, "invalid-input"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, 422, "invalid-input"),
        ({"prompt": "a", "temperature": -1}, 422, "invalid-input"),
        ({"prompt": "a", "top_p": 0}, 422, "invalid-input"),
        ({"prompt": "a", "adapter": "job_missing"}, 404, "not-found"),
        ({"prompt": "a", "adapter": "job_missing", "stream": True}, 404, "not-found"),
        ({"prompt": "x" * 300, "stream": True}, 422, "prompt-too-long"),
        ({"prompt": "a", "max_new_token": 4}, 422, "invalid-input"),
    ],
)
def test_prompts_that_cannot_be_answered(client: Client, body: dict[str, Any], status: int, code: str) -> None:
    problem(client.http.post("/generate", json=body), status, code)


@pytest.mark.parametrize(
    "path", ["/jobs/job_x", "/jobs/job_x/events", "/jobs/job_x/metrics", "/jobs/job_x/adapter"]
)
def test_a_job_that_does_not_exist(client: Client, path: str) -> None:
    problem(client.http.get(path), 404, "not-found")


HALF = "\ud800"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {"dataset": HALF}),
        ("/jobs", {"dataset": {"task": HALF, "path": "x"}}),
        ("/jobs", {"dataset": {"task": "rte", "path": HALF}}),
        ("/jobs", {"dataset": {"task": "rte", "dataset": HALF}}),
        ("/jobs", {"validation": HALF}),
        ("/jobs", {"dataset": [{"prompt": "a", "completion": HALF}]}),
        ("/jobs", {"profile": HALF}),
        ("/jobs", {"profile": {HALF: 1}}),
        ("/jobs", {"profile": {**PROFILE, "description": HALF}}),
        ("/jobs", {"overrides": {HALF: 1}}),
        ("/jobs", {"overrides": {"method.kind": HALF}}),
        ("/jobs", {"overrides": {"subset.targets": [HALF]}}),
        ("/jobs", {"model": HALF}),
        ("/jobs", {"name": HALF}),
        ("/jobs", {"task": {**TASK, "template": f"{{text}}{HALF}"}}),
        ("/jobs", {"task": {**TASK, "options": {"ok": HALF, "no": "n"}}}),
        ("/jobs", {"task": {**TASK, "options": {HALF: "y", "no": "n"}}}),
        ("/jobs", {HALF: 1}),
        ("/datasets", {"rows": [{"prompt": "a", "completion": "b"}], "task": HALF}),
        ("/datasets", {"rows": [{"prompt": "a", "completion": "b"}], "name": HALF}),
        ("/datasets", {"rows": [{"prompt": HALF, "completion": "b"}]}),
        ("/datasets", {"rows": [{"text": "a", "label": HALF}, {"text": "b", "label": "x"}]}),
        ("/datasets", {"rows": [{"messages": [{"role": "assistant", "content": HALF}]}]}),
        ("/datasets", {"rows": [{"prompt": "a", "completion": "b", HALF: 1}]}),
        ("/generate", {"prompt": HALF}),
        ("/generate", {"prompt": "a", "adapter": HALF}),
        ("/generate", {"prompt": "a", "stop": [HALF]}),
        ("/generate", {"messages": [{"role": "user", "content": HALF}]}),
    ],
)
def test_half_a_surrogate_pair_is_refused(client: Client, dataset: str, path: str, body: dict[str, Any]) -> None:
    paths = [path]
    if path == "/jobs":
        body = {"dataset": dataset, "profile": PROFILE, "task": TASK, **body}
        paths.append("/estimate")
    for where in paths:
        response = client.http.post(where, content=json.dumps(body).encode(), headers=JSON)
        assert response.status_code == 422, response.text
        assert "Traceback" not in response.text


def test_half_a_surrogate_pair_in_a_file_or_a_path(client: Client) -> None:
    data = b'{"prompt": "a", "completion": "b"}\n{"prompt": "a\\uD800", "completion": "b"}\n'
    document = problem(client.http.post("/datasets", files={"file": ("r.jsonl", data)}), 422, "invalid-dataset")
    assert document["errors"][0]["where"] == "line 2"
    for path in ("/jobs/%ED%A0%80", "/datasets/%ED%A0%80", "/profiles/%ED%A0%80"):
        problem(client.http.get(path), 404, "not-found")


def test_a_dataset_or_profile_that_does_not_exist(client: Client) -> None:
    problem(client.http.get("/datasets/ds_x"), 404, "not-found")
    assert "cpu-demo" in problem(client.http.get("/profiles/cpu-dmo"), 404, "not-found")["hint"]


def test_routes_and_methods_that_do_not_exist(client: Client) -> None:
    problem(client.http.get("/nowhere"), 404, "not-found")
    problem(client.http.delete("/generate"), 405, "method-not-allowed")


def test_bodies_that_are_no_json(client: Client) -> None:
    for path in ("/jobs", "/generate"):
        problem(client.http.post(path, content=b"{", headers=JSON), 422, "invalid-input")
        problem(client.http.post(path, content=b"\xff\xfe", headers=JSON), 422, "invalid-input")


def test_bodies_above_the_limit(client: Client) -> None:
    big = {"prompt": "x" * 300_000}
    problem(client.http.post("/generate", json=big), 413, "too-large")

    def chunks() -> Any:
        yield from (b"x" * 50_000 for _ in range(6))

    problem(client.http.post("/generate", content=chunks(), headers=JSON), 413, "too-large")
