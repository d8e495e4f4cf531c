"""Evaluations: which metrics are taken of which rows; generated answers are those of one prompt at a time."""

from dataclasses import replace

import pytest
import torch

from steerzo_edge.data.examples import Completion, Dataset, Labelled
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.data.tokens import prompt_tokens
from steerzo_edge.decoding.generate import Sampling, generate
from steerzo_edge.model.base import Base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.routes import uniform
from steerzo_edge.model.subset import Copies
from steerzo_edge.objectives.evaluation import evaluate
from steerzo_edge.objectives.greedy_answers import greedy_answers, prompt_of
from steerzo_edge.objectives.metrics import accuracy, balanced_accuracy, binary_f1, token_f1
from steerzo_edge.records import EvalRecord
from steerzo_edge.training.progress import Progress
from tests.conftest import Loader, completion_rows, labelled_rows, phrase_rows, question_rows

PROMPTS = ("what is this?", "a", "one, two, three, four", "so: ", "why did they come back so late? ")


def one_by_one(base: Base, prompts: tuple[str, ...], most: int) -> list[str]:
    """What the server would answer to each prompt alone."""
    return [
        generate(base, prompt, None, Sampling(max_new_tokens=most, stop=("\n",))).text.strip() for prompt in prompts
    ]


def adapters(base: Base, count: int) -> Copies:
    """Versions of an adapter that differ widely."""
    lora = Lora(dict(base.bank.layers), rank=4, alpha=16, freeze_a=True, seed=1, compute_dtype=base.compute_dtype)
    copies = Copies(lora, count)
    for index in range(count):
        generator = torch.Generator().manual_seed(index)
        whole = slice(0, lora.parameters.numel())
        copies.write(index, whole, 0.3 * torch.randn(lora.parameters.shape, generator=generator))
    return copies


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_many_prompts_are_answered_as_each_alone(tiny: Loader, quantization: str) -> None:
    base = tiny(quantization, torch.float32)
    with torch.inference_mode():
        found = greedy_answers(base, [prompt_tokens(base.tokenizer, prompt) for prompt in PROMPTS], 12)
    assert found == one_by_one(base, PROMPTS, 12)
    assert len(set(found)) > 1
    assert not base.bank.is_batch_pass


def test_stacked_versions_answer_groups_of_rows(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    copies = adapters(base, 3)
    prompts = [prompt_tokens(base.tokenizer, prompt) for prompt in PROMPTS]
    with torch.inference_mode():
        with base.bank.route(copies.stacked(3)):
            stacked = greedy_answers(base, prompts * 3, 10)
        alone = []
        for index in range(3):
            generator = torch.Generator().manual_seed(index)
            size = copies.span.stop
            copies.write(0, copies.span, 0.3 * torch.randn(size, generator=generator))
            with base.bank.route(uniform(copies.stacked(1))):
                alone += greedy_answers(base, prompts, 10)
    assert stacked == alone
    assert stacked[:5] != stacked[5:10]


def test_an_answer_ends_with_its_line_and_at_the_end_of_text(tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny("none", torch.float32)
    prompts = [prompt_tokens(base.tokenizer, prompt) for prompt in PROMPTS]
    tokenizer = base.tokenizer
    given = {
        0: tokenizer(" one line\nand another").input_ids,
        1: [*tokenizer("ended").input_ids, tokenizer.eos_token_id, *tokenizer("late").input_ids],
        2: tokenizer("\nnothing").input_ids,
        3: tokenizer("ab").input_ids,
        4: tokenizer(" \u00e9 ").input_ids,
    }

    def scripted(ids: torch.Tensor, stopping_criteria: list[object], **others: object) -> torch.Tensor:
        most = max(map(len, given.values()))
        rows = [row + [tokenizer.pad_token_id] * (most - len(row)) for row in given.values()]
        return torch.cat([ids, torch.tensor(rows)], 1)

    monkeypatch.setattr(base.model, "generate", scripted)
    assert greedy_answers(base, prompts, 30) == ["one line", "ended", "", "ab", "\u00e9"]


def test_rows_stop_one_by_one(tiny: Loader) -> None:
    """The criterion speaks of each row's last token only."""
    from steerzo_edge.objectives.greedy_answers import _LineEnds

    base = tiny("none", torch.float32)
    rows = torch.tensor([base.tokenizer(text).input_ids for text in ("a\nb", "ab\n", "\n\nc")])
    assert _LineEnds(base)(rows, None).tolist() == [False, True, False]


def test_prompts_without_room_are_cut_on_the_left(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    long = prompt_tokens(base.tokenizer, "x" * 400 + " the end")
    with torch.inference_mode():
        assert greedy_answers(base, [long], 20) == greedy_answers(base, [long[-(base.context_length - 20) :]], 20)


def test_the_metrics_of_shared_options(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    for rows in (labelled_rows(), phrase_rows()):
        data = tokenize(rows, base.tokenizer, 64)
        found = evaluate(base, data, tokens=150)
        right, chosen = [row.answer for row in data.rows], alone(base, rows)  # type: ignore[union-attr]
        assert len(set(chosen)) == 2
        assert found.metrics == {
            "accuracy": pytest.approx(accuracy(right, chosen)),
            "balanced_accuracy": pytest.approx(balanced_accuracy(right, chosen)),
        }
        assert found.accuracy == found.score == found.metrics["accuracy"]
        sought = evaluate(base, replace(data, metric="f1"))
        assert sought.metrics["f1"] == pytest.approx(binary_f1(right, chosen))
        assert sought.score == sought.metrics["f1"]


def alone(base: Base, rows: Dataset) -> list[int]:
    """The option each row chooses when it is evaluated by itself: the one that makes it right."""
    chosen = []
    assert rows.task is not None
    for example in rows.examples:
        assert isinstance(example, Labelled)
        for index, label in enumerate(rows.task.answers(rows.labels)):
            row = Dataset(rows.format, (Labelled(example.text, label),), (1,), rows.task)
            if evaluate(base, tokenize(row, base.tokenizer, 64, rows.labels)).accuracy == 1:
                chosen.append(index)
    return chosen


def test_the_metrics_of_per_row_choices(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    rows = question_rows()
    data = tokenize(rows, base.tokenizer, 64)
    found = evaluate(base, data, tokens=150)
    single = [evaluate(base, tokenize(rows.pick([i]), base.tokenizer, 64)).accuracy for i in range(20)]
    assert 0 < sum(single) < 20  # type: ignore[arg-type]
    assert found.metrics == {"accuracy": pytest.approx(sum(single) / 20)}  # type: ignore[arg-type]
    named = evaluate(base, replace(data, metric="exact_match"))
    assert named.score == named.metrics["exact_match"] == found.accuracy


def test_generated_metrics_are_taken_only_where_they_are_required(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    data = tokenize(completion_rows(), base.tokenizer, 64)
    plain = evaluate(base, data)
    assert (plain.metrics, plain.score, plain.accuracy) == ({}, None, None)
    assert isinstance(data, Targets)
    asked = [prompt_of(row) for row in data.rows]
    with torch.inference_mode():
        given = [greedy_answers(base, [prompt], 6)[0] for prompt in asked]
    # Some rows are answered as their references want it, some are not.
    references = [(given[i],) if i % 3 == 0 else ("something else", "other") for i in range(20)]
    rows = tuple(replace(row, references=found) for row, found in zip(data.rows, references, strict=True))
    judged = replace(data, rows=rows, metric="f1", max_new_tokens=6)
    found = evaluate(base, judged, tokens=100, generate=20)
    expected = [token_f1(answer, accepted) for answer, accepted in zip(given, references, strict=True)]
    assert found.metrics["f1"] == pytest.approx(sum(expected) / 20)
    assert found.metrics["exact_match"] == pytest.approx(7 / 20)
    assert found.score == found.metrics["f1"]
    assert found.loss == pytest.approx(plain.loss)
    # Five of twenty rows, evenly spread: 0, 4, 8, 12, 16, of which 0 and 12 are right.
    assert evaluate(base, judged, generate=5).metrics["exact_match"] == pytest.approx(2 / 5)
    assert evaluate(base, judged, generate=0).metrics == {}


def test_the_best_evaluation_is_the_one_with_the_best_main_metric() -> None:
    from steerzo_edge.objectives.evaluation import Evaluation

    progress = Progress(best=EvalRecord(0, 1.0, 0.9, 8, True, {"accuracy": 0.9, "f1": 0.2}, 0.2))
    assert progress.improves(Evaluation(1.5, 0.5, 8, {"accuracy": 0.5, "f1": 0.3}, 0.3))
    assert not progress.improves(Evaluation(0.5, 0.95, 8, {"accuracy": 0.95, "f1": 0.1}, 0.1))
    assert progress.improves(Evaluation(0.9, 0.9, 8, {"accuracy": 0.9, "f1": 0.2}, 0.2))
    losses_alone = Progress(best=EvalRecord(0, 1.0, None, 8, True))
    assert losses_alone.improves(Evaluation(0.9, None, 8))
    assert not losses_alone.improves(Evaluation(1.1, None, 8))


def test_a_completion_is_its_own_reference(tiny: Loader) -> None:
    rows = Dataset("completion", (Completion("a", " b "), Completion("a", " b", ("c", "b"))), (1, 2))
    data = tokenize(rows, tiny().tokenizer, 64)
    assert isinstance(data, Targets)
    assert [row.references for row in data.rows] == [("b",), ("c", "b")]
    assert [row.prompt for row in data.rows] == ["a", "a"]


def test_a_task_with_three_options_has_no_f1(tiny: Loader) -> None:
    examples = tuple(Labelled(f"t{i}", "abc"[i % 3]) for i in range(6))
    rows = Dataset("classification", examples, tuple(range(6)), Task(template="{text}: "))
    assert "f1" not in evaluate(tiny(), tokenize(rows, tiny().tokenizer, 64)).metrics
