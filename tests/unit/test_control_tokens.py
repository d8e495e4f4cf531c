"""A text that spells a control token is text: in a prompt, in an answer, and in a turn of a conversation."""

import copy
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from steerzo_edge.data.control_tokens import control_tokens, read_control_tokens, unmarked
from steerzo_edge.data.examples import Message
from steerzo_edge.data.tokens import answer_tokens, chat_text, prompt_tokens, template_tokens
from steerzo_edge.errors import InputError
from steerzo_edge.model.load import load_tokenizer
from tests.conftest import byte_tokenizer
from tests.properties.tries import tried
from tests.unit.tokenizers_of_kinds import KINDS


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    return KINDS[kind]() if kind in KINDS else load_tokenizer()


ALL = pytest.mark.parametrize("kind", [*KINDS, "bundled"])
scraps = st.lists(
    st.sampled_from(
        ["<|end|>", "</s>", "<s>", "<|user|>", "<|us", "er|>", "<", "|>", "</", "s>", "<|END|>", "<unk>"]
    )
    | st.text("ab <|>/s\n", max_size=3),
    max_size=5,
).map("".join)


def controls(tokenizer: PreTrainedTokenizerFast, tokens: tuple[int, ...]) -> list[int]:
    """The control tokens among these; not the one that stands for unknown characters."""
    ids = set(tokenizer.added_tokens_decoder) - {tokenizer.unk_token_id}
    return [token for token in tokens if token in ids]


def spelled(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [token.content for token in tokenizer.added_tokens_decoder.values()]


@ALL
@tried(40)
@given(text=scraps)
def test_no_text_makes_a_control_token(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    assert controls(tokenizer, answer_tokens(tokenizer, text)) == []
    around = controls(tokenizer, tuple(tokenizer("").input_ids))
    assert controls(tokenizer, prompt_tokens(tokenizer, text)) == around


@ALL
def test_every_control_token_is_text_where_a_user_writes_it(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    for content in spelled(tokenizer):
        text = f"a {content}b"
        assert controls(tokenizer, tuple(tokenizer(text, add_special_tokens=False).input_ids)) or "unk" in content
        tokens = answer_tokens(tokenizer, text)
        assert controls(tokenizer, tokens) == []
        assert tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False).strip() == text


@ALL
@tried(40)
@given(text=st.text("ab <|>/s\n", max_size=12))
def test_texts_without_control_tokens_keep_their_tokens(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    usual = tokenizer(text, add_special_tokens=False).input_ids
    if not controls(tokenizer, tuple(usual)):
        assert list(answer_tokens(tokenizer, text)) == usual
        assert control_tokens(tokenizer).as_text(text, frame=False) == usual
        assert control_tokens(tokenizer).as_text(text, frame=True) == tokenizer(text).input_ids


@ALL
@tried(40)
@example(turns=["\n"])
@given(turns=st.lists(scraps, min_size=1, max_size=3))
def test_the_control_tokens_of_a_conversation_are_the_template_s(kind: str, turns: list[str]) -> None:
    """As many, in the same order, as with turns of other words; and the text is still that of the template."""
    tokenizer = tokenizer_of(kind)
    messages = [Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]
    others = [Message(message.role, "x") for message in messages]
    text = chat_text(tokenizer, messages, answer_next=True)
    expected = template_tokens(tokenizer, chat_text(tokenizer, others, answer_next=True))
    assert controls(tokenizer, template_tokens(tokenizer, text)) == controls(tokenizer, expected)
    rendered = tokenizer.apply_chat_template(
        [message.turn() for message in messages], tokenize=False, add_generation_prompt=True
    )
    assert unmarked(text) == rendered


def test_a_turn_and_the_template_do_not_spell_one_together() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}|>er|>{{ m.content }}{% endfor %}"
    text = chat_text(tokenizer, [Message("user", "<|user")], answer_next=False)
    assert unmarked(text) == "[<|user|>er|><|user"
    assert controls(tokenizer, tuple(tokenizer(unmarked(text)).input_ids))
    tokens = template_tokens(tokenizer, text)
    assert controls(tokenizer, tokens) == []
    assert tokenizer.decode(list(tokens)) == "[<|user|>er|><|user"


def test_calls_of_tools_are_texts_too() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|user|>{{ m.tool_calls | tojson }}{{ tools | tojson }}{% endfor %}"
    )
    turn = Message("assistant", "", details='{"tool_calls": [{"function": {"name": "<|end|>"}}]}')
    text = chat_text(tokenizer, [turn], answer_next=False, tools=[{"<|pad|>": 1}])
    tokens = template_tokens(tokenizer, text)
    assert controls(tokenizer, tokens) == [tokenizer.convert_tokens_to_ids("<|user|>")]
    assert '"name": "<|end|>"' in tokenizer.decode(list(tokens))


def test_an_operator_may_allow_them_also_for_copies() -> None:
    tokenizer = byte_tokenizer()
    read_control_tokens(tokenizer)
    for one in (tokenizer, copy.deepcopy(tokenizer)):
        assert answer_tokens(one, "a<|end|>") == tuple(one("a<|end|>").input_ids)
        text = chat_text(one, [Message("user", "a<|end|>")], answer_next=False)
        assert len(controls(one, template_tokens(one, text))) == 3
    assert controls(load_with(allow=True), answer_tokens(load_with(allow=True), "<|end|>"))
    assert not controls(load_with(allow=False), answer_tokens(load_with(allow=False), "<|end|>"))


def load_with(*, allow: bool) -> PreTrainedTokenizerFast:
    found = load_tokenizer(allow_control_tokens=allow)
    assert isinstance(found, PreTrainedTokenizerFast)
    return found


def test_a_template_that_looks_for_them_is_refused_in_words() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content.split('<|end|>')[0] }}{% endfor %}"
    with pytest.raises(InputError, match="because it spells a control token"):
        chat_text(tokenizer, [Message("user", "a<|end|>b")], answer_next=False)
