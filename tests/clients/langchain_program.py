"""Uses a server by langchain-openai: python langchain_program.py URL RESULT.json."""

import json
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


def city(big: bool) -> str:
    """Finds a city."""
    return "Rome" if big else "Bern"


CITY = tool(city)


def used(url: str) -> dict[str, Any]:
    """What the client says of a chat, a stream, a call with its result, and a forced call."""
    chat = ChatOpenAI(model="base", base_url=url, api_key="none", max_retries=0)
    asked = HumanMessage("Which city?")
    plain = chat.invoke([asked])
    calling = chat.bind_tools([CITY])
    called = calling.invoke([asked])
    (call,) = called.tool_calls
    result = ToolMessage(CITY.invoke(call["args"]), tool_call_id=call["id"])
    streamed = None
    for chunk in calling.stream([asked]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    forced = chat.bind_tools([CITY], tool_choice="city", strict=True).invoke([asked])
    responses = ChatOpenAI(
        model="base", base_url=url, api_key="none", max_retries=0, use_responses_api=True, output_version="v1"
    )
    return {
        "plain": plain.content,
        "usage": plain.usage_metadata,
        "stream": [chunk.content for chunk in chat.stream([asked]) if chunk.content],
        "call": [called.content, call["name"], call["args"]],
        "result": result.content,
        "after": calling.invoke([asked, called, result]).content,
        "streamed_call": [streamed.content, [[one["name"], one["args"]] for one in streamed.tool_calls]],
        "forced": [list(one["args"]) for one in forced.tool_calls],
        "response": responses.invoke([asked]).text,
        "response_call": [one["args"] for one in responses.bind_tools([CITY]).invoke([asked]).tool_calls],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(used(sys.argv[1])))
