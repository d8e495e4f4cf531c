"""An example dataset for trying the server: the bundled commands to a voice assistant."""

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
    """A small dataset as JSON lines, which POST /datasets takes unchanged, and its task for POST /jobs."""
    return {
        "name": "intents.jsonl",
        "about": "3,500 commands to a voice assistant, each labelled with its intent (7 classes). CC0.",
        "lines": (INTENTS / "train.jsonl").read_text(encoding="utf-8"),
        "task": json.loads((INTENTS / "task.json").read_text(encoding="utf-8")),
    }
