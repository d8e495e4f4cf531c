"""Tells in which form a base writes calls of tools, and makes grammars that force calls of this form.

The form is told from what the base's own chat template writes: for a made-up call in an assistant's turn, or, where
the template writes no calls, from the example that it shows to the model. A form is the base's if it reads this
call.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import Message
from steerzo_edge.data.tokens import chat_text
from steerzo_edge.decoding.calls import Call, CallForm, CallReader
from steerzo_edge.decoding.grammar import BLANKS, Form
from steerzo_edge.errors import InputError

HERMES: Final = CallForm("Hermes", "<tool_call>", "</tool_call>", gap="\n")
LLAMA: Final = CallForm("Llama 3", "<|python_tag|>", arguments="parameters", may_be_bare=True)
FORMS: Final = (
    HERMES,
    CallForm("Mistral", "[TOOL_CALLS]", is_list=True),
    CallForm("Granite 3", "<|tool_call|>", is_list=True),
    LLAMA,
)
# An example of a call as templates show it to the model, with words in place of names and values.
_SHOWN: Final = re.compile(r"<tool_call>\s*\{\s*\"name\":[^\n]*\"arguments\":[^\n]*\}\s*</tool_call>")
# Templates of Mistral's models take ids of nine letters and digits only.
_CALL: Final = Call("probe_function", '{"probe_argument": 1}')
_DETAILS: Final = json.dumps(
    {
        "tool_calls": [
            {
                "id": "probe0001",
                "type": "function",
                "function": {"name": _CALL.name, "arguments": json.loads(_CALL.arguments)},
            }
        ]
    }
)
_TOOL: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": _CALL.name,
        "description": "A function.",
        "parameters": {"type": "object", "properties": {"probe_argument": {"type": "integer"}}},
    },
}


@dataclass(frozen=True, slots=True)
class CallSchema:
    """A tool that answers may call.

    Args:
        name: The function's name.
        schema: The JSON schema of its arguments, which must be of an object.
    """

    name: str
    schema: Mapping[str, Any]

    @property
    def form(self) -> Form:
        """The form of the arguments alone."""
        return Form("json-schema", json.dumps(dict(self.schema)))


def call_form_of(tokenizer: PreTrainedTokenizerBase) -> CallForm | None:
    """The form in which a base writes calls; None if its chat template does not show one of those in `FORMS`."""
    asked = (Message("user", "Hello."),)
    prompt = _written(tokenizer, asked, answer_next=True)
    if prompt is None:
        return None
    whole = _written(tokenizer, (*asked, Message("assistant", "", details=_DETAILS)), answer_next=False)
    if whole is None or _CALL.name not in (turn := _turn(tokenizer, asked, prompt, whole)):
        return HERMES if _SHOWN.search(prompt) else None
    for form in FORMS:
        reader = CallReader(form, {_CALL.name})
        if _CALL in (*reader.put(turn), *reader.end()):
            after = turn.partition(form.opening)[2]
            return replace(form, gap=after[: len(after) - len(after.lstrip())])
    return None


def marker_tokens(tokenizer: PreTrainedTokenizerBase, form: CallForm) -> dict[str, int]:
    """The form's markers that are one token each, and these tokens."""
    added: Mapping[str, int] = tokenizer.get_added_vocab()
    return {mark: added[mark] for mark in form.markers if mark in added}


def hidden_markers(tokenizer: PreTrainedTokenizerBase, form: CallForm) -> tuple[int, ...]:
    """Tokens of markers that have no text unless they are among `Sampling.shown_tokens`."""
    tokens = marker_tokens(tokenizer, form).values()
    return tuple(token for token in tokens if tokenizer.added_tokens_decoder[token].special)


def forced_calls(form: CallForm, tokens: Mapping[str, int], tools: Sequence[CallSchema], *, several: bool) -> Form:
    """The form of an answer that is a call, or several, and nothing else.

    Args:
        form: How the base writes calls.
        tokens: As `marker_tokens` gives them.
        tools: At least one, of which any may be called.
        several: Whether there may be more than one call; Llama's form has one at most.
    """
    return Form("grammar", "\n".join([f"start: {_block(form, tokens, several=several)}", *_rules(form, tools)]))


def checked_calls(form: CallForm, tokens: Mapping[str, int], tools: Sequence[CallSchema]) -> Form | None:
    """The form of an answer with any text, and with calls whose arguments have their schema.

    Args:
        form: How the base writes calls.
        tokens: As `marker_tokens` gives them.
        tools: At least one.

    Returns:
        None if the opening is not a token of its own, so that text cannot be told from the beginning of a call.
    """
    if form.opening not in tokens or form.may_be_bare:
        return None
    start = f"start: (<[^{tokens[form.opening]}]> | block)*"
    return Form(
        "grammar", "\n".join([start, f"block: {_block(form, tokens, several=form.is_list)}", *_rules(form, tools)])
    )


def _block(form: CallForm, tokens: Mapping[str, int], *, several: bool) -> str:
    if form.may_be_bare:
        return "call"
    opening, *closing = [f"<[{tokens[mark]}]>" if mark in tokens else json.dumps(mark) for mark in form.markers]
    gap = [json.dumps(form.gap)] if form.gap else []
    if form.is_list:
        more = ' (", " call)*' if several else ""
        return " ".join([opening, *gap, f'"[" call{more} "]"'])
    block = " ".join([opening, *gap, "call", *gap, *closing])
    return f'{block} ("\\n" {block})*' if several else block


def _rules(form: CallForm, tools: Sequence[CallSchema]) -> Iterator[str]:
    yield "call: " + " | ".join(f"call{place}" for place in range(len(tools)))
    for place, tool in enumerate(tools):
        begin = json.dumps(f'{{"name": {json.dumps(tool.name)}, "{form.arguments}": ')
        yield f'call{place}: {begin} arguments{place} "}}"'
        schema = {**tool.schema, "x-guidance": {"whitespace_pattern": BLANKS}}
        yield f"arguments{place}: %json {json.dumps(schema)}"


def _written(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_next: bool) -> str | None:
    try:
        return chat_text(tokenizer, messages, answer_next=answer_next, tools=[_TOOL])
    except InputError:
        return None


def _turn(tokenizer: PreTrainedTokenizerBase, asked: Sequence[Message], prompt: str, whole: str) -> str:
    """What the template wrote for the assistant's turn, without the tokens that end it."""
    before = prompt if whole.startswith(prompt) else _written(tokenizer, asked, answer_next=False) or ""
    turn = whole.removeprefix(before).strip()
    ends = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content]
    return _without_ends(turn, ends)


def _without_ends(text: str, ends: Collection[str]) -> str:
    while found := next((end for end in ends if text.endswith(end)), ""):
        text = text.removesuffix(found).rstrip()
    return text
