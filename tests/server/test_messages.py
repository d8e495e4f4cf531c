"""What the server says to a request that it does not take as it is: one sentence, in the sender's own words."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
TURNS = [{"role": "user", "content": "word " * 30}]
JSON_ROUTES = ("/jobs", "/estimate", "/generate", "/v1/chat/completions", "/v1/embeddings", "/v1/fine_tuning/jobs")
FORM_ROUTES = ("/datasets", "/adapters", "/v1/files")


def said(http: TestClient, path: str, body: Any) -> str:
    answer = http.post(path, json=body)
    assert answer.status_code in (400, 422), answer.text
    document = answer.json()
    return str(document["error"]["message"] if path.startswith("/v1") else document["detail"])


@pytest.mark.parametrize("path", [*JSON_ROUTES, *FORM_ROUTES])
def test_a_body_without_a_type_is_told_the_header(http: TestClient, path: str) -> None:
    missing = http.post(path, content=b'{"a": 1}').text
    assert "the header Content-Type is missing" in missing
    wrong = http.post(path, content=b'{"a": 1}', headers={"Content-Type": "text/plain"}).text
    assert "the header Content-Type is 'text/plain'" in wrong
    if path != "/adapters":  # its hint is a whole command
        sent = "application/json" if path in JSON_ROUTES else "multipart/form-data"
        assert f"the header Content-Type: {sent}" in missing


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"dataset": {"taks": "rte", "path": "x"}}, "body.dataset, field 'taks': found unknown key taks; did you "),
        ({"dataset": ["a"]}, "body.dataset.0, field '0': found 'a'; Input should be a valid dictionary"),
        (
            {"dataset": 7},
            "body.dataset, field 'dataset': found 7; Input should be a valid string; or: Input should",
        ),
        ({"dataset": {"task": "rte"}}, "give either dataset or path"),
        ({"dataset": ROWS, "overrides": {"rule.learning_rate": -1}}, "found -1; Input should be greater than 0"),
        ({"dataset": ROWS, "overrides": {"method.kind": "gredy"}}, "did you mean 'greedy'?"),
        ({"dataset": ROWS, "overrides": {"method.poool": 3}}, "did you mean 'pool' instead of 'poool'?"),
        ({"dataset": ROWS, "overrrides": {}}, "did you mean 'overrides'"),
        ({"dataset": [{"text": "a", "lable": "x"}]}, "is 'lable' meant to be 'label'?"),
    ],
)
def test_a_value_of_several_forms_gets_one_complaint(http: TestClient, body: Any, says: str) -> None:
    text = said(http, "/estimate", body)
    assert says in text
    assert text.count("field ") <= 1
    assert "constrained" not in text
    assert "function-after" not in text


def test_openais_client_gets_one_complaint_too(http: TestClient) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": 7}]}
    text = said(http, "/v1/chat/completions", body)
    assert text.startswith(
        "messages.0.content: found 7; Input should be a valid string; or: Input should be a valid"
    )
    assert text.count("found 7") == 1


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", {"messages": TURNS, "max_tokens": 250}, "max_tokens"),
        ("/v1/chat/completions", {"messages": TURNS, "max_completion_tokens": 250}, "max_completion_tokens"),
        ("/v1/completions", {"prompt": "word " * 30, "max_tokens": 250}, "max_tokens"),
        ("/v1/completions", {"prompt": "word " * 30, "max_tokens": 250, "echo": True}, "max_tokens"),
        ("/generate", {"prompt": "word " * 30, "max_new_tokens": 250}, "max_new_tokens"),
    ],
)
def test_a_length_has_the_name_that_was_sent(http: TestClient, path: str, body: Any, name: str) -> None:
    answer = http.post(path, json=body if path == "/generate" else {"model": "base", **body})
    assert f" tokens and {name} is 250; " in answer.text
    assert f"lower {name}." in answer.text


def test_a_last_slash_lists_the_models_too(http: TestClient) -> None:
    assert http.get("/v1/models/").json() == http.get("/v1/models").json()


def labelled(*labels: str) -> list[dict[str, str]]:
    return [{"text": f"{number} {labels[0]}", "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "classes", "warning"),
    [
        (["x"], 1, "the only row has the label 'x', so there is nothing to choose between"),
        (["x", "x"], 1, "all rows have the label 'x', so there is nothing to choose between"),
        (["x", " x ", "y"], 2, "blanks around the label are left out in 1 row"),
        (
            ["New York", "New  York", "y"],
            3,
            "'New York' and 'New  York' differ only in blanks; they are two classes",
        ),
        (["x", "y"], 2, None),
    ],
)
def test_classes_that_are_hardly_meant_are_told(
    http: TestClient, labels: list[str], classes: int, warning: str | None
) -> None:
    found = http.post("/datasets", json={"rows": labelled(*labels)}).json()
    assert len(found["labels"]) == classes
    assert [warning in one for one in found["warnings"]] == ([True] if warning else [])


def test_an_option_longer_than_the_context_names_its_line(http: TestClient) -> None:
    text = said(http, "/datasets", {"rows": labelled("x", "y " * 400)})
    assert "leaves no room for a prompt in 256 tokens; line 2, field 'label': found 'y y y" in text
    choices = [{"prompt": "a", "choices": ["x", "z"], "answer": 0}]
    long = {"prompt": "a", "choices": ["x", "z " * 400], "answer": 0}
    assert "; line 2: found a choice of" in said(http, "/datasets", {"rows": [*choices, long]})
