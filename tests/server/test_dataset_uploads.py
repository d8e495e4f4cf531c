"""Uploads of datasets: full disks, limits, forms, names of files, and what is left by a server that was killed."""

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.services.context import Context
from server.services.dataset_service import DatasetService
from server.store.database import Database
from server.store.datasets import DatasetTable
from server.store.directory import DataDirectory
from tests.server.test_bad_input import problem
from tests.server.uploading import ROWS, lines, upload

SECRET = "the patient is called Ann"


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
