"""Answers of a JSON schema: tokens a second with the schema and without, and the time before the first token.

    python -m benchmarks.forms [--base BASE] [--rows 1 8] [--tokens 64] [--json FILE]

The same rows are answered in turns with and without a form, and the median of the repetitions is printed. The
schema is a list of objects that goes on until the last token, so that all answers have the same length. xgrammar is
measured beside it where it is installed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import encode_prompt
from steerzo_edge.decoding.grammar import Form, matcher_of
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base

PROMPT = "A list of people, in JSON:"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "likes": {"type": "array", "items": {"enum": ["dogs", "cats", "birds"]}, "maxItems": 3},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": PERSON, "minItems": 200}
REPETITIONS = 5


def rate(base: Base, rows: int, tokens: int, form: Form | None, temperature: float) -> float:
    """Tokens a second of all rows together, from the first step to the last."""
    prompt = encode_prompt(base, PROMPT, tokens)
    decoder = Decoder(base)
    for seed in range(rows):
        # An end token would make the answers without a form shorter.
        ends = tuple((end, -100.0) for end in base.end_tokens) if form is None and temperature else ()
        decoder.add(Request(prompt, Sampling(tokens, temperature, seed=seed, form=form, logit_bias=ends)))
    began = time.perf_counter()
    made = 0
    while len(decoder):
        made += len(decoder.step())
    return made / (time.perf_counter() - began)


def seconds(call: Callable[[], Any]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def before_the_first_token(base: Base) -> dict[str, float]:
    """Seconds of the first form of a process, of another schema, of the same again, and of one place's tokens."""
    form = Form("json-schema", json.dumps(SCHEMA))
    other = Form("json-schema", json.dumps({**SCHEMA, "minItems": 201}))
    matcher = None

    def first() -> None:
        nonlocal matcher
        matcher = matcher_of(base, form)

    found = {
        "vocabulary and schema": seconds(first),
        "another schema": seconds(lambda: matcher_of(base, other)),
        "the same schema again": seconds(lambda: matcher_of(base, form)),
    }
    text = json.dumps([{"name": "Tom is a boy", "age": 13, "likes": ["dogs", "cats"]}] * 3)[:-1]
    places = []
    for token in base.tokenizer(text, add_special_tokens=False).input_ids:
        assert matcher is not None
        places.append(seconds(lambda: matcher.excluded(torch.device("cpu"))))
        matcher.take(token)
    return {**found, "tokens of one place, median": statistics.median(places), "longest": max(places)}


def of_xgrammar(base: Base) -> dict[str, float]:
    """The same of xgrammar, if it is installed."""
    import xgrammar

    made: dict[str, Any] = {}

    def first() -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(base.tokenizer, vocab_size=base.head.vocabulary)
        made["compiler"] = xgrammar.GrammarCompiler(info)
        made["grammar"] = made["compiler"].compile_json_schema(json.dumps(SCHEMA))

    found = {
        "vocabulary and schema": seconds(first),
        "another schema": seconds(
            lambda: made["compiler"].compile_json_schema(json.dumps({**SCHEMA, "minItems": 201}))
        ),
    }
    matcher = xgrammar.GrammarMatcher(made["grammar"])
    mask = xgrammar.allocate_token_bitmask(1, base.head.vocabulary)
    text = json.dumps([{"name": "Tom is a boy", "age": 13, "likes": ["dogs", "cats"]}] * 3)[:-1]
    places = []
    for token in base.tokenizer(text, add_special_tokens=False).input_ids:
        places.append(seconds(lambda: matcher.fill_next_token_bitmask(mask)))
        if not matcher.accept_token(token):
            break
    return {**found, "tokens of one place, median": statistics.median(places), "longest": max(places)}


def rates(base: Base, rows: Sequence[int], tokens: int) -> list[dict[str, Any]]:
    """Tokens a second with and without the schema, for each number of rows, greedy and sampled."""
    form = Form("json-schema", json.dumps(SCHEMA))
    found = []
    for count in rows:
        for temperature in (0.0, 1.0):
            rate(base, count, 8, form, temperature)
            measured: list[list[float]] = [[], []]
            for _ in range(REPETITIONS):
                for values, kind in zip(measured, (None, form), strict=True):
                    values.append(rate(base, count, tokens, kind, temperature))
            plain, formed = map(statistics.median, measured)
            found.append({"rows": count, "temperature": temperature, "plain": plain, "schema": formed})
    return found


def main() -> None:
    """Prints the figures, and writes them if asked to."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="bundled")
    options.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    base = load_base(chosen.base, device="cpu")
    found: dict[str, Any] = {"base": base.name, "llguidance": before_the_first_token(base)}
    if find_spec("xgrammar") is not None:
        found["xgrammar"] = of_xgrammar(base)
    found["rates"] = rates(base, chosen.rows, chosen.tokens)
    for library in ("llguidance", "xgrammar"):
        for name, value in found.get(library, {}).items():
            sys.stdout.write(f"{library}  {name}: {1000 * value:.3f} ms\n")
    for one in found["rates"]:
        sys.stdout.write(f"{one['rows']} rows, temperature {one['temperature']:g}: ")
        sys.stdout.write(f"{one['plain']:.1f} tokens a second without a form, {one['schema']:.1f} with the schema ")
        sys.stdout.write(f"({one['schema'] / one['plain']:.2f})\n")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
