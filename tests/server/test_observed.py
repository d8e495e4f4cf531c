"""What the server says of itself: the log, the metrics, and whether it is ready."""

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from server.access.request_log import UNMATCHED
from server.logs import REQUEST, JsonLines, TextLines
from server.metrics import Gauge, Metrics
from server.store.lock import DirectoryLock
from steerzo_edge.errors import ConflictError
from steerzo_edge.records import EvalRecord, StepRecord
from tests.server.access import app_in, client_of, context_of


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Metrics as (name, values of the labels in the order of their names...) and value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def step(number: int, forwards: int, tokens: int) -> StepRecord:
    return StepRecord(number, 1.0, 0.0, 0.1, 0.1, forwards, tokens, 0.2, 0)


def test_the_forwards_of_a_run_are_counted_once() -> None:
    metrics = Metrics()
    metrics.recorded("job_a", step(0, 10, 1000))
    metrics.recorded("job_a", step(1, 14, 1500))
    metrics.recorded("job_a", EvalRecord(2, 1.0, None, 5, True))
    # A run that continues after a restart: the process before it counted the forwards up to there.
    metrics.recorded("job_b", step(7, 900, 90_000))
    metrics.recorded("job_b", step(8, 904, 90_100))
    metrics.job_ended("job_a", "succeeded")
    metrics.job_ended("job_b", "failed", "diverged")
    found = samples(metrics.text().decode())
    assert found["steerzo_steps_total",] == 4
    assert found["steerzo_forwards_total",] == 14 + 4
    assert found["steerzo_trained_tokens_total",] == 1500 + 100
    assert found["steerzo_step_seconds_count",] == 4
    assert found["steerzo_step_seconds_sum",] == pytest.approx(0.8)
    assert found["steerzo_jobs_ended_total", "succeeded"] == 1
    assert found["steerzo_errors_total", "diverged", "job"] == 1


def test_prompts_are_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.answered("stop", prompt_tokens=5, generated_tokens=7, seconds=0.4, first_text_s=0.1)
    metrics.answered("cancelled", prompt_tokens=5, generated_tokens=0, seconds=0.2, first_text_s=None)
    found = samples(metrics.text().decode())
    assert found["steerzo_prompts_total", "stop"] == found["steerzo_prompts_total", "cancelled"] == 1
    assert found["steerzo_prompt_tokens_total",] == 10
    assert found["steerzo_generated_tokens_total",] == 7
    assert (found["steerzo_prompt_seconds_count",], found["steerzo_first_token_seconds_count",]) == (2, 1)


def test_gauges_show_present_values() -> None:
    metrics, values = Metrics(), {"queued": 1.0}
    metrics.watch([Gauge("jobs", "Jobs.", lambda: values, "state"), Gauge("one", "One.", lambda: 2.0)])
    values["queued"] = 3.0
    found = samples(metrics.text().decode())
    assert found["steerzo_jobs", "queued"] == 3
    assert found["steerzo_one",] == 2


def test_requests_are_counted_by_route_and_never_by_path(tmp_path: Path) -> None:
    client = client_of(app_in(tmp_path))
    client.get("/jobs/canary-in-a-path")
    client.get("/canary-nowhere")
    client.request("CANARY", "/jobs")
    client.post("/v1/chat/completions", content=b"{canary", headers={"Content-Type": "application/json"})
    client.get("/jobs", headers={"Host": "canary.example"})
    text = client.get("/metrics").text
    assert "canary" not in text.lower()
    found = samples(text)
    assert found["steerzo_requests_total", "GET", "/jobs/{job_id}", "404"] == 1
    assert found["steerzo_requests_total", "GET", UNMATCHED, "404"] == 1
    assert found["steerzo_requests_total", "GET", UNMATCHED, "421"] == 1
    assert found["steerzo_requests_total", "other", "/jobs", "405"] == 1
    assert found["steerzo_errors_total", "not-found", "http"] == 2
    assert found["steerzo_errors_total", "unknown-host", "http"] == 1
    assert found["steerzo_errors_total", "method-not-allowed", "http"] == 1
    assert any(name[1:3] == ("POST", "/v1/chat/completions") for name in found)
    assert found["steerzo_jobs", "queued"] == 0
    assert found["process_resident_memory_bytes",] > 1e6
    assert found["process_start_time_seconds",] > 1e9
    assert found["steerzo_data_bytes",] > 0
    assert found["steerzo_device_memory_bytes", "allocated"] > 0


def test_two_apps_have_separate_counters(tmp_path: Path) -> None:
    first, second = (client_of(app_in(tmp_path / name)) for name in ("a", "b"))
    first.get("/jobs")
    assert ("steerzo_requests_total", "GET", "/jobs", "200") in samples(first.get("/metrics").text)
    assert ("steerzo_requests_total", "GET", "/jobs", "200") not in samples(second.get("/metrics").text)


def record(message: str, *arguments: object, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("server.test", logging.INFO, "x.py", 1, message, arguments, info)
    made.__dict__.update(extra)
    return made


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_lines_name_their_job_and_their_request() -> None:
    token = REQUEST.set("req_0000000000000001")
    try:
        line = json.loads(JsonLines().format(record("job %s: gone", "job_0123456789abcdef", fields={"ms": 1.5})))
        text = TextLines().format(record("step %d", 3, job="job_0123456789abcdef"))
    finally:
        REQUEST.reset(token)
    assert line["message"] == "job job_0123456789abcdef: gone"
    assert (line["job"], line["request"], line["ms"]) == ("job_0123456789abcdef", "req_0000000000000001", 1.5)
    assert (line["level"], line["logger"]) == ("info", "server.test")
    assert line["time"].endswith("Z")
    assert text.endswith("server.test: step 3 [request=req_0000000000000001 job=job_0123456789abcdef]")
    assert "job" not in json.loads(JsonLines().format(record("a job_name of a user")))


@pytest.mark.parametrize("lines", [TextLines, JsonLines])
def test_errors_say_where_and_not_what(lines: type[TextLines]) -> None:
    try:
        try:
            raise KeyError("canary one")
        except KeyError as first:
            raise ValueError("canary two") from first
    except ValueError as error:
        text = lines().format(record("it failed", error=error))
        told = lines(messages=True).format(record("it failed", error=error))
    assert "canary" not in text
    assert "ValueError" in text
    assert "KeyError" in text
    assert "test_errors_say_where" in text
    assert "canary one" in told
    assert "canary two" in told
    full = lines().format(record("it failed", error=raised(OSError(28, "No space left on device"))))
    assert "No space left on device" in full
    if lines is JsonLines:
        assert "\n" not in text


def test_an_unexpected_error_is_one_problem_and_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_in(tmp_path)

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(context_of(app).job_table, "get", fail)
    for path in ("/jobs/x", "/v1/fine_tuning/jobs/x"):
        response = client_of(app).get(path)
        assert response.status_code == 500
        assert "canary" not in response.text
        assert "Traceback" not in response.text
        assert response.headers["x-request-id"].startswith("req_")
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "canary" in caplog.text  # pytest's own lines show what errors say; ours do not:
    assert not any("canary" in JsonLines().format(line) for line in caplog.records)


@pytest.fixture
def started(tiny_path: Path, tmp_path: Path) -> Iterator[tuple[FastAPI, TestClient]]:
    """The whole app in this process, the tiny base loaded."""
    app = app_in(tmp_path, model={"id": str(tiny_path), "quantization": "none", "compute_dtype": "float32"})
    with client_of(app) as client:
        while client.get("/readyz").status_code != 200:
            assert context_of(app).device.is_alive, context_of(app).failure
        yield app, client


def test_ready_means_that_every_part_answers(
    started: tuple[FastAPI, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = started
    context = context_of(app)

    def says(words: str) -> None:
        context.wrote_at = -1e9
        response = client.get("/readyz")
        assert response.status_code == 503, words
        assert words in response.json()["detail"]
        assert str(context.directory.root) not in response.text
        assert int(response.headers["retry-after"]) > 0

    def ready() -> None:
        context.wrote_at = -1e9
        assert client.get("/readyz").status_code == 200

    def no_write(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    def no_transaction() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    ready()
    with monkeypatch.context() as patched:
        patched.setattr(type(context.device), "time_slice_s", property(lambda device: 1e6))
        says("time slice of the device has taken 1000000 s")
    with monkeypatch.context() as patched:
        patched.setattr("server.services.readiness.os.fsync", no_write)
        says("cannot be written")
    with monkeypatch.context() as patched:
        patched.setattr(context.database, "writing", no_transaction)
        says("cannot be written")
    with monkeypatch.context() as patched:
        patched.setattr(context.quota, "_least_free_bytes", 1 << 60)
        says("MiB free")
    ready()
    assert sorted(path.name for path in context.directory.root.glob(".*")) == []
    context.lock.release()
    says("not locked")
    context.device.stop()
    context.device.join(10)
    says("thread has ended")


def test_not_ready_before_the_base_is_loaded_but_alive(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    assert client_of(app).get("/readyz").json()["code"] == "not-ready"
    context_of(app).failure = OSError("/secret/path")
    response = client_of(app).get("/readyz")
    assert response.status_code == 503
    assert "/secret/path" not in response.text
    assert client_of(app).get("/healthz").json()["status"] == "alive"


def test_prompts_of_a_running_server_are_counted(started: tuple[FastAPI, TestClient]) -> None:
    _, client = started
    assert client.post("/generate", json={"prompt": "abc", "max_new_tokens": 3}).status_code == 200
    body = {"messages": [{"role": "user", "content": "abc"}], "model": "base", "max_tokens": 3}
    client.post("/v1/chat/completions", json=body)
    found = samples(client.get("/metrics").text)
    assert found["steerzo_prompt_seconds_count",] >= 1
    assert found["steerzo_generated_tokens_total",] >= 1
    assert found["steerzo_first_token_seconds_count",] >= 1


def test_one_server_for_a_directory(tmp_path: Path) -> None:
    import os

    first = DirectoryLock(tmp_path / "data")
    with pytest.raises(ConflictError, match=rf"running server \(process {os.getpid()}\)"):
        DirectoryLock(tmp_path / "data")
    first.release()
    DirectoryLock(tmp_path / "data").release()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_second_app_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    first = app_in(tmp_path)
    with pytest.raises(ConflictError, match="belongs to a running server"):
        app_in(tmp_path)
    context_of(first).lock.release()
    app_in(tmp_path)


def test_files_of_an_older_server_become_private(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "jobs").mkdir(parents=True, mode=0o755)
    (data / "steerzo.sqlite").touch(mode=0o644)
    DirectoryLock(data).release()
    assert (data / "jobs").stat().st_mode & 0o077 == 0
    assert (data / "steerzo.sqlite").stat().st_mode & 0o077 == 0
