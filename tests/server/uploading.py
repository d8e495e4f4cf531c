"""Rows, and how they are uploaded to an app in this process."""

import json
from typing import Any

from fastapi.testclient import TestClient

ROWS: list[dict[str, Any]] = [
    {"text": f"{'good' if i % 2 else 'bad'} {i % 10}", "label": "yn"[i % 2]} for i in range(24)
]


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(http: TestClient, file: str, data: bytes, **fields: str) -> dict[str, Any]:
    response = http.post("/datasets", files={"file": (file, data)}, data=fields)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/datasets/{found['id']}"
    assert http.get(f"/datasets/{found['id']}").json() == found
    return found
