"""How the answers to a request may call tools: checks what is requested against the base and its chat template."""

import json
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from server.openai.tools import FunctionChoice, ToolBody, ToolChoice
from server.openai_errors import UnsupportedError
from server.services.context import Context
from steerzo_edge.data.conversation import what_is_left_out
from steerzo_edge.data.examples import Chat
from steerzo_edge.decoding.call_forms import (
    FORMS,
    CallSchema,
    call_form_of,
    checked_calls,
    forced_calls,
    hidden_markers,
    marker_tokens,
)
from steerzo_edge.decoding.calls import CallForm, CallReader, Part
from steerzo_edge.decoding.grammar import Form, matcher_of
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import Fault, FormError, InputError

# Chat templates of Mistral's models refuse other ids.
ID_LENGTH: Final = 9
_NO_ARGUMENTS: Final = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How answers may call tools.

    Args:
        call_form: How the base writes calls.
        names: The functions' names.
        only_first: Whether an answer has one call at most.
        form: What the whole answer must look like; None for any text.
        shown_tokens: As in `Sampling`.
    """

    call_form: CallForm
    names: frozenset[str]
    only_first: bool
    form: Form | None
    shown_tokens: tuple[int, ...]

    def reader(self) -> CallReader:
        """Reads one answer."""
        return CallReader(self.call_form, self.names, only_first=self.only_first)

    def applied(self, sampling: Sampling) -> Sampling:
        """The sampling for an answer that may call tools."""
        return replace(sampling, form=self.form, shown_tokens=self.shown_tokens)


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """What a request says of tools.

    Args:
        tools: The functions it offers.
        choice: Whether an answer must call one; None is "auto".
        is_parallel: Whether an answer may have several calls.
        form: What the text of answers must look like; None for any text.
        form_field: The field that the form is from.
        function_field: The field that describes a function; its place in `tools` is put in place of `{}`.
    """

    tools: Sequence[ToolBody]
    choice: ToolChoice | None
    is_parallel: bool
    form: Form | None
    form_field: str
    function_field: str


def new_call_id() -> str:
    """An id for a call: nine random letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(ID_LENGTH))


def parts_of(use: ToolUse | None, text: str) -> list[Part]:
    """The texts and calls of a whole answer, in their order.

    Args:
        use: How the answer may call tools; None if it may not.
        text: The answer as it was generated.
    """
    if use is None:
        return [text] if text else []
    reader = use.reader()
    return [*reader.put(text), *reader.end()]


def tool_use(server: Context, chat: Chat, wanted: ToolRequest) -> ToolUse | None:
    """How the answers to a conversation may call tools; None if they may not. For a request thread.

    Args:
        server: The server's parts.
        chat: The conversation, and the tools for the chat template.
        wanted: What the request says of tools.

    Raises:
        UnsupportedError: If the chat template leaves out a tool, a call or a result; if calls of this base have an
            unknown form; or if a function's schema cannot be kept to. It names the parameter.
    """
    choice = wanted.choice or "auto"
    if not wanted.tools and choice not in ("none", "auto"):
        found = choice if isinstance(choice, str) else choice.function.name
        raise UnsupportedError(
            "tool_choice", found, "there are no tools to choose from; send some, or leave it out"
        )
    _check_template(server, chat)
    if not wanted.tools or choice == "none":
        return None
    if wanted.form is not None:
        fix = 'an answer that may call tools has no other form; leave this out, or send tool_choice: "none"'
        raise UnsupportedError(wanted.form_field, wanted.form.text, fix)
    call_form = call_form_of(server.tokenizer)
    if call_form is None:
        known = ", ".join(form.name for form in FORMS)
        fix = (
            f"the base's chat template does not write calls in a form that is known here ({known}); leave them out"
        )
        raise UnsupportedError("tools", [tool.function.name for tool in wanted.tools], fix)
    return ToolUse(
        call_form,
        frozenset(tool.function.name for tool in wanted.tools),
        not wanted.is_parallel,
        _form(server, call_form, wanted),
        hidden_markers(server.tokenizer, call_form),
    )


def _check_template(server: Context, chat: Chat) -> None:
    if not (chat.tools or any(message.details for message in chat.messages)):
        return
    try:
        left_out = what_is_left_out(server.tokenizer, chat.messages, json.loads(chat.tools or "[]"))
    except InputError as error:
        fault = Fault("messages", "", f"{len(chat.messages)} messages", str(error))
        raise InputError(str(error), faults=error.faults or (fault,), hint=error.hint) from None
    if left_out is not None:
        field, found = ("tools", chat.tools) if chat.tools else ("messages", "tool_calls")
        fix = f"the base's chat template leaves out {left_out}; leave them out, or use another base"
        raise UnsupportedError(field, found, fix)


def _form(server: Context, call_form: CallForm, wanted: ToolRequest) -> Form | None:
    tokens = marker_tokens(server.tokenizer, call_form)
    several = wanted.is_parallel
    if isinstance(wanted.choice, FunctionChoice):
        name = wanted.choice.function.name
        chosen = [place for place, tool in enumerate(wanted.tools) if tool.function.name == name]
        if not chosen:
            raise UnsupportedError("tool_choice", name, "it is not one of the tools; send the name of one of them")
        return forced_calls(call_form, tokens, _schemas(server, wanted, chosen), several=False)
    places = range(len(wanted.tools))
    if wanted.choice == "required":
        return forced_calls(call_form, tokens, _schemas(server, wanted, places), several=several)
    strict = [place for place in places if wanted.tools[place].function.strict]
    if not strict:
        return None
    form = checked_calls(call_form, tokens, _schemas(server, wanted, places, only_strict=True))
    if form is None:
        fix = 'with this base it needs tool_choice: "required", or the name of a function; or leave it out'
        raise UnsupportedError(f"{wanted.function_field.format(strict[0])}.strict", True, fix)
    return form


def _schemas(
    server: Context, wanted: ToolRequest, places: Sequence[int], *, only_strict: bool = False
) -> list[CallSchema]:
    """The schemas of some of the tools, each compiled once to see that it can be kept to.

    With `only_strict` the arguments of tools that are not strict may be any object.
    """
    found = []
    for place in places:
        function = wanted.tools[place].function
        if only_strict and not function.strict:
            found.append(CallSchema(function.name, {"type": "object"}))
            continue
        field = f"{wanted.function_field.format(place)}.parameters"
        schema = {"type": "object", **function.parameters} if function.parameters else _NO_ARGUMENTS
        if schema["type"] != "object":
            raise UnsupportedError(field, schema["type"], 'the type of arguments must be "object"')
        tool = CallSchema(function.name, schema)
        try:
            matcher_of(server.device.base, tool.form, tokenizer=server.tokenizer)
        except FormError as error:
            raise UnsupportedError(field, function.parameters, str(error)) from None
        found.append(tool)
    return found
