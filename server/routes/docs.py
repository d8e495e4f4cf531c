"""A page of every route with its fields, without scripts.

FastAPI's own page loads scripts from the network. They would run in this server's origin with the user's rights,
and this server loads nothing from the network.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()


@router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
def docs(request: Request) -> str:
    """The description of the API as a page; /openapi.json is the same for programs."""
    document = request.app.openapi()
    title = f"{document['info']['title']} {document['info']['version']}"
    body = "".join([f"<h1>{escape(title)}</h1>", *_routes(document), *_schemas(document)])
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>{body}</html>'


def _routes(document: dict[str, Any]) -> Iterator[str]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"<h2>{method.upper()} {escape(path)}</h2>"
            yield f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
            for parameter in operation.get("parameters", ()):
                yield f"<p>{escape(parameter['in'])} <code>{escape(parameter['name'])}</code></p>"
            for section in ("requestBody", "responses"):
                if section in operation:
                    yield _details(section, operation[section])


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        yield _details(name, schema)


def _details(name: str, value: Any) -> str:
    text = escape(json.dumps(value, indent=1))
    return f"<details><summary>{escape(name)}</summary><pre>{text}</pre></details>"
