"""Answers of a form: JSON of a schema, regular expressions, grammars; what is refused, and when an answer ends."""

import json
import re
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import Generation, encode_prompt, generate
from steerzo_edge.decoding.grammar import JSON_OBJECT, Form, matcher_of
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.errors import FormError
from steerzo_edge.model.base import Base
from tests.conftest import Loader

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "likes": {"type": "array", "items": {"enum": ["dogs", "cats"]}, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
PERSON = Form("json-schema", json.dumps(SCHEMA))


def test_answers_have_the_schema_and_end_with_it(bundled: Base) -> None:
    for seed in range(2):
        made = generate(bundled, "A boy in JSON:", sampling=Sampling(120, temperature=1.0, seed=seed, form=PERSON))
        found = json.loads(made.text)
        assert set(found) == {"name", "age", "likes"}
        assert len(found["name"]) <= 12
        assert 0 <= found["age"] <= 99
        assert set(found["likes"]) <= {"dogs", "cats"}
        assert made.finish_reason == "stop"
        assert made.text.endswith("}")


def test_an_answer_that_is_complete_at_its_last_token_has_ended(bundled: Base) -> None:
    settings = Sampling(120, form=PERSON)
    whole = generate(bundled, "A boy in JSON:", sampling=settings)
    same = generate(bundled, "A boy in JSON:", sampling=Sampling(whole.completion_tokens, form=PERSON))
    assert same == whole
    shorter = generate(bundled, "A boy in JSON:", sampling=Sampling(whole.completion_tokens - 1, form=PERSON))
    assert shorter.finish_reason == "length"
    assert whole.text.startswith(shorter.text)


def test_a_regular_expression_and_a_grammar(bundled: Base) -> None:
    pattern = "(Mon|Tues)day, [0-9]{2}:[0-9]{2}"
    made = generate(bundled, "The day is", sampling=Sampling(40, form=Form("regex", pattern)))
    assert re.fullmatch(pattern, made.text)
    grammar = 'start: item (", " item)*\nitem: /[a-z]{2,5}/ "=" ("yes" | "no")'
    made = generate(bundled, "List:", sampling=Sampling(24, temperature=1.0, seed=1, form=Form("grammar", grammar)))
    items = made.text.split(", ")
    assert all(re.fullmatch("[a-z]{2,5}=(yes|no)", item) for item in items[:-1])


def answers(base: Base, samplings: list[Sampling]) -> list[Generation]:
    decoder = Decoder(base)
    tickets = [decoder.add(Request(encode_prompt(base, "A girl:", 90), one)) for one in samplings]
    made: dict[int, Generation] = {}
    while len(decoder):
        made |= {piece.ticket: piece.made for piece in decoder.step() if piece.made is not None}
    return [made[ticket] for ticket in tickets]


def test_rows_of_one_batch_have_forms_of_their_own(bundled: Base) -> None:
    samplings = [
        Sampling(90, form=PERSON),
        Sampling(20),
        Sampling(90, temperature=1.0, seed=3, form=PERSON, logprobs=1),
        Sampling(30, form=Form("regex", "[a-z ]{3,60}\\.")),
        Sampling(20, temperature=1.0, seed=2),
        Sampling(90, form=JSON_OBJECT),
    ]
    together = answers(bundled, samplings)
    assert together == [answers(bundled, [one])[0] for one in samplings]
    assert {frozenset(json.loads(together[place].text)) for place in (0, 2)} == {frozenset(SCHEMA["properties"])}
    # Log-probabilities are of the model's own distribution, in which other tokens may be likelier.
    assert len(together[2].logprobs) == together[2].completion_tokens
    assert any(one.likeliest[0].token != one.chosen.token for one in together[2].logprobs)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (Form("json-schema", '{"type": "array", "uniqueItems": true}'), "uniqueItems"),
        (Form("json-schema", '{"not": {"type": "string"}}'), "not"),
        (Form("json-schema", '{"if": {"type": "string"}, "then": {"minLength": 2}}'), "if"),
        (Form("json-schema", '{"type": "string", "format": "iban"}'), "iban"),
        (Form("json-schema", '{"$ref": "http://example.com/schema"}'), "example.com"),
        (Form("json-schema", '{"type": "integer", "minimum": 5, "maximum": 3}'), "minimum"),
        (Form("json-schema", '{"type": "thing"}'), "thing"),
        (Form("json-schema", json.dumps({"enum": ["x" * 300_000]})), "characters"),
        (Form("regex", "a(b"), "regex"),
        (Form("regex", "(?=a)b"), "look"),
        (Form("grammar", "start: nothing"), "nothing"),
        (Form("grammar", 'root ::= "a"'), "grammar"),
    ],
    ids=lambda value: value.text[:30] if isinstance(value, Form) else value,
)
def test_what_cannot_be_kept_to_is_refused_by_name(bundled: Base, form: Form, said: str) -> None:
    with pytest.raises(FormError, match=said):
        matcher_of(bundled, form)


def test_options_of_the_library_are_not_a_requests_to_set(bundled: Base) -> None:
    lenient = {"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}
    with pytest.raises(FormError, match="uniqueItems"):
        matcher_of(bundled, Form("json-schema", json.dumps(lenient)))


def test_a_token_that_the_form_excludes_ends_the_answer_with_an_error(bundled: Base) -> None:
    matcher = matcher_of(bundled, Form("regex", "[0-9]+"))
    assert matcher is not None
    excluded = matcher.excluded(torch.device("cpu"))
    allowed = [bundled.tokenizer.decode([token]) for token in (~excluded).nonzero()[:, 0].tolist()]
    assert set("0123456789") <= set(allowed)
    assert all(text.isdigit() for text in allowed)
    with pytest.raises(FormError):
        matcher.take(int(excluded.nonzero()[0]))


def test_a_tokenizer_of_another_library_is_refused(tiny: Loader) -> None:
    class Other(PreTrainedTokenizerBase):  # type: ignore[misc]
        pass

    base = tiny("none", torch.bfloat16)
    with pytest.raises(FormError, match="tokenizer"):
        matcher_of(base, JSON_OBJECT, tokenizer=Other.__new__(Other))
