"""Prompts with log-probabilities: rows a second beside an evaluation of the same rows, and beside reading texts.

    python -m benchmarks.scored_prompts [--base BASE] [--rows 24] [--batch 16 64 256] [--json FILE]

The rows are questions of the intents with seven choices. `evaluate` computes what `steerzo evaluate` does;
`scored` is what the server computes for the texts as lm-eval sends them, a question with each of its choices,
`--batch` texts in a request; `read` puts the same texts into the decoder, which gives the token after each of them
and no log-probabilities of the text.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from steerzo_edge.data.examples import Dataset, MultipleChoice
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.tokenization import Questions
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.scoring import ScoringRequest, parts_of, scored, shared_rows
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.objectives.evaluation import evaluate

INTENTS = Path(__file__).parents[1] / "steerzo_edge" / "assets" / "intents"
PART_TOKENS = 512
TOGETHER = 32


def questions(base: Base, count: int) -> Questions:
    """Rows with the option words of the intents as choices."""
    options = json.loads((INTENTS / "task.json").read_text())["options"]
    lines = (INTENTS / "test.jsonl").read_text().splitlines()
    rows = [json.loads(lines[place * len(lines) // count]) for place in range(count)]
    choices = tuple(f" {word}" for word in options.values())
    examples = tuple(
        MultipleChoice(f"{row['text']}\nThis is about", choices, (list(options).index(row["label"]),))
        for row in rows
    )
    dataset = Dataset("multiple-choice", examples, tuple(range(1, count + 1)))
    found = tokenize(dataset, base.tokenizer, base.context_length, ())
    assert isinstance(found, Questions)
    return found


def scores(base: Base, texts: list[tuple[int, ...]], batch: int) -> None:
    """Scores the texts, some in each request, as the server does."""
    for start in range(0, len(texts), batch):
        requests = [ScoringRequest(text, 1) for text in texts[start : start + batch]]
        for part in parts_of(shared_rows([one.tokens for one in requests]), PART_TOKENS):
            scored(base, requests, part)


def reads(base: Base, texts: list[tuple[int, ...]]) -> None:
    """Reads the texts in the decoder and makes a token after each."""
    decoder = Decoder(base)
    waiting = list(texts)
    while waiting or len(decoder):
        while waiting and len(decoder) < TOGETHER:
            decoder.add(Request(waiting.pop(), Sampling(1)))
        decoder.step()


def main() -> None:
    """Prints the figures, and writes them if asked to."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="bundled")
    options.add_argument("--rows", type=int, default=24)
    options.add_argument("--batch", type=int, nargs="+", default=[16, 64, 256])
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    base = load_base(chosen.base, device="cpu")
    data = questions(base, chosen.rows)
    texts = [row.prompt + choice for row in data.rows for choice in row.choices]
    ways: dict[str, Callable[[], Any]] = {"evaluate": lambda: evaluate(base, data)}
    ways |= {f"scored, {batch} texts in a request": partial(scores, base, texts, batch) for batch in chosen.batch}
    ways["read"] = lambda: reads(base, texts)
    found: dict[str, Any] = {"base": base.name, "rows": chosen.rows, "texts": len(texts)}
    for name, way in ways.items():
        way()
        began = time.perf_counter()
        way()
        found[name] = chosen.rows / (time.perf_counter() - began)
        sys.stdout.write(f"{name}: {found[name]:.2f} rows a second\n")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
