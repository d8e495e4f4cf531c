"""Fields that mean something in published formats of rows, and that a kind must honour or refuse by name."""

from collections.abc import Mapping
from typing import Final

from steerzo_edge.data.fields import Fields

_PAIR = "pairs of a better and a worse answer cannot be learned from; leave it out to learn the answer alone"
_MEDIA = "only text can be learned from; leave out such rows"
_TRUE = (True, 1, "true", "1", "1.0")

EVERYWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "preferred_output", "non_preferred_output"), _PAIR),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), _MEDIA),
}
"""What no kind can honour."""

PROMPTS: Final[Mapping[str, str]] = {
    **EVERYWHERE,
    "system": "write it into the prompt, or write the row as messages, whose first turn is the system's",
    "history": "earlier turns are learned from only in rows of messages",
    **dict.fromkeys(("tools", "functions"), "tools are offered only in rows of messages"),
    **dict.fromkeys(("tool_calls", "function_call"), "calls of tools are learned only in rows of messages"),
    "chat_template_kwargs": "the prompt is not put into a chat template; leave it out",
}
"""What rows with a prompt and an answer cannot honour."""

CONVERSATIONS: Final[Mapping[str, str]] = {
    **EVERYWHERE,
    "functions": "write them as tools",
    "history": "write earlier turns as messages",
    **dict.fromkeys(("tool_calls", "function_call"), "write it into the assistant's turn that makes the call"),
    "chat_template_kwargs": "the base's chat template is used without options; leave it out",
}
"""What rows of messages cannot honour."""

TURNS: Final[Mapping[str, str]] = {
    **{name: fix for name, fix in EVERYWHERE.items() if fix == _MEDIA},
    "function_call": "write it as tool_calls",
    "refusal": "write the refusal as the content",
    **dict.fromkeys(
        ("reasoning_content", "reasoning", "thinking"), "write the reasoning into the content, as the base does"
    ),
}
"""What a turn of a conversation cannot honour."""


def refuse_given(row: Fields, refused: Mapping[str, str]) -> None:
    """Adds a fault for each of these fields that holds something.

    Args:
        row: The row, or an object inside it.
        refused: The fields, and what to do instead.
    """
    for name, fix in refused.items():
        if row.value(name) not in (None, "", [], {}):
            row.refuse(name, fix)


def refuse_weight(row: Fields) -> None:
    """Adds a fault for a row whose weight is not 1."""
    if row.value("weight") not in (None, "", 1, "1", "1.0"):
        row.refuse("weight", "a whole row has the weight 1: leave rows out, or repeat them")


def refuse_bad_examples(row: Fields) -> None:
    """Adds a fault for an answer that its author marked as bad, as in rows for unpaired preferences."""
    for name in ("label", "kto_tag"):
        value = row.value(name)
        written = value.strip().lower() if isinstance(value, str) else value
        if written not in (None, "", *_TRUE):
            row.refuse(
                name, "only good answers, marked true, can be learned: leave the row out, or rename the field"
            )
