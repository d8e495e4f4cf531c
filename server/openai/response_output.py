"""An answer as the items of a response, and as the events that tell a client how they come about."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from server.openai.response_objects import OutputCall, OutputItem, OutputMessage, OutputText, Status
from server.openai.tool_use import new_call_id
from steerzo_edge.decoding.calls import Call, Part

Event = dict[str, Any]


class ResponseOutput:
    """Takes the texts and calls of one answer in turn: neighbouring texts are one message, each call is an item.

    Attributes:
        items: The finished items.
    """

    def __init__(self) -> None:
        self.items: list[OutputItem] = []
        self._message: str | None = None
        self._text = ""

    def take(self, parts: Iterable[Part]) -> Iterator[Event]:
        """Takes the next parts of the answer; returns their events, which must be consumed."""
        for part in parts:
            yield from self._called(part) if isinstance(part, Call) else self._wrote(part)

    def end(self, status: Status) -> Iterator[Event]:
        """Ends the answer; returns the last events. An answer without any item has an empty message.

        Args:
            status: Whether the answer is complete.
        """
        if not self.items and self._message is None:
            yield from self._begun()
        yield from self._finished(status)

    def _wrote(self, text: str) -> Iterator[Event]:
        if self._message is None:
            yield from self._begun()
        self._text += text
        yield {"type": "response.output_text.delta", **self._place, "delta": text, "logprobs": []}

    def _begun(self) -> Iterator[Event]:
        self._message, self._text = f"msg_{uuid4().hex}", ""
        begun = OutputMessage(id=self._message, status="in_progress", content=[])
        yield self._item_event("added", begun)
        yield {"type": "response.content_part.added", **self._place, "part": OutputText(text="").model_dump()}

    def _finished(self, status: Status) -> Iterator[Event]:
        if self._message is None:
            return
        part = OutputText(text=self._text)
        yield {"type": "response.output_text.done", **self._place, "text": self._text, "logprobs": []}
        yield {"type": "response.content_part.done", **self._place, "part": part.model_dump()}
        message = OutputMessage(id=self._message, status=status, content=[part])
        yield self._item_event("done", message)
        self.items.append(message)
        self._message = None

    def _called(self, call: Call) -> Iterator[Event]:
        yield from self._finished("completed")
        item = f"fc_{uuid4().hex}"
        begun = OutputCall(id=item, status="in_progress", call_id=new_call_id(), name=call.name, arguments="")
        done = begun.model_copy(update={"status": "completed", "arguments": call.arguments})
        place = {"item_id": item, "output_index": len(self.items)}
        yield self._item_event("added", begun)
        yield {"type": "response.function_call_arguments.delta", **place, "delta": call.arguments}
        finished = {"name": call.name, "arguments": call.arguments}
        yield {"type": "response.function_call_arguments.done", **place, **finished}
        yield self._item_event("done", done)
        self.items.append(done)

    @property
    def _place(self) -> Event:
        return {"item_id": self._message, "output_index": len(self.items), "content_index": 0}

    def _item_event(self, what: str, item: OutputItem) -> Event:
        return {
            "type": f"response.output_item.{what}",
            "output_index": len(self.items),
            "item": item.model_dump(),
        }
