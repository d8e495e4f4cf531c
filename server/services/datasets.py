"""Checks uploaded rows, and stores them as datasets.

The same bytes under the same name, task and format are the same dataset. So a client that did not receive the
answer can send the upload again without storing it twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from server.ids import content_id
from server.services.context import Context
from server.services.request_bodies import BenchmarkRows
from server.services.task_files import read_task_file
from server.services.uploads import Upload
from server.store.datasets import DatasetRow
from server.system_errors import disk_errors_as_storage_errors
from steerzo_edge.data.examples import Dataset
from steerzo_edge.data.mapping import parsed_map
from steerzo_edge.data.reading import read_dataset, read_rows
from steerzo_edge.data.statistics import statistics

TITLE_CHARACTERS = 100
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
PACKED = ("", ".gz", ".zst")


def keep_upload(
    server: Context,
    upload: Upload,
    title: str | None = None,
    benchmark: str | None = None,
    format: str | None = None,
    map: str | None = None,
) -> DatasetRow:
    """Checks an uploaded file and stores it as a dataset.

    Args:
        server: The server's parts.
        upload: The file; it is moved.
        title: The dataset's name; by default the file's.
        benchmark: The benchmark task whose release it is.
        format: The format of the rows; by default determined from their fields.
        map: Other names for fields, as `parsed_map` takes them.

    Raises:
        DatasetError: Naming every bad row.
        InputError: If the map cannot be used.
        StorageError: If the disk is full or fails.
    """
    title = "".join(filter(str.isprintable, title or upload.name))[:TITLE_CHARACTERS]
    suffix = _suffix(upload.name)
    names = parsed_map(map) if map else None
    id = _id(title, benchmark, format, suffix, upload.sha256, names)
    held = server.dataset_table.find(id)
    if held is not None and "ignored" in held.facts:  # versions that stored no such fact did not look for it
        return held
    with disk_errors_as_storage_errors():
        data = upload.path.read_bytes()
        dataset = read_dataset(data, name=upload.name, benchmark=benchmark, format=format, names=names)
        facts = _facts(server, dataset, benchmark, names) | {"bytes": upload.bytes, "sha256": upload.sha256}
        added = server.dataset_service.add(id, title, upload.path, suffix, facts)
        return added if held is None else replace(held, facts=facts)


def keep_rows(
    server: Context,
    rows: list[dict[str, Any]],
    name: str | None,
    benchmark: str | None = None,
    format: str | None = None,
    map: str | None = None,
) -> DatasetRow:
    """Checks rows from a JSON body and stores them as a dataset.

    Raises:
        DatasetError: Naming every bad row.
        InputError: If the map cannot be used.
        StorageError: If the disk is full or fails.
    """
    names = parsed_map(map) if map else None
    dataset = read_rows(rows, benchmark=benchmark, format=format, names=names)
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return _keep(server, dataset, data, name or "rows", ".jsonl", benchmark, format, names)


def keep_benchmark(server: Context, rows: BenchmarkRows) -> DatasetRow:
    """Stores the benchmark rows that a job names as a dataset, so that the job depends on no other file.

    Raises:
        DatasetError: Naming every bad row.
        InputError: If a path is given that may not be read.
        NotFoundError: If there is no such dataset or file.
        StorageError: If the disk is full or fails.
    """
    if rows.dataset is not None:
        old = server.dataset_table.get(rows.dataset)
        if old.benchmark == rows.task:
            return old
    data, file, title = benchmark_file(server, rows)
    dataset = read_dataset(data, name=PurePath(file).name, benchmark=rows.task)
    return _keep(server, dataset, data, title, _suffix(file), rows.task, None)


def benchmark_file(server: Context, rows: BenchmarkRows) -> tuple[bytes, str, str]:
    """The file that holds a benchmark's rows.

    Returns:
        Its bytes, its file name, and a title for the dataset.

    Raises:
        InputError: As `keep_benchmark`.
        NotFoundError: As `keep_benchmark`.
    """
    if rows.dataset is not None:
        old = server.dataset_table.get(rows.dataset)
        return server.directory.bytes_of(old), old.file, old.name
    assert rows.path is not None
    settings = server.settings
    data = read_task_file(settings.tasks_dir, rows.path, settings.max_upload_bytes)
    return data, rows.path, rows.path[-TITLE_CHARACTERS:]


def dataset_reply(row: DatasetRow) -> dict[str, Any]:
    """A dataset as the API shows it."""
    return {"id": row.id, "name": row.name, "created": row.created, **row.facts}


def _keep(
    server: Context,
    dataset: Dataset,
    data: bytes,
    title: str,
    suffix: str,
    benchmark: str | None,
    format: str | None,
    names: Mapping[str, str] | None = None,
) -> DatasetRow:
    incoming: Path | None = None
    try:
        with disk_errors_as_storage_errors():
            incoming, sha256 = server.directory.stage(data)
            facts = _facts(server, dataset, benchmark, names) | {"bytes": len(data), "sha256": sha256}
            id = _id(title, benchmark, format, suffix, sha256, names)
            return server.dataset_service.add(id, title, incoming, suffix, facts)
    finally:
        if incoming is not None:
            incoming.unlink(missing_ok=True)


def _facts(
    server: Context, dataset: Dataset, benchmark: str | None, names: Mapping[str, str] | None
) -> dict[str, Any]:
    base = server.device.base
    facts = statistics(dataset, server.tokenizer, base.context_length) | {"base": base.name}
    facts |= {"map": dict(names)} if names else {}
    return facts if benchmark is None else facts | {"task": benchmark, "metric": dataset.metric}


def _id(
    title: str,
    benchmark: str | None,
    format: str | None,
    suffix: str,
    sha256: str,
    names: Mapping[str, str] | None = None,
) -> str:
    parts: Sequence[str] = (title, benchmark or "", format or "", suffix, sha256)
    if names:  # without a map, the id is the one that earlier versions made
        parts = (*parts, json.dumps(sorted(names.items())))
    return content_id("ds", *(part.encode() for part in parts))


def _suffix(name: str) -> str:
    """The suffix of an uploaded file's name, which decides how it is read; no other part of the name is used."""
    known = (suffix + packed for suffix in SUFFIXES for packed in PACKED)
    return next((suffix for suffix in known if name.lower().endswith(suffix)), ".jsonl")
