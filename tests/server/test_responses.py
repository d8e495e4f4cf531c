"""The Responses API, by the real `openai` client."""

from typing import Any, get_type_hints

import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import response_create_params
from pydantic import BaseModel

from server.openai.response_body import ResponseBody
from server.openai.response_items import InputCall, InputMessage, InputResult, turns_of
from tests.server.tool_base import ASKED, CITY, UNIQUE, asked, is_city


class City(BaseModel):
    big: bool


INPUT: dict[str, Any] = {"model": "base", "input": "Which city?", "max_output_tokens": 12, "temperature": 0}
FLAT: list[Any] = [{"type": "function", "strict": None, **CITY["function"]}]


def test_a_response_is_the_chat_completion(tools: OpenAI) -> None:
    chat = asked(
        tools, messages=[{"role": "system", "content": "Hi"}, *ASKED], tools=None, max_tokens=12, temperature=0
    )
    made = tools.responses.create(**INPUT, instructions="Hi", metadata={"a": "b"})
    assert made.output_text == chat.choices[0].message.content
    assert (made.status, made.incomplete_details) == ("completed", None)
    assert made.metadata == {"a": "b"}
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (chat.usage.prompt_tokens, len("Yes") + 1)
    raw = tools.responses.with_raw_response.create(**INPUT).http_response.json()
    assert raw["store"] is False
    cut = tools.responses.create(**{**INPUT, "max_output_tokens": 2})
    assert (cut.output_text, cut.status) == ("Ye", "incomplete")
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_a_streamed_response_is_told_in_events(tools: OpenAI) -> None:
    whole = tools.responses.create(**INPUT)
    with tools.responses.stream(**INPUT) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")][:3] == [0, 1, 2]
    kinds = [event.type.removeprefix("response.") for event in events]
    before = ["created", "in_progress", "output_item.added", "content_part.added"]
    after = ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert kinds[:4] == before
    assert kinds[-4:] == after
    assert set(kinds[4:-4]) == {"output_text.delta"}
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == whole.output_text
    last = events[-1]
    assert last.type == "response.completed"
    assert (last.response.output_text, last.response.usage) == (whole.output_text, whole.usage)


def test_a_response_has_the_form_of_a_class(tools: OpenAI) -> None:
    made = tools.responses.parse(model="base", input="Which?", text_format=City, max_output_tokens=60)
    assert made.status == "completed"
    assert isinstance(made.output_parsed, City)


def test_a_result_follows_its_call_also_if_the_assistant_says_more() -> None:
    def said(text: str) -> InputMessage:
        return InputMessage(role="assistant", content=text)

    call = InputCall(type="function_call", call_id="call00001", name="city", arguments="{}")
    result = InputResult(type="function_call_output", call_id="call00001", output="found")
    user = InputMessage(role="user", content="Which?")
    turns = turns_of([user, said("So"), call, said("Wait."), call, result, said("Fin")])
    assert [(turn.role, turn.content) for turn in turns] == [
        ("user", "Which?"),
        ("assistant", "So\n\nWait."),
        ("tool", "found"),
        ("assistant", "Fin"),
    ]
    assert len(turns[1].turn()["tool_calls"]) == 2


def test_functions_are_called_in_responses_too(tools: OpenAI) -> None:
    wanted: dict[str, Any] = {**INPUT, "max_output_tokens": 200, "tools": FLAT}
    wanted |= {"tool_choice": {"type": "function", "name": "city"}}
    (call,) = tools.responses.create(**wanted).output
    assert call.type == "function_call"
    assert is_city(call.arguments)
    with tools.responses.stream(**wanted) as stream:
        kinds = [event.type for event in stream]
        (streamed,) = stream.get_final_response().output
    assert streamed.type == "function_call"
    assert streamed.arguments == call.arguments
    assert kinds[2:] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "found"}
    then: list[Any] = [{"role": "user", "content": "Which city?"}, call, result]
    made = tools.responses.create(**{**INPUT, "input": then, "tools": FLAT})
    function = {"name": call.name, "arguments": call.arguments}
    turn = {"role": "assistant", "tool_calls": [{"id": call.call_id, "type": "function", "function": function}]}
    messages = [*ASKED, turn, {"role": "tool", "tool_call_id": call.call_id, "content": "found"}]
    chat = asked(tools, messages=messages, tools=[CITY], max_tokens=12, temperature=0)
    assert made.output_text == chat.choices[0].message.content
    assert made.usage is not None
    assert made.usage.input_tokens == chat.usage.prompt_tokens


@pytest.mark.parametrize(
    ("parameter", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        (
            {"tools": [{"type": "function", "name": "a", "parameters": UNIQUE, "strict": True}]},
            "tools.0.parameters",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": UNIQUE}}}, "text.format"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.0"),
    ],
    ids=str,
)
def test_what_responses_refuse(tools: OpenAI, parameter: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as error:
        tools.responses.create(**{**INPUT, **parameter})
    body: Any = error.value.body
    assert str(body["param"]).startswith(param), body
    assert len(body["message"].split()) > 5


def test_the_client_has_no_parameter_that_we_do_not_know() -> None:
    known = get_type_hints(response_create_params.ResponseCreateParamsBase)
    assert set(known) - set(ResponseBody.model_fields) == set()
    assert len(known) > 25
