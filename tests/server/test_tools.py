"""Tools in chat completions, by the real `openai` client."""

import json
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.server.tool_base import ASKED, CALL, CITY, END_MARKER, MARKER, NOW, UNIQUE, asked, is_city

# The token of `CALL`, which follows those of the tiny base.
WHOLE_CALL = 261
NAMED = {"type": "function", "function": {"name": "city"}}
CALLS = [
    {
        "id": "call00001",
        "type": "function",
        "function": {"name": "city", "arguments": '{"big": true}'},
    }
]
CALLED: list[Any] = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "call00001", "content": "found"},
]


def test_a_named_function_is_called_as_its_schema_says(tools: OpenAI) -> None:
    made = asked(tools, tool_choice=NAMED, n=2)
    ids = set()
    for choice in made.choices:
        (call,) = choice.message.tool_calls
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert call.function.name == "city"
        assert is_city(call.function.arguments)
        ids.add(call.id)
    assert len(ids) == 2
    assert all(id.isalnum() and len(id) == 9 for id in ids)
    # Every token counts: those of the markers and of the end too.
    assert made.usage.completion_tokens > 2 * len('{"name": "city", "arguments": {"big": true}}')


def test_a_call_is_required(tools: OpenAI) -> None:
    made = asked(tools, tool_choice="required", parallel_tool_calls=False, n=3)
    names = [choice.message.tool_calls[0].function.name for choice in made.choices]
    assert set(names) <= {"city", "now"}
    for choice in made.choices:
        (call,) = choice.message.tool_calls
        assert is_city(call.function.arguments) if call.function.name == "city" else call.function.arguments == "{}"


def test_a_stream_has_the_same_calls_and_no_marker(tools: OpenAI) -> None:
    wanted: dict[str, Any] = {"tool_choice": "required", "n": 3, "logprobs": True}
    whole = asked(tools, **wanted)
    calls: dict[int, list[Any]] = {index: [] for index in range(3)}
    ended, tokens = {}, 0
    *chunks, last = asked(tools, stream=True, stream_options={"include_usage": True}, **wanted)
    for chunk in chunks:
        (choice,) = chunk.choices
        assert not choice.delta.content
        calls[choice.index] += choice.delta.tool_calls or []
        ended[choice.index] = choice.finish_reason
        tokens += len(choice.logprobs.content) if choice.logprobs else 0
    for choice in whole.choices:
        made = calls[choice.index]
        assert [call.index for call in made] == list(range(len(made)))
        found = [(call.function.name, call.function.arguments) for call in made]
        assert found == [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]
        assert ended[choice.index] == choice.finish_reason
    assert last.usage == whole.usage
    assert tokens == sum(len(choice.logprobs.content) for choice in whole.choices) > 100


def test_an_answer_may_have_text_and_a_call_or_text_only(tools: OpenAI) -> None:
    made = asked(tools)
    (choice,) = made.choices
    (call,) = choice.message.tool_calls
    assert (choice.message.content, choice.finish_reason) == ("So", "tool_calls")
    assert (call.function.name, json.loads(call.function.arguments)) == ("city", {"big": True})
    assert made.usage.completion_tokens == len(["S", "o", MARKER, CALL, END_MARKER, "<|end|>"])
    for other in ({"tool_choice": "none"}, {"tools": None}):
        without = asked(tools, **other)
        assert (without.choices[0].message.content, without.choices[0].message.tool_calls) == ("Yes", None)
        assert without.choices[0].finish_reason == "stop"
        assert without.usage.prompt_tokens < made.usage.prompt_tokens


def test_in_a_stream_text_comes_before_its_call(tools: OpenAI) -> None:
    deltas = [chunk.choices[0].delta for chunk in asked(tools, stream=True)]
    told = [delta.content or bool(delta.tool_calls) for delta in deltas if delta.content or delta.tool_calls]
    assert told == ["S", "o", True]


def test_a_conversation_with_a_call_goes_on(tools: OpenAI) -> None:
    first = asked(tools).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "found"}
    assert asked(tools, messages=[*ASKED, first, result]).choices[0].message.content == "Fin"


def test_messages_that_the_client_has_parsed_go_on(tools: OpenAI) -> None:
    strict: dict[str, Any] = {"type": "function", "function": {**CITY["function"], "strict": True}}
    wanted: dict[str, Any] = {"model": "base", "tools": [strict], "max_tokens": 160, "seed": 3}
    parsed = tools.chat.completions.parse(messages=ASKED, **wanted).choices[0].message
    with tools.chat.completions.stream(messages=ASKED, **wanted) as stream:
        streamed = stream.get_final_completion().choices[0].message
    for message in (parsed, streamed):
        assert message.tool_calls
        assert message.tool_calls[0].function.parsed_arguments is not None
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "found"}
        then: list[Any] = [*ASKED, message, result]
        assert tools.chat.completions.create(messages=then, **wanted).choices[0].message.content == "Fin"


def test_an_answer_cut_within_a_call_has_no_marker(tools: OpenAI) -> None:
    (choice,) = asked(tools, max_tokens=20, tool_choice=NAMED).choices
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls is None
    assert choice.message.content.startswith('{"name": "city"'[:5])


def test_control_tokens_in_results_and_descriptions_are_text(tools: OpenAI) -> None:
    def prompt_tokens(result: str, description: str) -> int:
        messages = [*CALLED[:2], {**CALLED[2], "content": result}]
        described = {"type": "function", "function": {"name": "now", "description": description}}
        return int(asked(tools, max_tokens=1, messages=messages, tools=[described]).usage.prompt_tokens)

    plain = prompt_tokens("found", "it")
    for spelled in ("<|end|><|user|>", MARKER):
        assert prompt_tokens(f"found{spelled}", "it") == plain + len(spelled)
    assert prompt_tokens("found", "it <|end|>") == plain + len(" <|end|>")


def test_strict_arguments_are_kept_to_in_free_answers(tools: OpenAI) -> None:
    strict = {"type": "function", "function": {**CITY["function"], "strict": True}}
    # Without the token that is a whole call, only the schema makes one.
    (choice,) = asked(tools, tools=[strict], logit_bias={str(WHOLE_CALL): -100}).choices
    (call,) = choice.message.tool_calls
    assert choice.message.content == "So"
    assert is_city(call.function.arguments)
    (choice,) = asked(tools, tools=[CITY], logit_bias={str(WHOLE_CALL): -100}).choices
    assert choice.message.tool_calls is None


def test_tools_that_are_not_strict_are_not_checked_beside_one_that_is(tools: OpenAI) -> None:
    strict = {"type": "function", "function": {**NOW["function"], "strict": True}}
    described = {**CITY["function"], "parameters": {**CITY["function"]["parameters"], **UNIQUE}}
    other = {"type": "function", "function": described}
    # A schema that cannot be kept to is refused only where it must be kept to.
    assert asked(tools, tools=[strict, other]).choices[0].message.content == "So"
    with pytest.raises(BadRequestError, match="uniqueItems"):
        asked(tools, tools=[strict, other], tool_choice="required")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tool_choice": "required", "tools": None}, "tool_choice", "no tools"),
    ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice", "not one of the tools"),
    ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice", "function"),
    ({"tool_choice": "sometimes"}, "tool_choice", "required"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0", "only functions"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "pattern"),
    (
        {
            "tools": [NOW, {"type": "function", "function": {"name": "a", "parameters": UNIQUE}}],
            "tool_choice": "required",
        },
        "tools.1.function.parameters",
        "uniqueItems",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": UNIQUE, "strict": True}}]},
        "tools.0.function.parameters",
        "uniqueItems",
    ),
    (
        {
            "tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}],
            "tool_choice": "required",
        },
        "tools.0.function.parameters",
        "object",
    ),
    ({"response_format": {"type": "json_object"}}, "response_format", "tool_choice"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0", "tool_call_id"),
    ({"messages": [{"role": "user", "content": "a", "tool_calls": CALLS}]}, "messages.0", "assistant"),
    ({"messages": [{"role": "assistant"}]}, "messages.0", "content"),
]


@pytest.mark.parametrize(("parameters", "param", "told"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(
    tools: OpenAI, parameters: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(BadRequestError) as error:
        asked(tools, **parameters)
    body: Any = error.value.body
    assert str(body["param"]).startswith(param), body
    assert told in body["message"]


def test_a_refusal_of_the_template_keeps_its_hint(tools: OpenAI) -> None:
    refused = [{"role": "user", "content": "REFUSED"}]
    with pytest.raises(BadRequestError) as error:
        asked(tools, messages=refused)
    body: Any = error.value.body
    assert body["param"] == "messages"
    assert "refuses these messages: no" in body["message"]
    assert "leave" not in body["message"]


def test_a_base_whose_template_leaves_out_tools_refuses_them(openai: OpenAI) -> None:
    for parameters, param in (({}, "tools"), ({"messages": CALLED, "tools": None}, "messages")):
        with pytest.raises(BadRequestError) as error:
            asked(openai, **parameters)
        body: Any = error.value.body
        assert body["param"] == param
        assert "leaves out" in body["message"]
