"""Files by the real `openai` client, unchanged, against a real server: uploaded, listed, deleted, refused."""

import json
from typing import Any

import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI

from server.commands.client import Client
from tests.server.openai_jobs import EXTRA, ROWS, job_when, refusal


def test_a_file_is_a_dataset(openai: OpenAI, client: Client, file: str) -> None:
    found = openai.files.retrieve(file)
    assert (found.object, found.purpose, found.status, found.filename) == (
        "file",
        "fine-tune",
        "processed",
        "turns.jsonl",
    )
    content = openai.files.content(file).read()
    assert [json.loads(line) for line in content.splitlines()] == ROWS
    assert found.bytes == len(content)
    assert client.get(f"/datasets/{file}")["rows"] == len(ROWS)
    uploaded = client.post("/datasets", {"rows": [{"prompt": "a", "completion": "b"}]})["id"]
    assert openai.files.retrieve(uploaded).bytes > 0


def test_files_are_listed_in_pages(openai: OpenAI, client: Client, file: str) -> None:
    for index in range(3):
        client.post("/datasets", {"rows": [{"prompt": f"page {index}", "completion": "b"}]})
    whole = [found.id for found in openai.files.list()]
    assert file in whole
    assert [found.id for found in openai.files.list(limit=2)] == whole
    assert [found.id for found in openai.files.list(order="asc")] == whole[::-1]
    assert list(openai.files.list(purpose="batch")) == []


def test_a_file_is_deleted_once_nothing_needs_it(openai: OpenAI, client: Client, base: str) -> None:
    rows = b"".join(b'{"prompt": "to go %d", "completion": "b"}\n' % index for index in range(12))
    file = openai.files.create(file=("to-go.jsonl", rows), purpose="fine-tune").id
    assert openai.files.create(file=("to-go.jsonl", rows), purpose="fine-tune").id == file
    extra = {**EXTRA, "overrides": {"steps": 100_000}}
    job = openai.fine_tuning.jobs.create(model=base, training_file=file, extra_body=extra).id
    with pytest.raises(ConflictError) as error:
        openai.files.delete(file)
    assert job in refusal(error)["message"]
    openai.fine_tuning.jobs.cancel(job)
    job_when(openai, job, "cancelled")
    gone = openai.files.delete(file)
    assert (gone.id, gone.deleted) == (file, True)
    for call in (openai.files.retrieve, openai.files.content, openai.files.delete):
        with pytest.raises(NotFoundError):
            call(file)
    assert client.http.get(f"/datasets/{file}").status_code == 404
    assert openai.fine_tuning.jobs.retrieve(job).training_file == file


@pytest.mark.parametrize(
    ("data", "purpose", "param", "says"),
    [
        (
            b'{"prompt": "a", "completion": 7}\nnonsense\n{"prompt": "a"}',
            "fine-tune",
            None,
            ["line 1", "line 2", "line 3"],
        ),
        (b"", "fine-tune", None, ["empty"]),
        (b'{"prompt": "a", "completion": "b"}', "batch", "purpose", ["fine-tune"]),
    ],
)
def test_files_that_cannot_be_used(
    openai: OpenAI, data: bytes, purpose: Any, param: str | None, says: list[str]
) -> None:
    with pytest.raises(BadRequestError) as error:
        openai.files.create(file=("rows.jsonl", data), purpose=purpose)
    found = refusal(error)
    assert found["param"] == param
    assert all(word in found["message"] for word in says), found


def test_a_file_names_its_fields_that_are_not_used(openai: OpenAI) -> None:
    rows = b'{"text": "a", "label": "x", "note": "n"}\n'
    file = openai.files.create(file=("noted.jsonl", rows), purpose="fine-tune")
    assert (file.model_extra or {})["ignored"] == {"note": 1}
    assert "the only row has the label 'x'" in (file.model_extra or {})["warnings"][0]
