"""POST /estimate: the job's own body, the job's own errors, and nothing is kept."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from server.commands.client import Client
from tests.conftest import labelled_rows
from tests.server.access import URL, app_in, context_of
from tests.server.conftest import PROFILE, TASK
from tests.server.process import finished


@pytest.fixture
def body(dataset: str) -> dict[str, Any]:
    return {"dataset": dataset, "profile": PROFILE, "task": TASK}


def test_parts_and_totals(client: Client, body: dict[str, Any]) -> None:
    found = client.post("/estimate", body)
    for needs in (found["memory"], *(found["memory"][name] for name in ("lean", "exact", "checkpointed"))):
        assert needs["total"] == sum(needs["parts"].values()) > 0
    assert found["memory"]["parts"]["base weights"] > 0
    assert found["fits"] is (found["memory"]["total"] <= found["free"])
    assert found["rows"] == {"train": 30, "validation": 10, "truncated": 0}
    assert found["warnings"] == []
    assert "Back-propagation would need" in found["advice"]


def test_the_estimate_agrees_with_what_the_job_used(
    client: Client, job: dict[str, Any], body: dict[str, Any]
) -> None:
    found = client.post("/estimate", body)
    series = client.get(f"/jobs/{job['id']}/metrics")
    assert found["steps"] == job["steps"]
    assert found["forwards"] == job["forwards"] == 12 * 4
    assert found["evaluations"] == len(series["evals"])
    assert found["speed"]["source"] == "job"
    spent = sum(step["seconds"] for step in series["steps"])
    assert spent / 20 < found["seconds"] < spent * 100, (found, spent)  # evaluations come on top, on a busy machine


def test_settings_left_to_auto_are_searched_for(client: Client, body: dict[str, Any]) -> None:
    """What the search takes before the first step is told beforehand."""
    overrides = {"method.epsilon": "auto", "rule.learning_rate": "auto", "steps": 3}
    found = client.post("/estimate", {**body, "overrides": overrides})
    job = finished(client, client.post("/jobs", {**body, "overrides": overrides})["id"])
    assert job["state"] == "succeeded", job["error"]
    assert found["forwards"] == job["forwards"]


def test_the_same_job_in_other_ways(client: Client, body: dict[str, Any]) -> None:
    found = client.post("/estimate", body)
    ways = {(way["method"], way["memory"]): way for way in found["ways"]}
    own = found["method"]
    assert list(ways) == [(kind, memory) for kind in (own, "hybrid", "exact") for memory in ("lean", "fast")]
    assert ways[own, "lean"]["kept"] == ways[own, "fast"]["kept"] == ""
    assert "kept" in ways["exact", "lean"]["kept"] or ways["exact", "lean"]["kept"] == "checkpointing"
    assert ways["exact", "fast"]["kept"] == "all layers kept"
    for method in (own, "hybrid", "exact"):
        assert ways[method, "lean"]["bytes"] <= ways[method, "fast"]["bytes"]
    assert all(way["seconds"] > 0 for way in found["ways"])


def test_rows_of_the_request_are_not_kept(client: Client, body: dict[str, Any]) -> None:
    rows = [*labelled_rows(40).rows()]
    before = client.get("/datasets"), client.get("/jobs")
    inline = client.post("/estimate", {**body, "dataset": rows})
    assert (client.get("/datasets"), client.get("/jobs")) == before
    kept = client.post("/estimate", body)
    assert inline["memory"] == kept["memory"]
    assert inline["tokens"] == kept["tokens"]


def test_larger_jobs_need_more(client: Client, body: dict[str, Any]) -> None:
    small = client.post("/estimate", body)
    large = client.post("/estimate", {**body, "overrides": {"batch.examples": 16, "steps": 120}})
    assert large["memory"]["parts"]["activations"] > small["memory"]["parts"]["activations"]
    assert large["forwards"] == 10 * small["forwards"]
    assert large["seconds"] > 5 * small["seconds"]


def test_rows_that_are_cut_and_learned_twice_are_told(client: Client, body: dict[str, Any]) -> None:
    rows = [*labelled_rows(40).rows(), {"text": "long " * 60, "label": "ok"}]
    found = client.post("/estimate", {**body, "dataset": rows, "validation": rows[:8]})
    assert found["rows"]["truncated"] == 1
    assert "1 of 49 rows are longer than 64 tokens" in " ".join(found["warnings"])
    assert "8 of the 8 validation rows are also among the training rows" in " ".join(found["warnings"])


def test_a_dataset_that_was_deleted_is_missed(client: Client, body: dict[str, Any]) -> None:
    """Also where its rows have been looked at before."""
    rows = [{"text": f"word {index}", "label": ("ok", "no")[index % 2]} for index in range(12)]
    dataset = client.post("/datasets", {"rows": rows, "name": "gone"})["id"]
    asked = {**body, "dataset": dataset}
    assert client.http.post("/estimate", json=asked).status_code == 200
    assert client.http.delete(f"/datasets/{dataset}").status_code == 204
    assert client.http.post("/estimate", json=asked).status_code == 404


@pytest.fixture(scope="module")
def http(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("estimates")
    app = app_in(data, model={"id": str(tiny_path), "quantization": "none"})
    with TestClient(app, base_url=URL, client=("127.0.0.1", 50000)) as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield client


def test_what_does_not_fit_is_told(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"dataset": [*labelled_rows(24).rows()], "profile": PROFILE, "task": TASK}
    fitting = http.post("/estimate", json=asked).json()
    assert fitting["fits"] is True
    assert fitting["speed"]["source"] == "layer"
    monkeypatch.setattr(
        "server.services.estimates.free_bytes", lambda device, loaded: fitting["memory"]["total"] - 1
    )
    tight = http.post("/estimate", json=asked).json()
    assert tight["fits"] is False
    assert "are free" in tight["warnings"][0]


def test_a_base_whose_sizes_are_unknown_is_served_all_the_same(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_of(http.app), "survey", None)  # type: ignore[arg-type]
    asked = {"dataset": [*labelled_rows(24).rows()], "profile": PROFILE, "task": TASK}
    refused = http.post("/estimate", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (503, "not-ready")
    assert http.post("/generate", json={"prompt": "a", "max_new_tokens": 1}).status_code == 200
