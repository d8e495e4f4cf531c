"""Sweeps over HTTP: jobs with a common label, one table, and the queue's own promises."""

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.services.context import Context
from server.services.inspection import Inspection, inspect
from server.services.sweeps import sweep_ids, sweep_reply
from server.store.database import Database
from server.store.events import EventTable
from server.store.jobs import JobTable
from tests.conftest import labelled_rows
from tests.server.conftest import PROFILE, TASK

GRID = {"rule.learning_rate": [0.001, 0.02]}


def body(**more: Any) -> dict[str, Any]:
    quick = {"steps": 4, "evaluate.every": 2}
    rows = labelled_rows(20).rows()
    return {"dataset": rows, "profile": PROFILE, "task": TASK, "overrides": quick, "grid": GRID, **more}


def started(http: TestClient, **more: Any) -> dict[str, Any]:
    answer = http.post("/sweeps", json=body(**more))
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ended(http: TestClient, id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (found := http.get(f"/sweeps/{id}").json())["state"] != "ended":
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return dict(found)


def test_a_sweep_is_jobs_and_their_table(
    http: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = http.post("/sweeps/plan", json=body(each=[{"method.pool": 3}, {"method": {"pool": 4}}])).json()
    assert plan["count"] == 4
    assert plan["runs"][3]["settings"] == {"method.pool": 4, "rule.learning_rate": 0.02}
    assert plan["seconds"] >= max(run["seconds"] for run in plan["runs"]) > 0
    assert plan["bytes"] > 0
    assert http.get("/sweeps").json() == {"sweeps": []}

    sweep = started(http, name="rates", most_steps=3)
    assert (sweep["name"], sweep["count"], sweep["settings"]) == ("rates", 2, ["rule.learning_rate"])
    found = ended(http, sweep["id"])
    assert [run["state"] for run in found["runs"]] == ["succeeded", "succeeded"]
    assert all(run["steps"] == run["step"] == 3 for run in found["runs"])
    assert all(run["forwards"] > 0 and run["seconds"] > 0 and run["peak_bytes"] > 1 << 20 for run in found["runs"])
    values = [run["value"] for run in found["runs"]]
    assert (found["metric"], values) == ("accuracy", sorted(values, reverse=True))
    assert found["best"] == found["runs"][0]
    job = http.get(f"/jobs/{found['best']['run']}").json()
    assert job["sweep"] == sweep["id"]
    assert job["name"] == found["best"]["adapter"]
    assert {job["name"] for job in http.get("/jobs").json()["jobs"]} == {"rates-1", "rates-2"}
    # Of a job that has ended, the seconds are in its result.
    assert all(one.result and one.result["seconds"] > 0 for one in context.job_table.of_sweep(sweep["id"]))
    monkeypatch.setattr(EventTable, "seconds", None)
    assert http.get(f"/sweeps/{sweep['id']}").json() == found
    # The table is made from the jobs alone, so it is there after a restart.
    assert sweep_ids(context, 9) == [sweep["id"]]
    again = JobTable(Database(context.directory.database))
    assert [one.id for one in again.of_sweep(sweep["id"])] == [
        one.id for one in context.job_table.of_sweep(sweep["id"])
    ]
    assert sweep_reply(context, sweep["id"])["best"] == found["best"]


def test_a_ceiling_in_seconds_ends_each_job_with_an_evaluation(http: TestClient) -> None:
    sweep = started(http, most_seconds=1e-6, overrides={"steps": 5000, "evaluate.every": 5000})
    found = ended(http, sweep["id"])
    assert [(run["state"], run["step"]) for run in found["runs"]] == [("succeeded", 1)] * 2
    assert all(run["value"] is not None for run in found["runs"])


def test_a_sweep_is_cancelled_as_a_whole_and_made_once(http: TestClient) -> None:
    long = body(overrides={"steps": 100_000, "evaluate.holdout": 0})
    headers = {"Idempotency-Key": "once"}
    sweep = http.post("/sweeps", json=long, headers=headers).json()
    assert http.post("/sweeps", json=long, headers=headers).json()["id"] == sweep["id"]
    assert http.post("/sweeps", json=body(), headers=headers).status_code == 409
    assert http.post(f"/sweeps/{sweep['id']}/cancel").status_code == 202
    found = ended(http, sweep["id"])
    assert {run["state"] for run in found["runs"]} == {"cancelled"}
    assert found["best"] is None
    assert http.post(f"/sweeps/{sweep['id']}/cancel").status_code == 409


def test_a_request_that_comes_twice_at_once_makes_one_sweep(
    http: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Idempotency-Key": "twice"}
    sweep = http.post("/sweeps", json=body(name="twice"), headers=headers).json()
    # The second request looked before the first one had written.
    monkeypatch.setattr(context.job_table, "of_key", lambda key: None)
    again = http.post("/sweeps", json=body(name="twice"), headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, sweep["id"]), again.text
    assert http.post("/sweeps", json=body(name="other"), headers=headers).status_code == 409
    assert [job.name for job in context.job_table.page(before=None, limit=2)] == ["twice-2", "twice-1"]
    ended(http, sweep["id"])


def test_rows_of_a_job_with_wrong_settings_are_not_stored(http: TestClient) -> None:
    before = http.get("/datasets").json()
    job = {"dataset": labelled_rows(21).rows(), "task": TASK, "profile": PROFILE, "overrides": {"method.poool": 3}}
    assert http.post("/jobs", json=job).status_code == 422
    assert http.get("/datasets").json() == before


def test_rows_are_read_once_for_jobs_that_read_them_alike(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def counted(*given: Any) -> Inspection:
        read.append(given)
        return inspect(*given)

    monkeypatch.setattr("server.services.jobs.inspect", counted)
    rates = body(dataset=labelled_rows(23).rows(), each=[{"method.pool": 3}, {"method.pool": 4}])
    assert http.post("/sweeps/plan", json=rates).json()["count"] == 4
    assert len(read) == 1
    rates |= {"grid": {"batch.max_tokens": [48, 64]}, "most_steps": 1}
    sweep = http.post("/sweeps", json=rates).json()
    assert len(read) == 3
    ended(http, sweep["id"])


def test_rows_of_a_sweep_that_the_queue_has_no_room_for_are_not_stored(
    http: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = http.get("/datasets").json()
    monkeypatch.setattr(context, "settings", context.settings.model_copy(update={"max_waiting_jobs": 1}))
    assert http.post("/sweeps", json=body(dataset=labelled_rows(22).rows())).status_code == 429
    assert http.get("/datasets").json() == before


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"grid": {"method.poool": [3]}}, 422, "run 1 (method.poool=3)"),
        ({"grid": {"rule.learning_rate": 0.1}}, 422, "grid"),
        ({"grid": None}, 422, "send grid, each, or both"),
        ({"grid": {"steps": list(range(1, 102))}}, 422, "these are 101 runs"),
        ({"grid": {"steps": [2, 3]}, "name": "rates"}, 409, "named 'rates-1' already"),
        ({"grdi": {}}, 422, "did you mean 'grid'"),
    ],
)
def test_nothing_is_queued_if_one_job_cannot_be_used(
    http: TestClient, more: dict[str, Any], status: int, says: str
) -> None:
    before = http.get("/jobs").json()["jobs"]
    answer = http.post("/sweeps", json=body(**more))
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert len(http.get("/jobs").json()["jobs"]) == len(before)
    assert http.get("/sweeps/sweep_none").status_code == 404


def test_the_newest_sweeps_are_listed_first(http: TestClient, context: Context) -> None:
    made = [started(http, name=name, most_steps=1)["id"] for name in ("older", "newer")]
    assert sweep_ids(context, 2) == made[::-1]
    assert [one["id"] for one in http.get("/sweeps?limit=1").json()["sweeps"]] == [made[1]]
    assert http.get("/sweeps?limit=0").status_code == 422
    ended(http, made[1])
