"""Tools in chat completions, by the real `openai` client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.server.process import ServerProcess
from tests.server.tool_base import ASKED, CITY, NOW, tool_base

FORCED: dict[str, Any] = {"tools": [CITY, NOW], "max_tokens": 200, "temperature": 1, "seed": 3}
NAMED = {"type": "function", "function": {"name": "city"}}


@pytest.fixture(scope="module")
def tools(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    path = tmp_path_factory.mktemp("tools")
    with ServerProcess(tool_base(tiny_path, path / "base"), path / "data") as process:
        process.start()
        url = f"http://127.0.0.1:{process.port}/v1"
        with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            yield client


def test_a_named_function_is_called(tools: OpenAI) -> None:
    made = tools.chat.completions.create(model="base", messages=ASKED, tool_choice=NAMED, **FORCED)  # type: ignore[call-overload]
    (choice,) = made.choices
    print(made)
