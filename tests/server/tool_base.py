"""A tiny base whose template writes tools and calls, in the form of Hermes; `<tool_call>` is its control token."""

import json
import shutil
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.call_templates import HERMES_TEMPLATE

CITY: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "city",
        "description": "Finds a city.",
        "parameters": {
            "type": "object",
            "properties": {"big": {"type": "boolean"}},
            "required": ["big"],
            "additionalProperties": False,
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}
ASKED: list[Any] = [{"role": "user", "content": "Which city?"}]


def tool_base(tiny: Path, path: Path) -> Path:
    """The tiny base with a longer context, in which the name of a control token is that of a marker."""
    shutil.copytree(tiny, path)
    for file in path.glob("*.json"):
        file.write_text(file.read_text().replace("<|system|>", "<tool_call>"))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    (path / "chat_template.jinja").write_text(HERMES_TEMPLATE)
    return path


def is_city(arguments: str) -> bool:
    """Whether arguments have the schema of `CITY`."""
    found = json.loads(arguments)
    return set(found) == {"big"} and isinstance(found["big"], bool)


UNIQUE = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}


def asked(client: OpenAI, **parameters: Any) -> Any:
    """What a model answers that may call tools."""
    body = {"messages": ASKED, "tools": [CITY, NOW], "max_tokens": 160, "temperature": 1, "seed": 3, **parameters}
    return client.chat.completions.create(model="base", **body)
