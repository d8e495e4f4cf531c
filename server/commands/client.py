"""A small HTTP client of the server, used by `steerzo demo`, `steerzo jobs`, `steerzo chat` and the tests."""

import json
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx

from steerzo_edge.errors import InputError, NotFoundError, SteerzoError

_KINDS: dict[int, type[SteerzoError]] = {400: InputError, 404: NotFoundError, 413: InputError, 422: InputError}


class Client:
    """Talks to a running server.

    Args:
        url: The server's URL, such as "http://127.0.0.1:8000".
        key: The API key, if the server requires one.
    """

    UNREACHABLE: ClassVar = (httpx.TransportError,)

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.url = url
        self.http = httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(120, read=120))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def ready(self) -> bool:
        """Whether the server is ready."""
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def upload(self, path: Path, name: str | None = None) -> dict[str, Any]:
        """Uploads a dataset file."""
        with path.open("rb") as file:
            data = {} if name is None else {"name": name}
            return _checked(self.http.post("/datasets", files={"file": (path.name, file)}, data=data))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Posts a JSON body; returns the JSON answer."""
        return _checked(self.http.post(path, json=body))

    def delete(self, path: str) -> None:
        """Deletes the object at a path."""
        _checked(self.http.delete(path))

    def get(self, path: str) -> dict[str, Any]:
        """The JSON answer of a GET."""
        return _checked(self.http.get(path))

    def answer(self, body: Mapping[str, Any]) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """The events of /generate as (kind, data): token, ..., done. Closing the iterator ends the work."""
        with self.http.stream("POST", "/generate", json={**body, "stream": True}) as response:
            yield from _events(response)

    def events(self, job: str, last_event_id: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """A job's events as (kind, data), until it ends."""
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        with self.http.stream("GET", f"/jobs/{job}/events", headers=headers) as response:
            yield from _events(response)


def _events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    if response.is_error:
        response.read()
        _checked(response)
    kind = ""
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            kind = value
        elif field == "data":
            yield kind, json.loads(value)


def _checked(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json() if response.content else {}
    if response.is_error:
        kind = _KINDS.get(response.status_code, SteerzoError)
        raise kind(f"{response.status_code}: {body.get('detail')}", hint=body.get("hint"))
    return body
