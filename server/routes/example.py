"""Rows to try everything with, for those who have none at hand: the bundled commands to a voice assistant."""

import json
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter

import steerzo_edge
from server.routes.replies import ExampleReply

router = APIRouter(tags=["datasets"])
INTENTS: Final = Path(steerzo_edge.__file__).parent / "assets" / "intents"


@router.get("/example", responses={200: {"model": ExampleReply}})
def example() -> dict[str, Any]:
    """A small dataset as JSON lines, with the task that puts it to a model; POST /datasets takes it as it is."""
    return {
        "name": "intents.jsonl",
        "about": "3,500 commands to a voice assistant, each with what it is about (7 classes). CC0.",
        "lines": (INTENTS / "train.jsonl").read_text(encoding="utf-8"),
        "task": json.loads((INTENTS / "task.json").read_text(encoding="utf-8")),
    }
