"""The harness lm-eval against the server: its numbers are those of `steerzo evaluate` on the same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from server.commands.app import app
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import encode_prompt
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.decoding.scoring import Scored, ScoringRequest, parts_of, scored, shared_rows
from steerzo_edge.model.base import Base
from tests.server.process import ServerProcess

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALLED = ROOT / ".lm-eval"
ASSETS = ROOT / "steerzo_edge" / "assets"
WORDS = ("songs", "restaurant", "weather", "music", "stars", "search", "movies")
# Rows whose two best choices, or whose likeliest tokens, are closer than this may turn by rounding.
CLEAR = 0.1
ANSWERS = 6
CHOICES = 16


@pytest.fixture(scope="module")
def rows(bundled: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `choice.jsonl` and `answer.jsonl`."""
    path = tmp_path_factory.mktemp("lm-eval")
    for name, made in (("choice", choice_rows(bundled)), ("answer", answer_rows(bundled))):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def choice_rows(base: Base) -> list[dict[str, Any]]:
    """Choices of one token, and of two: both tools choose the same where all choices have the same length."""
    labels = list(json.loads((ASSETS / "intents" / "task.json").read_text())["options"])
    lines = (ASSETS / "intents" / "test.jsonl").read_text().splitlines()[::17]
    found: list[dict[str, Any]] = []
    for number, row in enumerate(map(json.loads, lines)):
        before = " the" if number % 2 else ""
        choices = [f"{before} {word}" for word in WORDS]
        found.append(
            {"prompt": f"{row['text']}\nThis is about", "choices": choices, "answer": labels.index(row["label"])}
        )
    texts = [base.tokenizer(row["prompt"] + choice).input_ids for row in found for choice in row["choices"]]
    ends = [2 if len(row["choices"][0].split()) == 2 else 1 for row in found for _ in WORDS]
    totals = summed(base, [tuple(text) for text in texts], ends)
    clear = []
    for place, row in enumerate(found):
        best, second = sorted(totals[place * len(WORDS) : (place + 1) * len(WORDS)], reverse=True)[:2]
        if best - second > CLEAR:
            clear.append(row)
    assert len(clear) >= CHOICES
    return clear[:CHOICES]


def summed(base: Base, texts: list[tuple[int, ...]], ends: list[int]) -> list[float]:
    """The log-likelihood of the last tokens of each text."""
    found: dict[int, Scored] = {}
    for part in parts_of(shared_rows(texts), 4096):
        found |= scored(base, [ScoringRequest(text) for text in texts], part)
    return [sum(one.chosen.logprob for one in found[i].logprobs[-end:]) for i, end in enumerate(ends)]


def answer_rows(base: Base) -> list[dict[str, Any]]:
    """Every second reference is the base's own answer."""
    asked = [
        {"title": name, "context": f"{name} has a {thing}. {name} is happy.", "question": f"What does {name} have?"}
        for name in ("Tom", "Lily", "Max", "Anna", "Ben", "Sara", "Tim", "Mia")
        for thing in ("dog", "red ball", "kite", "book")
    ]
    decoder = Decoder(base)
    rows = {}
    for row in asked:
        prompt = f"Title: {row['title']}\nContext: {row['context']}\nQuestion: {row['question']}\nAnswer:"
        settings = Sampling(50, stop=("\n",), logprobs=2)
        rows[decoder.add(Request(encode_prompt(base, prompt, 50), settings))] = row
    found: list[dict[str, Any]] = []
    while len(decoder) and len(found) < ANSWERS:
        for piece in decoder.step():
            if piece.made is None or not piece.made.text.strip() or len(found) == ANSWERS:
                continue
            gaps = [one.likeliest[0].logprob - one.likeliest[1].logprob for one in piece.made.logprobs]
            if min(gaps) > CLEAR:
                reference = piece.made.text.strip() if len(found) % 2 else "nothing of the kind"
                answers = {"text": [reference], "answer_start": [0]}
                found.append({"id": str(len(found)), **rows[piece.ticket], "answers": answers})
    assert len(found) == ANSWERS
    return found


@pytest.fixture(scope="module")
def harness(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What lm-eval printed, asked with the server of the bundled base."""
    if not (INSTALLED / "lm_eval").is_dir():
        pytest.skip("there is no lm-eval: `make lm-eval` installs it")
    data = tmp_path_factory.mktemp("served")
    result = data / "result.json"
    with ServerProcess("bundled", data / "data") as process:
        process.start()
        settings = {
            "url": f"http://127.0.0.1:{process.port}/v1/completions",
            "tokenizer": str(ASSETS / "base"),
            "tasks": str(HERE),
            "batch_size": 16,
        }
        environment = {
            **os.environ,
            "PYTHONPATH": f"{INSTALLED}{os.pathsep}{ROOT}",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(data / "hub"),
            "HF_DATASETS_CACHE": str(data / "datasets"),
        }
        command = [sys.executable, str(HERE / "program.py"), json.dumps(settings), str(result)]
        ran = subprocess.run(command, cwd=rows, env=environment, capture_output=True, text=True, timeout=240)
        assert ran.returncode == 0, ran.stderr[-3000:] + process.log.read_text()[-3000:]
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def evaluated(path: Path, *options: str) -> dict[str, Any]:
    """What `steerzo evaluate` says."""
    ran = CliRunner().invoke(app, ["evaluate", "--dataset", str(path), "--json", *options])
    assert ran.exit_code == 0, ran.output
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_a_multiple_choice_has_the_same_accuracy(harness: dict[str, Any], rows: Path, bundled: Base) -> None:
    own = evaluated(rows / "choice.jsonl")
    assert harness["results"]["own_choice"]["acc,none"] == pytest.approx(own["metrics"]["accuracy"])
    assert 0.1 < own["metrics"]["accuracy"] < 0.9
    samples = harness["samples"]["own_choice"]
    assert len(samples) == own["examples"] == CHOICES
    texts, ends, theirs = [], [], []
    for sample in samples:
        for choice, ((loglikelihood, _),) in zip(sample["doc"]["choices"], sample["resps"], strict=True):
            texts.append(tuple(bundled.tokenizer(sample["doc"]["prompt"] + choice).input_ids))
            ends.append(len(bundled.tokenizer(choice).input_ids))
            theirs.append(float(loglikelihood))
    assert set(ends) == {1, 2}
    torch.testing.assert_close(
        torch.tensor(theirs, dtype=torch.float32),
        torch.tensor(summed(bundled, texts, ends), dtype=torch.float32),
        atol=0.1,
        rtol=0,
    )


def test_generated_answers_have_the_same_score(harness: dict[str, Any], rows: Path) -> None:
    own = evaluated(rows / "answer.jsonl", "--task", "squad")
    assert harness["results"]["own_answer"]["exact_match,stripped"] == own["metrics"]["exact_match"] == 0.5
    samples = harness["samples"]["own_answer"]
    assert len(samples) == own["examples"] == ANSWERS
    assert all(
        (sample["filtered"][0].strip() == sample["doc"]["answers"]["text"][0]) == bool(int(sample["doc"]["id"]) % 2)
        for sample in samples
    )
