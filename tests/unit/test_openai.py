"""Errors under /v1, and what the document about them says, without a server."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from server.app import create_app
from server.errors import NotReadyError, TooLargeError, UnauthorizedError, problem_of
from server.openai.chat_body import ChatBody
from server.openai.completion_body import CompletionBody
from server.openai.tuning import TuningBody
from server.openai_errors import error_object, is_openai, param_of
from server.problems import respond
from server.settings import Settings
from steerzo_edge.config import fault_of
from steerzo_edge.errors import (
    BusyError,
    CapacityError,
    ConflictError,
    DatasetError,
    Fault,
    InputError,
    NotFoundError,
    PromptTooLongError,
    SteerzoError,
)

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "openai.md").read_text()


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InputError("x"), 400, "invalid_request_error", "invalid_input"),
        (PromptTooLongError("x"), 400, "invalid_request_error", "context_length_exceeded"),
        (UnauthorizedError("x"), 401, "authentication_error", "invalid_api_key"),
        (NotFoundError("x"), 404, "not_found_error", "not_found"),
        (ConflictError("x"), 409, "conflict_error", "conflict"),
        (TooLargeError("x"), 413, "invalid_request_error", "too_large"),
        (BusyError("x"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (SteerzoError("x"), 500, "server_error", "server_error"),
        (NotReadyError("x"), 503, "server_error", "not_ready"),
        (CapacityError("x"), 507, "server_error", "out_of_memory"),
    ],
)
def test_errors_have_openais_form(error: SteerzoError, status: int, kind: str, code: str) -> None:
    response = respond(error, "/v1/models")
    assert (response.status_code, response.media_type) == (status, "application/json")
    found = error_object(problem_of(error))["error"]
    assert (found["type"], found["code"], found["param"]) == (kind, code, None)
    assert found["message"] == f"x. {error.hint}"
    assert ("retry-after" in response.headers) == (status in (429, 503))
    elsewhere = respond(error, "/jobs")
    assert elsewhere.media_type == "application/problem+json"
    assert elsewhere.status_code == problem_of(error)["status"]


def test_only_paths_under_v1_have_openais_errors() -> None:
    assert all(map(is_openai, ("/v1", "/v1/", "/v1/files")))
    assert not any(map(is_openai, ("/", "/v10", "/v2/v1", "/jobs")))


def test_the_first_few_faults_are_in_the_message() -> None:
    faults = [Fault(f"line {line}", "label", "nothing", "add it") for line in range(1, 9)]
    found = error_object(problem_of(DatasetError("8 of 9 rows cannot be used", faults=faults)))["error"]
    assert all(f"line {line}, label: found nothing; add it" in found["message"] for line in range(1, 6))
    assert "line 6" not in found["message"]
    assert "(and 3 more)" in found["message"]
    assert found["param"] is None


def test_the_parameter_of_a_fault() -> None:
    def params(body: Any) -> list[str | None]:
        with pytest.raises(ValidationError) as caught:
            ChatBody.model_validate(body)
        return [param_of(fault_of({**e, "loc": ("body", *e["loc"])}).as_dict()) for e in caught.value.errors()]

    turns = [{"role": "user", "content": "a"}]
    assert params({"model": "m", "messages": turns, "n": 33}) == ["n"]
    assert params({"messages": turns}) == ["model"]
    assert params({"model": "m", "messages": turns, "tempreature": 1}) == ["tempreature"]
    assert params({"model": "m", "messages": [{"role": "user"}]}) == ["messages.0.content"]
    assert params({"model": "m", "messages": [*turns, {"role": "x", "content": "a"}]}) == ["messages.1.role"]
    assert set(params({"model": "m", "messages": turns, "stop": 5})) == {"stop"}
    assert param_of({"where": "body.5", "field": "5"}) is None
    assert param_of({"where": "top level", "field": "steps"}) == "steps"


def test_a_key_is_asked_for_under_v1_as_well(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, api_key="a key that is long enough"))
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    for path in ("/v1/models", "/v1/nowhere", "/v1"):
        response = client.get(path, headers={"Authorization": "Bearer wrong"})
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


def test_every_parameter_is_in_the_document() -> None:
    for body in (ChatBody, CompletionBody, TuningBody):
        assert [name for name in body.model_fields if f"`{name}" not in DOCUMENT and name not in OBVIOUS] == []


OBVIOUS = {
    "model",
    "messages",
    "prompt",
    "training_file",
    "method",
    "hyperparameters",
    "profile",
    "overrides",
    "task",
}
