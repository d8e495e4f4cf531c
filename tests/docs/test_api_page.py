"""`docs/api.md` says what the app says of itself: every route, its fields, its answers, errors and events."""

import re
from typing import Any

import pytest

from server.app import create_app
from server.errors import status_of
from server.settings import Settings
from steerzo_edge.errors import SteerzoError
from steerzo_edge.records import EvalRecord, StepRecord, TuneRecord, WatchRecord
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text()
ROWS = {
    (method, re.sub(r"\{\w+\}", "*", path)): (takes, answers)
    for method, path, takes, answers in re.findall(
        r"^\| `(GET|POST|PATCH|DELETE) (\S+)` \| (.*?) ?\| (.*) \|$", PAGE, re.M
    )
}
# Their fields are the client's own; `docs/openai.md` has those that are honoured.
AS_SENT = {("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/responses")}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("api"))).openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), re.sub(r"\{\w+\}", "*", path)): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def fields(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """What a route takes, apart from the parameters in its path."""
    named = {one["name"] for one in operation.get("parameters", ()) if one["in"] != "path"}
    for body in operation.get("requestBody", {}).get("content", {}).values():
        schema = body["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        named |= set(schema.get("properties", ()))
    return {name.lower() for name in named}


def test_every_route_has_a_row_and_every_row_a_route(document: dict[str, Any]) -> None:
    assert set(ROWS) == set(operations(document))


def test_rows_name_what_routes_take(document: dict[str, Any]) -> None:
    for route, operation in operations(document).items():
        if route in AS_SENT:
            continue
        named = {word.lower() for word in re.findall(r"`([\w-]+)`", ROWS[route][0])}
        assert fields(document, operation) <= named, route
        assert named - fields(document, operation) <= {"file", "config"}, route


def test_rows_say_the_status(document: dict[str, Any]) -> None:
    for route, operation in operations(document).items():
        good = next(status for status in operation["responses"] if status.startswith("2"))
        # Deleting under /v1 is described as the client expects it, and refused.
        assert ROWS[route][1].startswith((good, "400") if route[0] == "DELETE" else good), route


def test_every_error_is_in_the_table() -> None:
    classes = [SteerzoError]
    for kind in classes:
        classes += kind.__subclasses__()
    table = {int(status): set(re.findall(r"`([\w-]+)`", codes)) for status, codes in rows_of_errors()}
    ours = [kind for kind in classes if kind.__module__.startswith(("server", "steerzo_edge"))]
    for kind in ours:
        error = kind.__new__(kind)
        assert kind.code in table.get(status_of(error), set()), kind
    assert {code for codes in table.values() for code in codes} == {kind.code for kind in ours}


def rows_of_errors() -> list[tuple[str, str]]:
    return re.findall(r"^\| (\d{3}) \| (.+?) \|", PAGE, re.M)


def test_every_event_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.M))
    records = (StepRecord, EvalRecord, TuneRecord, WatchRecord)
    assert set(rows) == {"state", "log", *(record.kind for record in records)}
    for record in records:
        fields = set(record.__dataclass_fields__)
        named = set(re.findall(r"`(\w+)`", rows[record.kind]))
        assert named <= fields, record
        assert record in (TuneRecord, WatchRecord) or fields <= named, record
