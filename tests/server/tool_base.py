"""A tiny base whose chat template writes tools and calls, in Hermes' form; `<tool_call>` is one of its control tokens."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.call_templates import HERMES_TEMPLATE

CITY: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "city",
        "description": "Finds a city.",
        "parameters": {
            "type": "object",
            "properties": {"name": {"enum": ["Rome", "Oslo"]}, "big": {"type": "boolean"}},
            "required": ["name", "big"],
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
    return set(found) == {"name", "big"} and found["name"] in ("Rome", "Oslo") and isinstance(found["big"], bool)
