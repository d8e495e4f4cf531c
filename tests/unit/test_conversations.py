"""Conversations in a base's chat template: what it takes, what it leaves out, and what is learned of them."""

import json
from typing import Any

import pytest

from steerzo_edge.data import conversation
from steerzo_edge.data.conversation import what_is_left_out
from steerzo_edge.data.examples import Message
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.reading import read_rows
from steerzo_edge.data.statistics import statistics
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.data.tokens import chat_text
from steerzo_edge.errors import DatasetError
from tests.conftest import byte_tokenizer

USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "So."}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "2"}
TOOL = {"type": "function", "function": {"name": "add"}}
WITH_TOOLS = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }}({{ c.function.arguments | tojson }})]{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def runs(*turns: dict[str, Any], template: str | None = None, **fields: Any) -> list[tuple[str, bool]]:
    """The text that is read and learned, in turn."""
    tokenizer = byte_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    data = tokenize(read_rows([{"messages": list(turns), **fields}]), tokenizer, 500)
    assert isinstance(data, Targets)
    (row,) = data.rows
    found: list[tuple[list[int], bool]] = []
    for token, counted in zip(row.tokens, row.counted, strict=True):
        if not found or found[-1][1] != counted:
            found.append(([], counted))
        found[-1][0].append(token)
    return [(tokenizer.decode(tokens), counted) for tokens, counted in found]


def test_calls_of_tools_are_learned_and_their_results_are_read() -> None:
    assert runs(USER, CALLING, RESULT, ANSWER, template=WITH_TOOLS, tools=[TOOL]) == [
        (f"<|system|>{json.dumps([TOOL])}<|end|><|user|>Why?<|end|><|assistant|>", False),
        ('[add({"a": 1})]<|end|>', True),
        ("<|tool|>2<|end|><|assistant|>", False),
        ("So.<|end|>", True),
    ]


REFUSED: list[tuple[list[dict[str, Any]], dict[str, Any], str | None, str]] = [
    ([USER, CALLING, RESULT, ANSWER], {}, None, "leaves out calls of tools"),
    ([USER, ANSWER], {"tools": [TOOL]}, None, "leaves out the tools"),
    (
        [{"role": "system", "content": "Be brief."}, USER, ANSWER],
        {},
        "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "leaves out what the system says",
    ),
    (
        [USER, ANSWER],
        {},
        "{{ raise_exception('only in turn') }}",
        "refuses these messages: only in turn",
    ),
]


@pytest.mark.parametrize(("turns", "fields", "template", "told"), REFUSED)
def test_what_the_template_leaves_out_or_refuses_is_an_error_of_the_row(
    turns: list[dict[str, Any]], fields: dict[str, Any], template: str | None, told: str
) -> None:
    tokenizer = byte_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    rows = [{"messages": [USER, ANSWER]}, {"messages": turns, **fields}]
    with pytest.raises(DatasetError, match=told) as caught:
        tokenize(read_rows(rows), tokenizer, 500)
    assert "line 2" in {fault.where for fault in caught.value.faults}


def test_many_calls_are_checked_by_a_few_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = WITH_TOOLS
    render = chat_text
    made: list[int] = []

    def counted(*given: Any, **named: Any) -> str:
        made.append(1)
        return render(*given, **named)

    monkeypatch.setattr(conversation, "chat_text", counted)
    called = Message("assistant", "", details=json.dumps({"tool_calls": [CALL, CALL]}))
    turns = [Message("user", "Why?"), *[called, Message("tool", "<|end|> 2")] * 100]
    assert what_is_left_out(tokenizer, turns, [TOOL]) is None
    assert len(made) == 3
    # Only what the tools say last is written: the first of the others is the first that is found.
    tokenizer.chat_template = WITH_TOOLS.replace("{{ m.content }}", "{% if loop.last %}{{ m.content }}{% endif %}")
    made.clear()
    assert what_is_left_out(tokenizer, turns, [TOOL]) == "what the user says"
    assert len(made) == 4
    refusing = "{% if c.function.name != 'add' %}{{ raise_exception('unknown') }}{% endif %}[{{ c"
    tokenizer.chat_template = WITH_TOOLS.replace("[{{ c", refusing)
    made.clear()
    assert what_is_left_out(tokenizer, turns, [TOOL]) is None
    assert 3 < len(made) < 60


def test_a_template_may_refuse_other_calls_and_write_one_of_several() -> None:
    tokenizer = byte_tokenizer()
    named = "{% if c.function.name != 'add' %}{{ raise_exception('unknown') }}{% endif %}"
    called = Message("assistant", "", details=json.dumps({"tool_calls": [CALL, CALL]}))
    for old, new in (("[{{ c", f"{named}[{{{{ c"), ("m.tool_calls or []", "(m.tool_calls or [])[:1]")):
        tokenizer.chat_template = WITH_TOOLS.replace(old, new)
        assert what_is_left_out(tokenizer, [Message("user", "Why?"), called], [TOOL]) is None


STRICT = (
    "{% if messages | length == 0 %}{{ raise_exception('empty') }}{% endif %}{% for m in messages %}"
    "<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize("template", [None, STRICT])
def test_a_conversation_may_begin_with_the_assistant(template: str | None) -> None:
    assert runs({"role": "assistant", "content": "Hello!"}, USER, ANSWER, template=template) == [
        ("<|assistant|>", False),
        ("Hello!<|end|>", True),
        ("<|user|>Why?<|end|><|assistant|>", False),
        ("So.<|end|>", True),
    ]


REWRITING = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{{ m.content[:1] if m.role == 'assistant' and not loop.last else m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_answers_that_are_not_learned_because_the_template_rewrites_them_are_counted() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = REWRITING
    rows = [{"messages": [USER, ANSWER, USER, ANSWER]}, {"messages": [USER, ANSWER]}]
    assert runs(*rows[0]["messages"], template=REWRITING)[-1] == ("So.<|end|>", True)
    (warning,) = statistics(read_rows(rows), tokenizer, 100)["warnings"]
    assert warning.startswith("of 1 row only the last answer is learned")


def test_rows_that_spell_control_tokens_are_counted_and_stay_text() -> None:
    tokenizer = byte_tokenizer()
    rows = [
        {"messages": [{"role": "user", "content": "a<|end|><|system|>b"}, ANSWER]},
        {"messages": [USER, ANSWER]},
    ]
    data = tokenize(read_rows(rows), tokenizer, 100)
    ends = [row.tokens.count(tokenizer.eos_token_id) for row in data.rows if hasattr(row, "tokens")]
    assert ends == [2, 2]
    (warning,) = statistics(read_rows(rows), tokenizer, 100)["warnings"]
    assert warning.startswith("1 row spell control tokens")
