"""Looks at the beginning of a file before it is uploaded: its fields, and its first rows as they are trained on."""

from dataclasses import asdict
from itertools import islice
from typing import Any

from server.services.context import Context
from server.services.uploads import Upload
from steerzo_edge.data.containers import source_of
from steerzo_edge.data.formats import FIELDS
from steerzo_edge.data.mapping import parsed_map
from steerzo_edge.data.preview import preview
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.data.rows import Faults
from steerzo_edge.errors import InputError

LOOKED_AT = 200
SHOWN = 3
MOST_COLUMNS = 200


def looked_at(server: Context, upload: Upload, format: str | None, map: str | None) -> dict[str, Any]:
    """What a file holds, and what its rows become under other names for its fields; nothing is stored.

    Args:
        server: The server's parts.
        upload: The file, or its first lines.
        format: The format of the rows; None finds it by the fields.
        map: Other names for fields, as `parsed_map` takes them.

    Returns:
        "columns", the fields of its first 200 rows; "formats", the fields that each format needs; "format" and
        "rows", the first three rows as in a preview; "problem", why there are none, or None.

    Raises:
        InputError: If the file cannot be read at all.
        NotReadyError: If the base is still loading.
    """
    data = upload.path.read_bytes()
    source = source_of(data, upload.name, LOOKED_AT)
    columns = dict.fromkeys(str(key) for _, row in islice(source.rows(Faults()), LOOKED_AT) for key in row)
    found: dict[str, Any] = {"format": None, "rows": [], "problem": None}
    base, tokenizer = server.device.base, server.tokenizer
    try:
        names = parsed_map(map) if map else None
        dataset = read_dataset(data, name=upload.name, format=format, first=LOOKED_AT, names=names)
        shown = dataset.pick(list(range(min(SHOWN, len(dataset)))))
        rows = preview(shown, tokenizer, base.context_length, dataset.labels)
        found |= {"format": dataset.format, "rows": [asdict(row) for row in rows]}
    except InputError as error:
        found["problem"] = str(error)
    return {
        "columns": list(columns)[:MOST_COLUMNS],
        "formats": {name: list(FIELDS[name]) for name in FIELDS},
        **found,
    }
