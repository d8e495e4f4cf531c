"""`steerzo chat`: a conversation with a running server, in a terminal or through a pipe.

On a terminal answers appear as they are made; Ctrl-C stops one, /quit or Ctrl-D ends the conversation. In a pipe
every line is a turn, and its answer is a line of its own (a line break inside it becomes a space).

    /adapter NAME    another adapter from now on; `none` is the bare base; without a name, what there is
    /reset           forget what was said
    /quit            end
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from server.commands.jobs import LOCAL, Url, connected
from steerzo_edge.errors import NotFoundError, SteerzoError

if TYPE_CHECKING:
    from server.commands.client import Client

NONE = "none"
HELP = "/adapter NAME, /reset, /quit"


def chat(
    adapter: Annotated[
        str | None, typer.Option(help='Id or name of an adapter or a job, or "latest"; none is the bare base.')
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096)] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=10, help="0 takes the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="Of the first answer; each further one takes the next.")] = 0,
    url: Url = LOCAL,
) -> None:
    """Talk to a running server; in a pipe, one line in and one answer out."""
    settings = {"max_new_tokens": max_new_tokens, "temperature": temperature}
    with connected(url) as client:
        conversation = Conversation(client, adapter, settings, seed)
        if sys.stdin.isatty():
            _talk(conversation)
        else:
            _pipe(conversation)


class Conversation:
    """What was said so far, and with which adapter.

    Args:
        client: Of the server.
        adapter: Who answers first; None is the bare base.
        settings: Of every answer.
        seed: Of the first answer.
    """

    def __init__(self, client: "Client", adapter: str | None, settings: dict[str, Any], seed: int) -> None:
        self.adapter: str | None = None
        self.turns: list[dict[str, str]] = []
        self._client = client
        self._settings = settings
        self._seed = seed
        if adapter is not None:
            self.switch(adapter)

    def switch(self, name: str) -> None:
        """Has another adapter answer from now on.

        Raises:
            NotFoundError: If there is none of that name.
        """
        if name == NONE:
            self.adapter = None
            return
        try:
            self._client.get(f"/adapters/{quote(name, safe='')}")
        except NotFoundError:
            raise
        except SteerzoError:
            pass  # a job that runs answers as well, before it has made an adapter
        self.adapter = name

    def adapters(self) -> list[str]:
        """Names of what there is."""
        return [row["name"] for row in self._client.get("/adapters")["adapters"]]

    def say(self, text: str) -> Iterator[str]:
        """The answer to a turn, in pieces; what was not answered to its end is not remembered.

        Raises:
            SteerzoError: If it cannot be answered.
        """
        turns = [*self.turns, {"role": "user", "content": text}]
        body = {"messages": turns, "seed": self._seed, **self._settings}
        self._seed += 1
        with closing(
            self._client.answer(body if self.adapter is None else {**body, "adapter": self.adapter})
        ) as made:
            for kind, data in made:
                if kind == "token":
                    yield data["text"]
                elif kind == "error":
                    raise SteerzoError(data["detail"], hint=data["hint"])
                else:
                    answer = {"role": "assistant", "content": data["text"]}
                    # A turn must not be empty, also not one that was answered with nothing.
                    self.turns = [*turns, answer] if data["text"] else self.turns


def _talk(conversation: Conversation) -> None:
    import readline  # noqa: F401  (lines can be edited and recalled)

    typer.secho(f"{conversation.adapter or 'the bare base'}; {HELP}", dim=True)
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        if line == "/quit":
            return
        try:
            _turn(conversation, line)
        except KeyboardInterrupt:
            typer.echo()
        except SteerzoError as error:
            typer.secho(f"error: {error}", fg="red", err=True)
            typer.echo(f"hint: {error.hint}", err=True)


def _turn(conversation: Conversation, line: str) -> None:
    if line.startswith("/"):
        typer.secho(_command(conversation, line), dim=True)
    elif line:
        for piece in conversation.say(line):
            typer.echo(piece, nl=False)
        typer.echo()


def _pipe(conversation: Conversation) -> None:
    for line in map(str.strip, sys.stdin):
        if line == "/quit":
            return
        if line.startswith("/"):
            typer.echo(_command(conversation, line), err=True)
        elif line:
            typer.echo(" ".join("".join(conversation.say(line)).splitlines()))


def _command(conversation: Conversation, line: str) -> str:
    """Does what a line with a slash asks for; what to say about it."""
    command, _, name = line.partition(" ")
    if command == "/reset":
        conversation.turns = []
        return "forgotten"
    if command != "/adapter":
        return f"{command} is not one of {HELP}"
    if not name:
        return f"{', '.join([*conversation.adapters(), NONE])}; now {conversation.adapter or NONE}"
    conversation.switch(name.strip())
    return f"{conversation.adapter or 'the bare base'} answers from now on"
