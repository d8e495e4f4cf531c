"""Objectives without a gradient: losses worked out one row and one probe at a time, and runs of every kind."""

import json
import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from steerzo_edge.assemble import assemble
from steerzo_edge.data.batches import batch_rows
from steerzo_edge.data.examples import Chat, Dataset, Message
from steerzo_edge.data.tokenization import Choices, Questions, Target, Targets
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.base import Base
from steerzo_edge.model.subset import Copies
from steerzo_edge.objectives.evaluation import evaluate
from steerzo_edge.objectives.metrics import exact_match, token_f1
from steerzo_edge.run import Run
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.parts import Parts
from steerzo_edge.zo.oracle import Round
from tests import scorers
from tests.conftest import DATASETS, Loader, completion_rows, first_estimate, labelled_rows
from tests.plain import plain_answers, plain_chosen
from tests.unit.commands import steerzo
from tests.unit.outcomes import NEW_TOKENS, PROBES, SUBSETS, answered_rows, built, profile_of

pytestmark = pytest.mark.usefixtures("registered_scorers")
Measured = TypeVar("Measured")


@pytest.fixture(scope="module")
def answered(tiny: Loader) -> Dataset:
    return answered_rows(tiny("none", torch.float32))


@pytest.fixture(scope="module")
def plainly() -> Callable[[tuple[object, ...], Callable[[], Any]], Any]:
    """Works out once what is expected: it does not depend on how probes are stacked, or what judges an answer."""
    known: dict[tuple[object, ...], Any] = {}

    def find(key: tuple[object, ...], work_out: Callable[[], Any]) -> Any:
        if key not in known:
            known[key] = work_out()
        return known[key]

    return find


def at_each_probe(base: Base, parts: Parts, block: Any, measure: Callable[[], Measured]) -> list[Measured]:
    """A measure of the bare layers, at each probe in turn."""
    found: list[Measured] = []
    for probe in PROBES:
        copy = Copies(parts.subset, 1)
        patches = copy.hold()
        for index in block.segments:
            segment = parts.blocks.noise.segments[index]
            moved = probe.radius * probe.direction.materialize(parts.blocks.noise, index)
            copy.write(0, segment, parts.subset.parameters[segment] + moved)
        with torch.inference_mode(), base.bank.route(patches):
            found.append(measure())
    return found


@pytest.mark.parametrize("probes", [1, 3, 4], ids=["sequential", "chunks", "batched"])
@pytest.mark.parametrize("rows", ["single-token", "phrases", "multiple-choice"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_accuracy_is_counted_row_by_row(tiny: Loader, plainly: Any, subset: str, rows: str, probes: int) -> None:
    base = tiny("none", torch.float32)
    parts, data = built(base, profile_of({"kind": "accuracy"}, subset, probes), DATASETS[rows]())
    assert isinstance(data, Choices | Questions)
    start = parts.subset.parameters.clone()
    seen = set()
    for step in range(3):
        indices, block = batch_rows(5, step, len(data.rows), 5), parts.blocks.of(step)

        def wrong(indices: list[int] = indices) -> float:
            return 1 - sum(plain_chosen(base, data, i) in right_of(data, i) for i in indices) / 5

        found = parts.oracle.evaluate(Round(step, block.index, tuple(PROBES)))
        expected = plainly(("accuracy", subset, rows, step), partial(at_each_probe, base, parts, block, wrong))
        assert found == pytest.approx(expected)
        seen |= set(found)
    assert len(seen) > 1
    assert torch.equal(parts.subset.parameters, start)


def right_of(data: Choices | Questions, index: int) -> tuple[int, ...]:
    row = data.rows[index]
    return row.answers if isinstance(data, Questions) else (row.answer,)  # type: ignore[union-attr]


JUDGED: dict[str, tuple[dict[str, Any], Callable[[Target, str], float]]] = {
    "f1": ({"kind": "f1"}, lambda row, answer: token_f1(answer, row.references)),
    "exact-match": ({"kind": "exact-match"}, lambda row, answer: exact_match(answer, row.references)),
    "scorer": (
        {"kind": "scorer", "name": "checksum"},
        lambda row, answer: scorers.checksum(row.prompt, answer, row.references),
    ),
}


@pytest.mark.parametrize("probes", [1, 3, 4], ids=["sequential", "chunks", "batched"])
@pytest.mark.parametrize("kind", JUDGED)
@pytest.mark.parametrize("subset", SUBSETS)
def test_answers_are_judged_row_by_row(
    tiny: Loader, answered: Dataset, plainly: Any, subset: str, kind: str, probes: int
) -> None:
    base = tiny("none", torch.float32)
    objective, judge = JUDGED[kind]
    profile = profile_of({**objective, "max_new_tokens": NEW_TOKENS}, subset, probes)
    parts, data = built(base, profile, answered)
    assert isinstance(data, Targets)
    start = parts.subset.parameters.clone()
    seen = set()
    for step in range(2):
        rows, block = [data.rows[i] for i in batch_rows(5, step, len(data.rows), 5)], parts.blocks.of(step)

        def answers(rows: list[Target] = rows) -> list[str]:
            return plain_answers(base, rows, NEW_TOKENS)

        given = plainly(("answers", subset, step), partial(at_each_probe, base, parts, block, answers))
        expected = [
            1 - sum(judge(row, answer) for row, answer in zip(rows, probed, strict=True)) / 5 for probed in given
        ]
        found = parts.oracle.evaluate(Round(step, block.index, tuple(PROBES)))
        assert found == pytest.approx(expected)
        seen |= set(found)
    assert len(seen) > 1 or kind != "scorer"
    assert torch.equal(parts.subset.parameters, start)


@pytest.mark.parametrize(
    ("objective", "rows", "says"),
    [
        ({"kind": "accuracy"}, completion_rows, "no options"),
        ({"kind": "f1"}, labelled_rows, "needs prompt/completion rows"),
        ({"kind": "scorer", "name": "nobody"}, completion_rows, "there is no scorer 'nobody'"),
        ({"kind": "exact-match", "max_new_tokens": 256}, completion_rows, "context holds 256"),
    ],
)
def test_objectives_that_do_not_fit(
    tiny: Loader, objective: dict[str, Any], rows: Callable[[], Dataset], says: str
) -> None:
    with pytest.raises(ProfileError, match=says):
        built(tiny(), profile_of(objective), rows())


def test_conversations_have_no_references(tiny: Loader) -> None:
    chat = Chat((Message("user", "hi"), Message("assistant", "yes")))
    with pytest.raises(ProfileError, match="exact-match, which needs prompt/completion rows"):
        built(tiny(), profile_of({"kind": "exact-match"}), Dataset("chat", (chat,), (1,)))


def test_unknown_keys_of_the_objective_are_refused() -> None:
    assert resolve({"objective": {"option_mass": 0.1}}).objective.kind == "likelihood"
    with pytest.raises(ProfileError, match="objective"):
        resolve({"objective": {"kind": "scorer"}})
    with pytest.raises(ProfileError, match="option_mass"):
        resolve({"objective": {"kind": "f1", "option_mass": 0.1}})
    changed = resolve({"objective": {"option_mass": 0.1}}, {"objective.kind": "accuracy"})
    assert changed.objective.kind == "accuracy"


def test_the_rows_say_what_they_are_judged_by(tiny: Loader, answered: Dataset) -> None:
    base, rows = tiny("none", torch.float32), answered
    for objective, metric in (({"kind": "f1"}, "f1"), ({"kind": "exact-match"}, "exact_match")):
        assert built(base, profile_of(objective), rows)[1].metric == metric
    profile = profile_of({"kind": "scorer", "name": "checksum", "max_new_tokens": NEW_TOKENS})
    parts, data = built(base, profile, rows)
    assert data.metric == "score"
    assert evaluate(base, data).metrics.keys() == {"f1", "exact_match"}
    parts = assemble(base, profile, tokenized(base.tokenizer, 256, profile, rows, rows, seed=5), seed=5)
    assert parts.evaluate is not None
    found = parts.evaluate()
    assert found.score == found.metrics["score"]
    assert found.metrics.keys() == {"f1", "exact_match", "score"}


def test_a_run_goes_on_with_the_same_bytes(tiny: Loader, answered: Dataset, tmp_path: Path) -> None:
    base, rows = tiny("none", torch.float32), answered
    profile = profile_of({"kind": "scorer", "name": "checksum", "max_new_tokens": NEW_TOKENS}, steps=5)

    def run(path: Path, stop: int | None) -> Run:
        run = Run(path, base, profile, rows, seed=1, snapshot_every=2)
        list(islice(run.records(), stop))
        run.close()
        return run

    whole = run(tmp_path / "whole", None).finish()
    run(tmp_path / "stopped", 4)
    again = run(tmp_path / "stopped", None).finish()
    assert (again.sha256, again.after) == (whole.sha256, whole.after)


@pytest.mark.parametrize("probes", [1, 4])
@pytest.mark.parametrize(
    ("objective", "rows"),
    [
        (["objective.kind=likelihood"], "completion"),
        (["objective.kind=accuracy"], "multiple-choice"),
        (["objective.kind=accuracy"], "single-token"),
        (["objective.kind=f1", "objective.max_new_tokens=5"], "completion"),
        (["objective.kind=exact-match", "objective.max_new_tokens=5"], "completion"),
        (["objective.kind=scorer", "objective.name=checksum", "objective.max_new_tokens=5"], "completion"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_steerzo_train(tmp_path: Path, tiny_path: Path, objective: list[str], rows: str, probes: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in DATASETS[rows](20).rows()))
    settings = [
        *objective,
        "steps=3",
        "method={kind: all-losses, pool: 4, epsilon: 0.3}",
        "rule.learning_rate=0.01",
        "batch={examples: 4, max_tokens: 64}",
        f"batch.probes_per_forward={probes}",
        "subset.last_layers=1",
        "evaluate.every=3",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    done = steerzo("train", "--dataset", path, "--out", tmp_path / "run", "--base", tiny_path, *words, "--json")
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    steps = [line for line in lines if line.get("event") == "step"]
    assert len(steps) == 3
    assert all(math.isfinite(step["loss"]) and step["skipped"] is None for step in steps)
    if "likelihood" not in objective[0]:
        assert all(0 <= step["loss"] <= 1 for step in steps)
    assert Path(lines[-1]["result"]["adapter"], "adapter_model.safetensors").exists()


def test_one_step_costs_what_the_strategy_says(tiny: Loader, answered: Dataset) -> None:
    parts, _ = built(tiny("none", torch.float32), profile_of({"kind": "f1", "max_new_tokens": 3}), answered)
    assert first_estimate(parts)[1] == 4
