"""Routes of datasets: upload, list, preview, delete. Every row is checked before a dataset is stored."""

import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from server.dependencies import Server
from server.errors import TooLargeError
from server.routes.replies import DatasetReply, DatasetsReply, FieldChoicesReply, PreviewReply
from server.services.context import Context
from server.services.datasets import dataset_reply, keep_rows, keep_upload
from server.services.field_choices import looked_at
from server.services.request_bodies import RowsBody
from server.services.uploads import check_media_type, received
from server.store.datasets import DatasetRow
from steerzo_edge.data.kinds import KINDS
from steerzo_edge.data.preview import preview
from steerzo_edge.data.task import Task
from steerzo_edge.errors import InputError, TaskError

router = APIRouter(tags=["datasets"])
_FORM_FIELDS = {
    "file": {"type": "string", "format": "binary"},
    "format": {"type": "string", "description": "The format of the rows, such as plain."},
    "map": {"type": "string", "description": "Other names for fields: prompt=question."},
}
_LOOK = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": _FORM_FIELDS}}
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    **_FORM_FIELDS,
                    "name": {"type": "string"},
                    "task": {"type": "string", "description": "The benchmark task whose released file this is."},
                },
            }
        },
        "application/json": {"schema": RowsBody.model_json_schema()},
    },
}


@router.post(
    "/datasets", status_code=201, openapi_extra={"requestBody": _BODY}, responses={201: {"model": DatasetReply}}
)
async def upload(
    request: Request,
    response: Response,
    server: Server,
    map: Annotated[
        str | None, Query(max_length=4000, description="Other names for fields: prompt=question,completion=answer.")
    ] = None,
) -> dict[str, Any]:
    """Uploads a file of rows as the multipart field `file`, or {"rows": [...]} as JSON.

    The file is JSON lines, JSON, CSV, TSV or Parquet, also packed with gzip or zstd. `task` names a benchmark task
    if the rows have the fields of its released files; `format` names the format if the fields fit several; `map`
    names fields differently (prompt=question,completion=answer). Repeating an upload returns the stored dataset.
    """
    kind = check_media_type(request, "multipart/form-data", "application/json")
    if kind == "multipart/form-data":
        row = await _file(request, server, map)
    else:
        body = await run_in_threadpool(_rows_body, await _bytes(request, server.settings.max_body_bytes))
        row = await run_in_threadpool(
            keep_rows, server, body.rows, body.name, body.task, body.format, body.map or map
        )
    response.headers["Location"] = f"/datasets/{row.id}"
    return dataset_reply(row)


@router.post(
    "/datasets/preview", openapi_extra={"requestBody": _LOOK}, responses={200: {"model": FieldChoicesReply}}
)
async def look_at_fields(request: Request, server: Server) -> dict[str, Any]:
    """The fields of a file or of its first lines, and its first rows as they are trained on; stores nothing."""
    check_media_type(request, "multipart/form-data")
    async with received(request, server.directory.incoming()) as form:
        format, map = (form.fields.get(key) or None for key in ("format", "map"))
        return await run_in_threadpool(looked_at, server, form.file, format, map)


@router.get("/datasets", responses={200: {"model": DatasetsReply}})
def list_datasets(server: Server) -> dict[str, Any]:
    """All datasets, newest first."""
    return {"datasets": [dataset_reply(row) for row in server.dataset_table.rows()]}


@router.get("/datasets/{dataset_id}", responses={200: {"model": DatasetReply}})
def show_dataset(dataset_id: str, server: Server) -> dict[str, Any]:
    """One dataset."""
    return dataset_reply(server.dataset_table.get(dataset_id))


@router.get("/datasets/{dataset_id}/preview", responses={200: {"model": PreviewReply}})
def preview_dataset(
    dataset_id: str,
    server: Server,
    rows: Annotated[int, Query(ge=1, le=100, description="Most rows to show.")] = 5,
    template: Annotated[
        str | None, Query(max_length=4000, description="A prompt template for labelled rows, with {text}.")
    ] = None,
    max_tokens: Annotated[
        int | None, Query(ge=8, le=131_072, description="Longest row; by default the base's context length.")
    ] = None,
) -> dict[str, Any]:
    """The first rows as the model will see them, with the learned part marked."""
    row = server.dataset_table.get(dataset_id)
    task = None
    if template is not None:
        if not KINDS[row.facts["format"]].takes_task:
            raise InputError(f"a template needs text/label rows; the dataset is {row.facts['format']}")
        task = Task.parse({"template": template}, where="template", error=TaskError)
    context = server.device.base.context_length
    longest = min(max_tokens or context, context)
    dataset = server.directory.read(row, task, first=rows)
    # A row of a benchmark may hold many examples.
    first = dataset.pick(list(range(min(rows, len(dataset)))))
    seen = preview(first, server.tokenizer, longest, row.facts.get("labels", ()))
    return {
        "id": row.id,
        "format": row.facts["format"],
        "max_tokens": longest,
        "rows": [asdict(one) for one in seen],
    }


@router.delete("/datasets/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, server: Server) -> None:
    """Deletes a dataset, unless a job that has not ended uses it."""
    server.dataset_service.remove(dataset_id)


async def _file(request: Request, server: Context, map: str | None) -> DatasetRow:
    async with received(request, server.directory.incoming()) as form:
        name, task, format, own = (form.fields.get(key) or None for key in ("name", "task", "format", "map"))
        return await run_in_threadpool(keep_upload, server, form.file, name, task, format, own or map)


async def _bytes(request: Request, most: int) -> bytes:
    """A JSON body, which is parsed in memory and so may not be as large as a file."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise TooLargeError(
                f"the rows exceed {most} bytes", hint="Send them as a file: curl -F file=@data.jsonl URL/datasets"
            )
    return bytes(data)


def _rows_body(data: bytes) -> RowsBody:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from None
    return RowsBody.parse(value, where="body")
