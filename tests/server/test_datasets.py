"""Datasets over HTTP: every format, the same upload twice, a preview, deletion, full disks."""

import errno
import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

from server.app import create_app
from server.services.context import Context
from server.services.dataset_service import DatasetService
from server.settings import Settings
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from steerzo_edge.settings.sections import ModelConfig
from tests.server.conftest import PROFILE
from tests.server.test_bad_input import problem

ROWS: list[dict[str, Any]] = [
    {"text": f"{'good' if i % 2 else 'bad'} {i % 10}", "label": "yn"[i % 2]} for i in range(24)
]
SECRET = "the patient is called Ann"


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: list[Any]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def http(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("datasets"),
        model=ModelConfig(id=str(tiny_path), quantization="none"),
        max_upload_bytes=300_000,
        max_body_bytes=20_000,
    )
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield client


@pytest.fixture
def context(http: TestClient) -> Context:
    return http.app.state.context  # type: ignore[attr-defined,no-any-return]


def upload(http: TestClient, file: str, data: bytes, **fields: str) -> dict[str, Any]:
    response = http.post("/datasets", files={"file": (file, data)}, data=fields)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/datasets/{found['id']}"
    assert http.get(f"/datasets/{found['id']}").json() == found
    return found


def ended(http: TestClient, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (found := http.get(f"/jobs/{job}").json())["state"] not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return dict(found)


def test_the_same_rows_may_come_in_any_file(http: TestClient, context: Context) -> None:
    files = {
        "rows.jsonl": lines(ROWS),
        "rows.json": json.dumps(ROWS, indent=1).encode(),
        "rows.csv": b"text,label\n" + "".join(f"{r['text']},{r['label']}\n" for r in ROWS).encode(),
        "rows.parquet": as_parquet(ROWS),
    }
    found = [upload(http, name, data) for name, data in files.items()]
    for facts, (name, data) in zip(found, files.items(), strict=True):
        assert (facts["name"], facts["bytes"], facts["sha256"]) == (
            name,
            len(data),
            hashlib.sha256(data).hexdigest(),
        )
        assert (facts["rows"], facts["format"], facts["duplicates"]) == (24, "classification", 14)
        assert facts["balance"] == {"y": 12, "n": 12}
        assert facts["tokens"] == found[0]["tokens"]
        row = context.dataset_table.get(facts["id"])
        assert context.directory.bytes_of(row) == data
        assert context.directory.read(row, None).fingerprint == context.directory.read(row, None).fingerprint
    prints = {context.directory.read(context.dataset_table.get(facts["id"]), None).fingerprint for facts in found}
    assert len(prints) == 1


def test_formats_are_kept_as_they_were_named(http: TestClient, context: Context) -> None:
    rows = [{"instruction": "Add 1 and 2.", "output": "3"}, {"instruction": "Say hi.", "output": "hi"}]
    alpaca = upload(http, "alpaca.jsonl", lines(rows))
    inline = http.post("/datasets", json={"rows": rows}).json()
    assert alpaca["format"] == inline["format"] == "alpaca"
    plain = upload(http, "rows.jsonl", lines(ROWS), format="plain")
    assert (plain["format"], plain["sequences"]) == ("plain", 24)
    for facts in (alpaca, inline, plain):
        dataset = context.directory.read(context.dataset_table.get(facts["id"]), None)
        assert (dataset.format, len(dataset)) == (facts["format"], facts["rows"])
    assert http.post("/datasets", json={"rows": ROWS, "format": "plain"}).json()["format"] == "plain"
    response = http.post("/datasets", json={"rows": ROWS, "format": "yaml"})
    assert "sharegpt" in problem(response, 422, "invalid-dataset")["hint"]


def test_the_same_upload_again_is_the_same_dataset(http: TestClient, context: Context) -> None:
    data = lines(ROWS[:6])
    first = upload(http, "again.jsonl", data)
    held = context.directory.names()
    assert upload(http, "again.jsonl", data) == first
    assert context.directory.names() == held
    others = [
        upload(http, "again.jsonl", data, name="other"),
        upload(http, "again.jsonl", data, format="plain"),
        upload(http, "again.jsonl", data + b"\n"),
    ]
    assert len({facts["id"] for facts in (first, *others)}) == 4
    rows = {"rows": ROWS[:6], "name": "inline"}
    assert http.post("/datasets", json=rows).json() == http.post("/datasets", json=rows).json()


def test_the_first_rows_are_shown_as_the_model_will_see_them(http: TestClient) -> None:
    id = upload(http, "shown.jsonl", lines(ROWS))["id"]
    found = http.get(f"/datasets/{id}/preview").json()
    assert (found["id"], found["format"], found["max_tokens"], len(found["rows"])) == (id, "classification", 256, 5)
    assert found["rows"][1] == {
        "line": 2,
        "segments": [{"text": "good 1\nLabel:", "target": False}, {"text": " n", "target": True}],
        "options": [" n", " y"],
        "tokens": 15,
        "targets": 2,
        "truncated": False,
        "sequences": 1,
    }
    one = http.get(f"/datasets/{id}/preview", params={"rows": 1, "template": "{text} => ", "max_tokens": 8}).json()
    (row,) = one["rows"]
    assert row["segments"] == [{"text": "d 0 => ", "target": False}, {"text": "y", "target": True}]
    assert row["truncated"]
    url = f"/datasets/{id}/preview"
    problem(http.get(url, params={"template": "no place"}), 422, "invalid-task")
    problem(http.get(url, params={"rows": 0}), 422, "invalid-input")
    problem(http.get("/datasets/ds_x/preview"), 404, "not-found")
    plain = upload(http, "plain.jsonl", lines([{"text": "abc"}]))["id"]
    assert http.get(f"/datasets/{plain}/preview").json()["rows"][0]["segments"] == [
        {"text": "a", "target": False},
        {"text": "bc<|end|>", "target": True},
    ]
    problem(http.get(f"/datasets/{plain}/preview", params={"template": "{text}"}), 422, "invalid-input")


def test_a_benchmark_row_is_shown_as_its_first_examples(http: TestClient) -> None:
    answers = [{"text": f"answer {i}", "label": i % 2} for i in range(9)]
    row = {"passage": {"text": "A passage.", "questions": [{"question": "Why?", "answers": answers}]}}
    id = upload(http, "multirc.jsonl", lines([row, row]), task="multirc")["id"]
    rows = http.get(f"/datasets/{id}/preview", params={"rows": 3}).json()["rows"]
    assert [r["segments"][1]["text"] for r in rows] == ["No", "Yes", "No"]


def test_a_dataset_in_use_is_not_deleted(http: TestClient, context: Context) -> None:
    data = lines(ROWS[:20])
    train, judged = upload(http, "used.jsonl", data)["id"], upload(http, "judged.jsonl", lines(ROWS[18:]))["id"]
    body = {"dataset": train, "validation": judged, "profile": PROFILE, "overrides": {"steps": 400}}
    job = http.post("/jobs", json=body).json()["id"]
    for id in (train, judged):
        found = problem(http.delete(f"/datasets/{id}"), 409, "conflict")
        assert job in found["detail"]
        assert http.get(f"/datasets/{id}").status_code == 200
    assert http.post(f"/jobs/{job}/cancel").status_code < 300
    assert ended(http, job)["state"] == "cancelled"
    for id in (train, judged):
        file = context.dataset_table.get(id).file
        assert file in context.directory.names()
        response = http.delete(f"/datasets/{id}")
        assert (response.status_code, response.content) == (204, b"")
        assert file not in context.directory.names()
        problem(http.get(f"/datasets/{id}"), 404, "not-found")
        problem(http.delete(f"/datasets/{id}"), 404, "not-found")
    shown = http.get(f"/jobs/{job}")
    assert shown.status_code == 200
    assert shown.json()["dataset"] == train
    problem(http.post("/jobs", json=body), 404, "not-found")
    assert upload(http, "used.jsonl", data)["id"] == train
    assert http.delete(f"/datasets/{train}").status_code == 204


def test_a_job_is_not_queued_for_a_dataset_that_is_deleted_meanwhile(
    http: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = upload(http, "meanwhile.jsonl", lines(ROWS))["id"]

    def deleted(*arguments: object) -> None:
        context.dataset_service.remove(id)

    monkeypatch.setattr("server.services.inspection.warning_of", deleted)
    before = len(http.get("/jobs").json()["jobs"])
    problem(http.post("/jobs", json={"dataset": id, "profile": PROFILE}), 404, "not-found")
    assert len(http.get("/jobs").json()["jobs"]) == before


def test_validation_rows_that_are_learned_too_are_told(http: TestClient, context: Context) -> None:
    distinct = [{"text": f"text {i}", "label": "yn"[i % 2]} for i in range(12)]
    body = {"dataset": distinct, "profile": PROFILE, "overrides": {"steps": 1}}
    told = http.post("/jobs", json={**body, "validation": [*distinct[8:], {"text": "new", "label": "y"}]}).json()
    quiet = http.post("/jobs", json=body).json()
    messages = [
        [event.data["message"] for event in context.job_table.events.read(j["id"], kinds=["log"])]
        for j in (told, quiet)
    ]
    assert any("4 of the 5 validation rows are also among the training rows" in text for text in messages[0])
    assert not any("validation rows" in text for text in messages[1])
    for job in (told, quiet):
        assert ended(http, job["id"])["state"] == "succeeded"


def fail_to_sync(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("server.services.uploads.os.fsync", fail)


def fail_to_rename(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", fail)


def fill_the_database(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    """SQLite's own word for a full disk: no page more than there are."""
    database = context.dataset_table._database
    ((pages,),) = database.rows("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages}")


@pytest.mark.parametrize(
    ("fault", "says"),
    [(fail_to_sync, "disk is full"), (fail_to_rename, "failed to read or write"), (fill_the_database, "is full")],
)
def test_a_full_disk_leaves_nothing_behind(
    http: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch, fault: Any, says: str
) -> None:
    labels = [{"text": f"{i}", "label": f"{fault.__name__} {i} {'x' * 20}"} for i in range(300)]
    files, known = context.directory.names(), http.get("/datasets").json()
    with monkeypatch.context() as patch:
        fault(patch, context)
        try:
            for _ in range(2):
                found = problem(
                    http.post("/datasets", files={"file": ("r.jsonl", lines(labels))}), 507, "storage-failed"
                )
                assert says in found["detail"]
            problem(http.post("/datasets", json={"rows": labels[:150]}), 507, "storage-failed")
        finally:
            context.dataset_table._database.rows("PRAGMA max_page_count = 1000000")
    assert context.directory.names() == files
    assert http.get("/datasets").json() == known
    upload(http, "r.jsonl", lines(labels))


def test_uploads_above_the_limit_leave_nothing_behind(http: TestClient, context: Context) -> None:
    files = context.directory.names()
    big = lines(ROWS * 400)
    assert len(big) > 300_000
    problem(http.post("/datasets", files={"file": ("big.jsonl", big)}), 413, "too-large")

    def chunks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield from (big[at : at + 10_000] for at in range(0, len(big), 10_000))
        yield b"\r\n--x--\r\n"

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(http.post("/datasets", content=chunks(), headers=form), 413, "too-large")
    # Rows inside JSON become objects at once, so they have the limit of all other bodies.
    document = problem(http.post("/datasets", json={"rows": ROWS * 40}), 413, "too-large")
    assert "file" in document["hint"]
    assert context.directory.names() == files


def test_forms_that_cannot_be_read(http: TestClient, context: Context) -> None:
    files = context.directory.names()
    part = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    file = part.format("file", '; filename="a.jsonl"', lines(ROWS[:2]).decode())
    bodies = {
        "no boundary": ("multipart/form-data", file + "--x--"),
        "ends before": ("multipart/form-data; boundary=x", file),
        "no field `file`": ("multipart/form-data; boundary=x", part.format("name", "", "n") + "--x--"),
        "two fields `file`": ("multipart/form-data; boundary=x", file + file + "--x--"),
        "more than 8": (
            "multipart/form-data; boundary=x",
            "".join(part.format(f"n{i}", "", "") for i in range(9)) + file + "--x--",
        ),
        "too long": ("multipart/form-data; boundary=x", part.format("name", "", "n" * 70_000) + file + "--x--"),
        "cannot be read": ("multipart/form-data; boundary=x", "nonsense"),
    }
    for says, (kind, body) in bodies.items():
        response = http.post("/datasets", content=body.encode(), headers={"Content-Type": kind})
        assert says in problem(response, 422, "invalid-input")["detail"]
    assert context.directory.names() == files
    response = http.post(
        "/datasets", content=(file + "--x--").encode(), headers={"Content-Type": bodies["too long"][0]}
    )
    assert response.json()["name"] == "a.jsonl"


def test_names_are_the_servers_own(http: TestClient, context: Context) -> None:
    root = context.directory.root
    before = sorted(path for path in root.parent.rglob("*") if path.parent != root / "datasets")
    for name in (
        "../../evil.jsonl",
        "/etc/evil.csv.jsonl",
        "..\\evil.json",
        ".partial",
        "a\0b.jsonl",
        "x\ny" * 300,
    ):
        found = upload(http, name, lines([*ROWS, {"text": name[:9], "label": "y"}]))
        assert found["name"].isprintable()
        assert len(found["name"]) <= 100
        assert "/" not in found["name"]
        assert "\\" not in found["name"]
        file = context.dataset_table.get(found["id"]).file
        assert file.startswith(found["id"])
        assert file in context.directory.names()
    assert sorted(path for path in root.parent.rglob("*") if path.parent != root / "datasets") == before


def test_rows_are_not_logged(http: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bad = [{"text": SECRET}, {"text": [SECRET], "label": "x"}, SECRET]
    problem(http.post("/datasets", files={"file": ("r.jsonl", lines(bad))}), 422, "invalid-dataset")
    problem(http.post("/datasets", json={"rows": bad[:2]}), 422, "invalid-dataset")
    id = upload(http, "r.jsonl", lines([{"text": SECRET, "label": "a"}, {"text": SECRET, "label": "b"}]))["id"]
    assert SECRET in http.get(f"/datasets/{id}/preview").text
    assert SECRET not in caplog.text


def dataset_service(root: Path) -> DatasetService:
    directory = DataDirectory(root)
    return DatasetService(DatasetTable(Database(directory.database)), directory)


def test_what_a_killed_server_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    held = dataset_service(tmp_path)
    directory = held._directory
    (tmp_path / "datasets" / "old.jsonl").write_bytes(b"a file that this database never knew")
    incoming, _ = directory.stage(b"half")
    held.sweep()
    # If the database is new, old files are kept; only unfinished uploads are removed.
    assert directory.names() == ["old.jsonl"]
    row = held.add("ds_1", "one", directory.stage(b"whole")[0], ".jsonl", {"format": "plain"})
    directory.stage(b"half")
    held.sweep()
    assert directory.names() == [row.file]
    assert directory.bytes_of(row) == b"whole"
    assert not incoming.exists()
    held._table._database.close()
