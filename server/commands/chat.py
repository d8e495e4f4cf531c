"""`steerzo chat`: a conversation with a running server, in a terminal or through a pipe.

In a terminal, answers appear as they are made; Ctrl-C stops an answer, /quit or Ctrl-D ends the conversation. In a
pipe, every line is a turn, and its answer is one line (line breaks inside it become spaces).

    /adapter NAME    use another adapter; `none` is the base alone; without a name, list the adapters
    /reset           forget the conversation so far
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
        str | None, typer.Option(help='Id or name of an adapter or a job, or "latest"; the base alone by default.')
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096)] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=10, help="0 always takes the likeliest token.")] = 0.7,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first answer; it grows by one with each answer.")
    ] = 0,
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
    """The turns so far, and the adapter that answers.

    Args:
        client: A client of the server.
        adapter: The first adapter; None is the base alone.
        settings: Settings of every answer.
        seed: Seed of the first answer.
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
        """Uses another adapter from now on.

        Raises:
            NotFoundError: If no adapter or job has that name.
        """
        if name == NONE:
            self.adapter = None
            return
        try:
            self._client.get(f"/adapters/{quote(name, safe='')}")
        except NotFoundError:
            raise
        except SteerzoError:
            pass  # a running job answers too, before it has made an adapter
        self.adapter = name

    def adapters(self) -> list[str]:
        """Names of all adapters."""
        return [row["name"] for row in self._client.get("/adapters")["adapters"]]

    def say(self, text: str) -> Iterator[str]:
        """The answer to a turn, in pieces; a turn is remembered only once its answer is complete.

        Raises:
            SteerzoError: If the server cannot answer.
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
                    # The API takes no empty turns, so an empty answer and its question are not remembered.
                    self.turns = [*turns, answer] if data["text"] else self.turns


def _talk(conversation: Conversation) -> None:
    import readline  # noqa: F401  (makes input lines editable)

    typer.secho(f"{conversation.adapter or 'the base alone'}; {HELP}", dim=True)
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
    """Runs a slash command; returns the message to print."""
    command, _, name = line.partition(" ")
    if command == "/reset":
        conversation.turns = []
        return "forgotten"
    if command != "/adapter":
        return f"{command} is not one of {HELP}"
    if not name:
        return f"{', '.join([*conversation.adapters(), NONE])}; now {conversation.adapter or NONE}"
    conversation.switch(name.strip())
    return f"{conversation.adapter or 'the base alone'} answers from now on"
