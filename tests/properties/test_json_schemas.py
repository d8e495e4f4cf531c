"""Two hundred generated schemas: every answer that ends by itself parses and validates."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import Generation, encode_prompt
from steerzo_edge.decoding.grammar import Form
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.base import Base

SCHEMAS = 200
NAMES = ("name", "age", "is_good", "kind", "a b", 'quo"te', "", "größe")
ROWS = 32
TOKENS = 60


def _bounded(low: str, high: str, most: int) -> st.SearchStrategy[dict[str, int]]:
    """None, one or both of two bounds, the lower one first."""
    pair = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    return pair.flatmap(
        lambda bounds: st.sampled_from(
            [{}, {low: bounds[0]}, {high: bounds[1] + 1}, {low: bounds[0], high: bounds[1] + 1}]
        )
    )


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    def of(properties: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
        required = st.lists(st.sampled_from(sorted(properties)), unique=True) if properties else st.just([])
        others: list[dict[str, Any]] = [
            {},
            {"additionalProperties": False},
            {"additionalProperties": {"type": "boolean"}},
        ]
        return st.tuples(required, st.sampled_from(others)).map(
            lambda parts: {"type": "object", "properties": properties, "required": parts[0], **parts[1]}
        )

    return st.dictionaries(st.sampled_from(NAMES), inner, max_size=3).flatmap(of)


def _schemas() -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({"type": "number"}),
        _bounded("minimum", "maximum", 500).map(lambda bounds: {"type": "integer", **bounds}),
        _bounded("exclusiveMinimum", "exclusiveMaximum", 9).map(
            lambda bounds: {"type": "number", **({} if len(bounds) == 2 else bounds)}
        ),
        _bounded("minLength", "maxLength", 12).map(lambda bounds: {"type": "string", **bounds}),
        st.sampled_from(["[a-c]{2,4}", "^x[0-9]+y$", "^(red|green)$"]).map(
            lambda pattern: {"type": "string", "pattern": pattern}
        ),
        st.sampled_from(["date", "uuid", "ipv4"]).map(lambda kind: {"type": "string", "format": kind}),
        st.lists(st.sampled_from([1, "one", None, True, "zwölf", 2.5]), min_size=1, unique_by=repr).map(
            lambda values: {"enum": values}
        ),
        st.sampled_from([{"const": {"a": [1]}}, {"const": "only"}]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            _objects(inner),
            st.tuples(inner, _bounded("minItems", "maxItems", 3)).map(
                lambda parts: {"type": "array", "items": parts[0], **parts[1]}
            ),
            st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
            st.lists(inner, min_size=1, max_size=2).map(
                lambda parts: {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
            ),
        ),
        max_leaves=5,
    )


def drawn() -> list[Any]:
    """The same schemas each time."""
    found: dict[str, Any] = {}

    @settings(
        max_examples=3 * SCHEMAS,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(_schemas())
    def note(schema: Any) -> None:
        found[json.dumps(schema)] = schema

    note()
    return list(found.values())[:SCHEMAS]


def answered(base: Base, requests: list[Request]) -> list[Generation]:
    """Answers in batches of rows; a row joins when another has left."""
    decoder = Decoder(base)
    waiting = list(enumerate(requests))
    places: dict[int, int] = {}
    made: dict[int, Generation] = {}
    while waiting or len(decoder):
        while waiting and len(decoder) < ROWS:
            place, request = waiting.pop(0)
            places[decoder.add(request)] = place
        for piece in decoder.step():
            assert piece.error is None, piece.error
            if piece.made is not None:
                made[places[piece.ticket]] = piece.made
    return [made[place] for place in range(len(requests))]


@pytest.mark.long
def test_every_finished_answer_validates(bundled: Base) -> None:
    schemas = drawn()
    assert len(schemas) == SCHEMAS
    prompt = encode_prompt(bundled, "Once upon a time there was", TOKENS)
    requests = [
        Request(
            prompt, Sampling(TOKENS, float(number % 2), seed=number, form=Form("json-schema", json.dumps(schema)))
        )
        for number, schema in enumerate(schemas)
    ]
    made = answered(bundled, requests)
    finished = [place for place, answer in enumerate(made) if answer.finish_reason == "stop"]
    for place in finished:
        value = json.loads(made[place].text)
        validator = jsonschema_rs.validator_for(schemas[place], validate_formats=True)
        assert validator.is_valid(value), (schemas[place], made[place].text)
    # The others have strings or numbers without a bound, in which this small base goes on.
    assert len(finished) > 0.5 * SCHEMAS
