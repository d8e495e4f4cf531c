"""Forms of answers and settings of the sampling over HTTP, by the real `openai` client and on /generate."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from pydantic import BaseModel

from server.commands.client import Client
from tests.server.openai_chat import GREETING, said

SCHEMA = {
    "type": "object",
    "properties": {"good": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["good", "n"],
    "additionalProperties": False,
}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


class Answer(BaseModel):
    good: bool
    n: int


def is_right(text: str) -> bool:
    found = json.loads(text)
    return set(found) == {"good", "n"} and isinstance(found["good"], bool) and found["n"] in range(10)


def test_a_chat_answers_in_json(openai: OpenAI) -> None:
    for temperature in (0, 1):
        asked: dict[str, Any] = {"temperature": temperature, "seed": 3, "max_tokens": 100}
        assert is_right(said(openai, response_format=FORMAT, **asked))
        text = said(openai, response_format={"type": "json_object"}, logit_bias={}, **asked)
        assert text.startswith("{")


def test_the_client_parses_an_answer_into_a_class(openai: OpenAI) -> None:
    made = openai.chat.completions.parse(model="base", messages=GREETING, response_format=Answer, max_tokens=100)
    assert made.choices[0].finish_reason == "stop"
    parsed = made.choices[0].message.parsed
    assert isinstance(parsed, Answer)


def test_a_stream_has_the_same_json(openai: OpenAI) -> None:
    asked: dict[str, Any] = {"messages": GREETING, "max_tokens": 100, "temperature": 1, "seed": 5, "n": 3}
    asked |= {"response_format": FORMAT}
    whole = openai.chat.completions.create(model="base", **asked)
    texts = dict.fromkeys(range(3), "")
    for chunk in openai.chat.completions.create(model="base", stream=True, **asked):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert [texts[choice.index] for choice in whole.choices] == [c.message.content for c in whole.choices]
    assert all(map(is_right, texts.values()))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"json_schema": SCHEMA}, is_right),
        ({"regex": "a[bc]{3}d"}, lambda text: text[0] + text[-1] == "ad" and len(text) == 5),
        ({"grammar": 'start: "x" ("y" | "z")'}, lambda text: text in ("xy", "xz")),
    ],
    ids=["json_schema", "regex", "grammar"],
)
def test_generate_takes_forms(client: Client, form: dict[str, Any], expected: Any) -> None:
    body = {"prompt": "good =>", "max_new_tokens": 100, "temperature": 1, "seed": 2, **form}
    whole = client.post("/generate", body)
    assert expected(whole["text"]), whole
    assert whole["finish_reason"] == "stop"
    lines = client.http.post("/generate", json={**body, "stream": True}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert "".join(event["text"] for event in events[:-1]) == events[-1]["text"] == whole["text"]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"regex": "(?!a)b"}, "look"),
        ({"grammar": "start: nothing"}, "nothing"),
    ],
    ids=["json_schema", "regex", "grammar"],
)
def test_a_form_that_cannot_be_kept_to_is_refused_by_name(client: Client, form: dict[str, Any], said: str) -> None:
    for stream in (False, True):
        answer = client.http.post("/generate", json={"prompt": "a", "stream": stream, **form})
        assert answer.status_code == 422
        problem = answer.json()
        assert problem["code"] == "invalid-form"
        assert said in problem["detail"]
        assert problem["errors"][0]["where"] == next(iter(form))


def test_two_forms_are_refused(client: Client) -> None:
    answer = client.http.post("/generate", json={"prompt": "a", "regex": "a", "json_schema": {}})
    assert answer.status_code == 422
    assert "one of json_schema, regex and grammar" in answer.text


def test_a_schema_that_cannot_be_honoured_is_refused_under_v1(openai: OpenAI) -> None:
    schema = {"name": "n", "schema": {"type": "array", "uniqueItems": True}}
    with pytest.raises(BadRequestError) as error:
        said(openai, response_format={"type": "json_schema", "json_schema": schema})
    body: Any = error.value.body
    assert (body["param"], body["code"]) == ("response_format", "invalid_form")
    assert "uniqueItems" in body["message"]


@pytest.mark.parametrize(
    "settings",
    [
        {"logit_bias": {"70": 100}},
        {"frequency_penalty": 2},
        {"presence_penalty": 2},
        {"temperature": 2, "top_k": 1, "seed": 1},
        {"temperature": 2, "min_p": 1, "seed": 1},
    ],
    ids=lambda settings: next(reversed(settings)) if "seed" not in settings else list(settings)[1],
)
def test_settings_of_the_sampling_mean_the_same_on_all_routes(
    openai: OpenAI, client: Client, settings: dict[str, Any]
) -> None:
    body: dict[str, Any] = {"temperature": 0, **settings}
    own = client.post("/generate", {"prompt": "good =>", "max_new_tokens": 12, **body})["text"]
    extra: dict[str, Any] = {name: body.pop(name) for name in ("top_k", "min_p") if name in body}
    made = openai.completions.create(model="base", prompt="good =>", max_tokens=12, extra_body=extra, **body)
    assert made.choices[0].text == own
    chat = client.post("/generate", {"messages": GREETING, "max_new_tokens": 12, **body, **extra})["text"]
    assert said(openai, extra_body=extra, **body) == chat
    plain = client.post("/generate", {"prompt": "good =>", "max_new_tokens": 12})["text"]
    # One token to choose from is the likeliest; the others change the answer.
    assert (own == plain) == bool(extra)
