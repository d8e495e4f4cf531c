"""Datasets over HTTP: every format, the same upload twice, a preview, use by jobs, deletion."""

import gzip
import hashlib
import io
import json
import time
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from pyarrow import parquet

from server.services.context import Context
from tests.server.conftest import PROFILE
from tests.server.test_bad_input import problem
from tests.server.uploading import ROWS, lines, upload


def as_parquet(rows: list[Any]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


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


def test_fields_that_are_not_used_are_in_the_answer_and_in_the_job_s_log(http: TestClient) -> None:
    rows = [{**row, "note": "<|end|>"} for row in ROWS]
    found = upload(http, "noted.jsonl", lines(rows))
    assert (found["ignored"], found["warnings"], found["container"]) == ({"note": 24}, [], "JSON lines")
    spelled = [{**row, "text": f"{row['text']} <|end|>"} for row in ROWS]
    told = upload(http, "spelled.jsonl", lines(spelled))["warnings"]
    assert len(told) == 1
    assert told[0].startswith("24 rows spell control tokens")
    body = {"dataset": rows, "profile": PROFILE}
    assert "dataset: ignored: note (24 rows)" in http.post("/estimate", json=body).json()["warnings"]
    job = http.post("/jobs", json=body).json()["id"]
    ended(http, job)
    log = http.get(f"/jobs/{job}/metrics").json()["log"]
    assert any("ignored: note (24 rows)" in str(entry) for entry in log)


def test_packed_files_keep_their_bytes(http: TestClient, context: Context) -> None:
    data = gzip.compress(b"text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in ROWS).encode())
    found = upload(http, "rows.tsv.gz", data)
    assert found["container"] == "CSV separated by tabs, packed with gzip"
    row = context.dataset_table.get(found["id"])
    assert row.file.endswith(".tsv.gz")
    assert context.directory.bytes_of(row) == data
    assert http.get(f"/datasets/{row.id}/preview").json()["rows"][0]["segments"][0]["text"].startswith("bad 0")


def test_a_dataset_of_an_earlier_version_is_described_when_it_is_sent_again(
    http: TestClient, context: Context
) -> None:
    data = lines([{**row, "older": 1} for row in ROWS])
    found = upload(http, "older.jsonl", data)
    with context.database.writing() as db:
        facts = json.dumps({key: value for key, value in found.items() if key not in ("ignored", "warnings")})
        db.execute("UPDATE datasets SET facts = ? WHERE id = ?", (facts, found["id"]))
    again = http.post("/datasets", files={"file": ("older.jsonl", data)}).json()
    assert (again["id"], again["ignored"]) == (found["id"], {"older": 24})
    assert len([one for one in http.get("/datasets").json()["datasets"] if one["id"] == found["id"]]) == 1


def test_fields_with_other_names_are_mapped_and_stay_mapped(http: TestClient, context: Context) -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]
    names = "prompt=question,completion=answer"
    by_field = upload(http, "faq.jsonl", lines(rows), map=names)
    by_query = http.post(f"/datasets?map={names}", files={"file": ("faq.jsonl", lines(rows))}).json()
    assert by_query["id"] == by_field["id"]
    inline = http.post("/datasets", json={"rows": rows, "map": names}).json()
    for facts in (by_field, inline):
        assert (facts["format"], facts["map"]) == ("completion", {"prompt": "question", "completion": "answer"})
        dataset = context.directory.read(context.dataset_table.get(facts["id"]), None)
        assert dataset.rows() == [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
        seen = http.get(f"/datasets/{facts['id']}/preview").json()["rows"]
        assert [segment["text"] for segment in seen[0]["segments"]] == ["a", "b<|end|>"]
    other = upload(http, "faq.jsonl", lines(rows), map="completion=question,prompt=answer")
    assert other["id"] != by_field["id"]
    problem(http.post("/datasets?map=x", files={"file": ("faq.jsonl", lines(rows))}), 422, "invalid-input")


def test_the_fields_of_a_file_are_chosen_before_it_is_uploaded(http: TestClient) -> None:
    def look(**fields: str) -> dict[str, Any]:
        data = b"question;answer;by\n" + b"Where?;Here.;Ann\n" * 4
        answer = http.post("/datasets/preview", files={"file": ("faq.csv", data)}, data=fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    before = http.get("/datasets").json()
    found = look()
    assert (found["columns"], found["format"], found["rows"]) == (["question", "answer", "by"], None, [])
    assert "4 of 4 rows cannot be used" in found["problem"]
    assert found["formats"]["completion"] == ["prompt", "completion"]
    chosen = look(map="prompt=question,completion=answer")
    assert (chosen["format"], chosen["problem"], len(chosen["rows"])) == ("completion", None, 3)
    assert next(segment["text"] for segment in chosen["rows"][0]["segments"] if segment["target"]).startswith(
        "Here."
    )
    assert "names a field a second time" in look(map="prompt=question,completion=question")["problem"]
    assert http.get("/datasets").json() == before
