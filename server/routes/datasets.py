"""Uploads: read whole, checked row by row, and only then kept."""

import json
from pathlib import PurePath
from statistics import fmean
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from server.context import Context, Server
from server.data.register import DatasetRow
from server.ids import content_id, new_id
from server.schemas import BenchmarkRows, RowsBody
from server.task_files import read_task_file
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.tokenization import Targets, tokenize
from steerzo_edge.errors import InputError

router = APIRouter(tags=["datasets"])
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string"},
                    "task": {"type": "string", "description": "The benchmark task whose release this is."},
                },
            }
        },
        "application/json": {"schema": RowsBody.model_json_schema()},
    },
}


@router.post("/datasets", status_code=201, openapi_extra={"requestBody": _BODY})
async def upload(request: Request, response: Response, server: Server) -> dict[str, Any]:
    """Takes JSON lines or CSV as multipart field `file`, or {"rows": [...]} as JSON.

    `task` names a benchmark task, if the rows have the fields of its release.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=8) as form:
            file, name, task = form.get("file"), form.get("name"), form.get("task")
            if not isinstance(file, UploadFile):
                raise InputError("the form has no field `file`", hint="curl -F file=@data.jsonl URL/datasets")
            data = await file.read()
            filename = PurePath(file.filename or "dataset").name
        title = name if isinstance(name, str) and name else filename
        benchmark = task if isinstance(task, str) and task else None
        row = await run_in_threadpool(_keep_file, server, data, filename, title[:100], benchmark)
    elif kind == "application/json":
        body = await run_in_threadpool(_rows_body, await request.body())
        row = await run_in_threadpool(keep_rows, server, body.rows, body.name, body.task)
    else:
        raise InputError(
            f"Content-Type is {kind or 'missing'!r}", hint="Send multipart/form-data or application/json."
        )
    response.headers["Location"] = f"/datasets/{row.id}"
    return shown(row)


@router.get("/datasets")
def list_datasets(server: Server) -> dict[str, Any]:
    """All datasets, newest first."""
    return {"datasets": [shown(row) for row in server.register.datasets()]}


@router.get("/datasets/{dataset_id}")
def show_dataset(dataset_id: str, server: Server) -> dict[str, Any]:
    """One dataset."""
    return shown(server.register.dataset(dataset_id))


def keep_rows(
    server: Context, rows: list[dict[str, Any]], name: str | None, benchmark: str | None = None
) -> DatasetRow:
    """Checks and stores rows that came inside a JSON body.

    Raises:
        DatasetError: Naming every bad row.
    """
    dataset = read_rows(rows, benchmark=benchmark)
    kept = dataset.rows() if benchmark is None else rows
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()
    return _keep(server, dataset, data, name or "rows", csv=False, benchmark=benchmark)


def keep_benchmark(server: Context, rows: BenchmarkRows) -> DatasetRow:
    """Rows that a job names as a benchmark's, as a dataset: a job needs nothing else when it goes on later.

    Raises:
        DatasetError: Naming every bad row.
        InputError: If a path is given that may not be read.
        NotFoundError: If there is no such dataset or file.
    """
    if rows.dataset is not None:
        old = server.register.dataset(rows.dataset)
        if old.benchmark == rows.task:
            return old
        data, file, title = server.library.bytes_of(old), old.file, old.name
    else:
        assert rows.path is not None
        settings = server.settings
        data, file = read_task_file(settings.tasks_dir, rows.path, settings.max_upload_bytes), rows.path
        title = rows.path[-100:]
    dataset = read_dataset(data, name=PurePath(file).name, benchmark=rows.task)
    # The same request again finds the same dataset, so that an idempotency key still means one job.
    id = content_id("ds", rows.task.encode(), file.encode(), data)
    csv = file.lower().endswith(".csv")
    return _keep(server, dataset, data, title, csv=csv, benchmark=rows.task, id=id)


def shown(row: DatasetRow) -> dict[str, Any]:
    """A dataset as the API gives it."""
    return {"id": row.id, "name": row.name, "created": row.created, **row.facts}


def _keep_file(server: Context, data: bytes, filename: str, title: str, benchmark: str | None) -> DatasetRow:
    dataset = read_dataset(data, name=filename, benchmark=benchmark)
    return _keep(server, dataset, data, title, csv=filename.lower().endswith(".csv"), benchmark=benchmark)


def _keep(
    server: Context,
    dataset: Dataset,
    data: bytes,
    title: str,
    *,
    csv: bool,
    benchmark: str | None = None,
    id: str | None = None,
) -> DatasetRow:
    facts = _facts(server, dataset) | {"bytes": len(data)}
    if benchmark is not None:
        facts |= {"task": benchmark, "metric": dataset.metric}
    id = id or new_id("ds")
    return server.register.add(id, title, server.library.keep(id, data, csv=csv), facts)


def _facts(server: Context, dataset: Dataset) -> dict[str, Any]:
    facts: dict[str, Any] = {"rows": len(dataset), "format": dataset.format}
    labels = list(dataset.labels)
    if dataset.format == "classification":
        facts["labels"] = labels
        if len(labels) < 2:
            return facts
    data = tokenize(dataset, server.tokenizer, server.device.base.context_length)
    lengths = (
        [len(row.tokens) for row in data.rows]
        if isinstance(data, Targets)
        else [len(row.prompt) for row in data.rows]
    )
    return facts | {
        "tokens": {"total": sum(lengths), "mean": round(fmean(lengths), 1), "longest": max(lengths)},
        "truncated": data.truncated,
    }


def _rows_body(data: bytes) -> RowsBody:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from None
    return RowsBody.parse(value, where="body")
