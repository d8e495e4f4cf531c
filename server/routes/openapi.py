"""Completes the API's OpenAPI description with each route's errors and its need of a key.

A route declares its successful answers only. Its possible errors follow from its path, method, body and parameters,
so a new route is described completely without further work.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from server.access.authentication import PUBLIC_PATHS
from server.access.origins import SAFE_METHODS
from server.openai_errors import is_openai
from server.problems import MEDIA_TYPE
from server.routes.replies import OpenAIError, Problem

METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
# Every server-sent event has this form; its data is JSON.
EVENT: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {name: {"type": "string"} for name in ("event", "id", "data")},
}
_REFS: Final = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Makes an app complete its description the first time it is requested."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            components = document.setdefault("components", {})
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for model in (Problem, OpenAIError):
                components.setdefault("schemas", {}).update(_schemas(model))
            for path, method, operation in _operations(document):
                _complete(operation, path, method)
        return app.openapi_schema or {}

    app.openapi = complete  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    if path not in PUBLIC_PATHS:
        operation["security"] = [{"key": []}]
    openai = is_openai(path)
    model, media_type = (OpenAIError, "application/json") if openai else (Problem, MEDIA_TYPE)
    content = {media_type: {"schema": {"$ref": _REFS.format(model=model.__name__)}}}
    responses = operation["responses"]
    # FastAPI describes its own 422, which this server does not send.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for response in responses.values():
        if "text/event-stream" in response.get("content", {}):
            response["content"]["text/event-stream"] = {"schema": EVENT}
    for status in sorted(_statuses(operation, path, method)):
        responses.setdefault(str(status), {"description": HTTPStatus(status).phrase, "content": content})


def _statuses(operation: dict[str, Any], path: str, method: str) -> set[int]:
    found = {421, 503}
    found |= set() if path in PUBLIC_PATHS else {401, 429}
    if method.upper() not in SAFE_METHODS:
        found |= {403, 409}
    if "requestBody" in operation:
        found |= {400, 404, 408, 413, 422, 507}
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    if places:
        # The named object may not exist; under /v1 invalid input is 400.
        found |= {404, 422} | ({400} if is_openai(path) else set())
    if "path" in places:
        found |= {409}
    return found


def _schemas(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_REFS)
    return {**schema.pop("$defs", {}), model.__name__: schema}
