"""Calls of tools in answers: the form a template shows, calls read piece by piece, and grammars that force them."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from steerzo_edge.decoding.call_forms import (
    FORMS,
    HERMES,
    LLAMA,
    CallSchema,
    call_form_of,
    checked_calls,
    forced_calls,
    hidden_markers,
    marker_tokens,
)
from steerzo_edge.decoding.calls import Call, CallForm, CallReader, Part
from steerzo_edge.decoding.text import Text
from tests.call_templates import HERMES_TEMPLATE, TEMPLATES, XML_TEMPLATE
from tests.conftest import CHAT_TEMPLATE, byte_tokenizer

MISTRAL, GRANITE = FORMS[1], FORMS[2]
ADD = Call("add", '{"a": 1}')
SUM = Call("sum", '{"b": "</tool_call> ]"}')
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOLS = [CallSchema("add", SCHEMA), CallSchema("sum", {"type": "object", "properties": {"b": {"type": "string"}}})]


def read(form: CallForm, text: str, size: int, **settings: Any) -> list[Part]:
    """What a reader returns for pieces of this size, with neighbouring texts joined."""
    reader = CallReader(form, {"add", "sum"}, **settings)
    found: list[Part] = []
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for part in [part for piece in pieces for part in reader.put(piece)] + reader.end():
        if found and isinstance(part, str) and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def one(name: str, key: str = "arguments", **arguments: Any) -> str:
    return json.dumps({"name": name, key: arguments})


FIRST, SECOND = one("add", a=1), one("sum", b="</tool_call> ]")
OTHER = one("other", a=1)
UNQUOTED = '{"name": "add, "arguments": {}}'
ENDLESS = '{"name": "add", "arguments": {"a": 1e999}}'
CASES: list[tuple[CallForm, str, list[Part]]] = [
    (HERMES, "Hello <world>. ", ["Hello <world>. "]),
    (HERMES, f"<tool_call>\n{FIRST}\n</tool_call>", [ADD]),
    (HERMES, f"So:\n<tool_call>{FIRST}</tool_call>\n<tool_call>{SECOND}</tool_call>\n", ["So:", ADD, SUM]),
    (HERMES, f"<tool_call>{FIRST}</tool_call> done", [ADD, " done"]),
    (HERMES, f"<tool_call>{FIRST}", [ADD]),
    (HERMES, f"<tool_call>{FIRST[:-1]}", [FIRST[:-1]]),
    (HERMES, f"<tool_call>{one('other', a=1)}</tool_call>", [one("other", a=1)]),
    (HERMES, "<tool_call>nothing</tool_call>", ["nothing"]),
    (HERMES, "a</tool_call>b", ["ab"]),
    (HERMES, f"<tool_call>[{FIRST}, {SECOND}]</tool_call>", [ADD, SUM]),
    (
        HERMES,
        '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
        ['{"name": "add", "arguments": {"a": NaN}}'],
    ),
    (MISTRAL, f"[TOOL_CALLS] [{FIRST}, {SECOND}]", [ADD, SUM]),
    (MISTRAL, f"I will.[TOOL_CALLS][{FIRST}] ", ["I will.", ADD]),
    (MISTRAL, "a [list] of [TOOL", ["a [list] of [TOOL"]),
    (GRANITE, f"<|tool_call|>[{FIRST}]", [ADD]),
    (LLAMA, one("add", "parameters", a=1), [ADD]),
    (
        LLAMA,
        f"<|python_tag|>{one('add', 'parameters', a=1)}; {one('sum', 'parameters', b='</tool_call> ]')}",
        [ADD, SUM],
    ),
    (LLAMA, f"{one('add', 'parameters', a=1)} is what I call", [f"{one('add', 'parameters', a=1)} is what I call"]),
    (LLAMA, "{no JSON} at all", ["{no JSON} at all"]),
    (LLAMA, "Call {this}.", ["Call {this}."]),
    # What cannot be read stays text, and the answer goes on after it.
    (HERMES, f"<tool_call>{OTHER}</tool_call><tool_call>{FIRST}</tool_call> bye", [OTHER, ADD, " bye"]),
    (HERMES, f"Write <tool_call> first. <tool_call>{FIRST}</tool_call>", ["Write first.", ADD]),
    (HERMES, f"<tool_call>{FIRST}<tool_call>{SECOND}</tool_call>", [ADD, SUM]),
    (HERMES, f"<tool_call>{FIRST[:-1]}\n<tool_call>{SECOND}</tool_call>", [FIRST[:-1], SUM]),
    (HERMES, f"<tool_call>{{broken</tool_call> and <tool_call>{FIRST}</tool_call>", ["{broken and", ADD]),
    (HERMES, f"<tool_call>{UNQUOTED}</tool_call><tool_call>{FIRST}</tool_call>", [UNQUOTED, ADD]),
    (
        HERMES,
        f'<tool_call>{OTHER[:-2]}, "b": "<tool_call>{{}}"}}}}</tool_call>.',
        [f'{OTHER[:-2]}, "b": "{{}}"}}}}.'],
    ),
    (HERMES, f"<tool_call>{ENDLESS}</tool_call>", [ENDLESS]),
    (HERMES, f"<tool_call>\n{FIRST[:-1]}", [FIRST[:-1]]),
    (MISTRAL, f"[TOOL_CALLS][{FIRST}, {OTHER}] so[TOOL_CALLS][{FIRST}]", [f"[{FIRST}, {OTHER}] so", ADD]),
    (MISTRAL, f"[TOOL_CALLS][{FIRST}[TOOL_CALLS][{SECOND}]", [f"[{FIRST}", SUM]),
    (GRANITE, f"<|tool_call|>none <|tool_call|>[{FIRST}]", ["none", ADD]),
]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("form", "text", "parts"), CASES)
def test_an_answer_is_read_alike_in_pieces_of_all_sizes(
    form: CallForm, text: str, parts: list[Part], size: int
) -> None:
    assert read(form, text, size) == parts


def test_only_the_first_call_is_kept_if_there_may_be_one_only() -> None:
    assert read(MISTRAL, f"[TOOL_CALLS][{FIRST}, {SECOND}]", 9, only_first=True) == [ADD]
    two = f"<tool_call>{FIRST}</tool_call><tool_call>{SECOND}</tool_call>"
    assert read(HERMES, two, 9, only_first=True) == [ADD]


def test_text_is_not_held_back_longer_than_it_may_be_a_marker() -> None:
    reader = CallReader(HERMES, {"add"})
    assert reader.put("a < ") == ["a <"]
    assert reader.put("b <tool") == [" b"]
    assert reader.put("box> c") == [" <toolbox> c"]


def test_a_block_that_is_not_a_call_does_not_hold_the_answer_back() -> None:
    reader = CallReader(HERMES, {"add"})
    assert reader.put("Write <tool_call> first") == ["Write", " first"]
    assert reader.put(f" <tool_call>{OTHER}</tool_call> then") == [OTHER, " then"]


def test_a_list_is_read_again_only_where_it_may_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    values = CallReader._values

    def counted(self: CallReader) -> Any:
        tries.append(self._held)
        return values(self)

    monkeypatch.setattr(CallReader, "_values", counted)
    long = one("sum", b="]" + "x" * 500)
    assert read(MISTRAL, f"[TOOL_CALLS][{long}]", 1) == [Call("sum", json.dumps(json.loads(long)["arguments"]))]
    assert len(tries) == 2


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_form_is_told_from_the_template(name: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    form = call_form_of(tokenizer)
    assert form is not None
    assert form.name == name.partition(",")[0]
    assert form.gap == {"Hermes": "\n", "Mistral": " "}.get(form.name, "")


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, XML_TEMPLATE, "{{ raise_exception('never') }}"])
def test_another_form_is_unknown(template: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    assert call_form_of(tokenizer) is None


def with_markers(*, special: bool) -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    marks = [AddedToken(mark, special=special, normalized=False) for form in FORMS for mark in form.markers]
    tokenizer.add_tokens(marks, special_tokens=special)
    tokenizer.chat_template = HERMES_TEMPLATE
    return tokenizer


def test_markers_that_are_control_tokens_are_shown_on_request() -> None:
    tokenizer = with_markers(special=True)
    shown = hidden_markers(tokenizer, HERMES)
    assert len(shown) == 2
    assert hidden_markers(with_markers(special=False), HERMES) == ()
    assert hidden_markers(byte_tokenizer(), HERMES) == ()
    answer = f"é<tool_call>\n{FIRST}</tool_call><|end|>"
    tokens = tokenizer(answer, add_special_tokens=False).input_ids
    for asked, expected in ((shown, answer.removesuffix("<|end|>")), ((), f"é\n{FIRST}")):
        text = Text(tokenizer, asked)
        assert "".join([*map(text.put, tokens), text.end()]) == expected


def accepts(tokenizer: PreTrainedTokenizerFast, grammar: str, text: str) -> bool:
    matcher = LLMatcher(
        from_tokenizer(tokenizer, len(tokenizer), [0]), LLMatcher.grammar_from_lark(grammar), log_level=0
    )
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize("kind", ["tokens", "control tokens", "text"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_forced_answer_is_a_call_that_the_schema_allows(form: CallForm, kind: str) -> None:
    tokenizer = byte_tokenizer() if kind == "text" else with_markers(special=kind == "control tokens")
    tokens = marker_tokens(tokenizer, form)
    assert bool(tokens) == (kind != "text")
    key = form.arguments

    def written(*calls: str) -> str:
        if form.may_be_bare:
            return "; ".join(calls)
        if form.is_list:
            return f"{form.opening}[{', '.join(calls)}]"
        return "\n".join(f"{form.opening}\n{call}\n{form.closing}" for call in calls)

    good, other = one("add", key, a=1), one("sum", key, b="x")
    single = forced_calls(form, tokens, TOOLS, several=False).text
    assert accepts(tokenizer, single, written(good))
    assert accepts(tokenizer, single, written(other))
    for bad in (one("add", key, a="1"), one("add", key), one("none", key, a=1)):
        assert not accepts(tokenizer, single, written(bad))
    assert not accepts(tokenizer, single, "a" + written(good))
    assert not accepts(tokenizer, single, written(good, other))
    several = forced_calls(form, tokens, TOOLS, several=True).text
    assert accepts(tokenizer, several, written(good, other)) == (not form.may_be_bare)


def test_arguments_of_calls_in_a_free_answer_have_their_schema() -> None:
    tokenizer = with_markers(special=False)
    form = checked_calls(HERMES, marker_tokens(tokenizer, HERMES), TOOLS)
    assert form is not None
    for text in ("Any text: {}", f"So <tool_call>\n{FIRST}\n</tool_call> and so"):
        assert accepts(tokenizer, form.text, text)
    assert not accepts(tokenizer, form.text, f"<tool_call>\n{one('add', a='1')}\n</tool_call>")
    assert checked_calls(HERMES, {}, TOOLS) is None
    assert checked_calls(LLAMA, marker_tokens(tokenizer, LLAMA), TOOLS) is None
