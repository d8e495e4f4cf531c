"""Parameters of the real `openai` client: accepted where they change nothing, refused by name where they would."""

from typing import Any, get_type_hints

import pytest
from openai import BadRequestError, OpenAI
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.fine_tuning import job_create_params

from server.openai.chat_body import ChatBody
from server.openai.completion_body import CompletionBody
from server.openai.tuning import TuningBody
from tests.server.openai_chat import said


def test_what_changes_nothing_is_accepted(openai: OpenAI) -> None:
    harmless: dict[str, Any] = {
        "n": 1,
        "user": "somebody",
        "store": False,
        "metadata": {"a": "b"},
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logprobs": False,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "service_tier": "auto",
        "modalities": ["text"],
    }
    assert said(openai, **harmless) == said(openai)


@pytest.mark.parametrize(
    "parameter",
    [
        {"n": 33},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"functions": [{"name": "f", "parameters": {}}]},
        {"top_logprobs": 3},
        {"top_logprobs": 21, "logprobs": True},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"not": {}}}}},
        {"logit_bias": {"5": 101}},
        {"logit_bias": {"100000": 1}},
        {"frequency_penalty": 2.5},
        {"presence_penalty": -3},
        {"extra_body": {"min_p": 2}},
        {"extra_body": {"top_k": -1}},
        {"reasoning_effort": "high"},
        {"web_search_options": {}},
        {"temperature": 3},
        {"top_p": 0},
        {"max_tokens": 0},
        {"extra_body": {"top_q": 5}},
    ],
    ids=lambda parameter: next(iter(parameter)),
)
def test_what_would_change_the_answer_is_refused(openai: OpenAI, parameter: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as error:
        said(openai, **parameter)
    body: Any = error.value.body
    name = next(iter(parameter.get("extra_body", parameter)))
    assert str(body["param"]).startswith(name), body
    assert len(body["message"].split()) > 5
    assert said(openai)


@pytest.mark.parametrize("parameter", [{"best_of": 2}, {"logprobs": 21}, {"suffix": "x"}, {"max_tokens": -1}])
def test_what_completions_refuse(openai: OpenAI, parameter: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as error:
        openai.completions.create(model="base", prompt="a", **parameter)
    body: Any = error.value.body
    assert body["param"] == next(iter(parameter))


@pytest.mark.parametrize(
    "prompt", [[], [""], "", [[]], [[1], "a"], ["a", 1], [True], [-1], [1.5], [1, "2"], {"a": 1}]
)
def test_prompts_that_are_neither_text_nor_tokens_are_refused(openai: OpenAI, prompt: Any) -> None:
    with pytest.raises(BadRequestError) as error:
        openai.completions.create(model="base", prompt=prompt)
    body: Any = error.value.body
    assert str(body["param"]).startswith("prompt")
    assert body["message"].count("found") == 1, body  # of one form of a prompt, not of all four


def test_messages_that_cannot_be_used(openai: OpenAI) -> None:
    for turn, param in (
        ({"role": "tool", "content": "y"}, "messages.0"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]},
            "messages.0.content",
        ),
        ({"role": "assistant", "content": "a", "tool_calls": [{"id": "x"}]}, "messages.0.tool_calls"),
    ):
        with pytest.raises(BadRequestError) as error:
            said(openai, messages=[turn])
        body: Any = error.value.body
        assert str(body["param"]).startswith(param)


def test_the_client_has_no_parameter_that_we_do_not_know() -> None:
    chat = get_type_hints(chat_create_params.CompletionCreateParamsBase)
    text = get_type_hints(completion_create_params.CompletionCreateParamsBase)
    tuning = get_type_hints(job_create_params.JobCreateParams)
    assert set(chat) - set(ChatBody.model_fields) == set()
    assert set(text) - set(CompletionBody.model_fields) == set()
    assert set(tuning) - set(TuningBody.model_fields) == set()
    assert len(chat) > 30
