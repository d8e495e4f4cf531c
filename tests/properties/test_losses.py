"""Padding, batching and cutting never change a loss."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steerzo_edge.data.batches import collate
from steerzo_edge.data.examples import Completion, Dataset, Labelled
from steerzo_edge.data.kinds import tokenize
from steerzo_edge.data.task import Task
from steerzo_edge.data.tokenization import Targets
from steerzo_edge.errors import DatasetError
from steerzo_edge.objectives.evaluation import evaluate
from steerzo_edge.objectives.likelihood import losses
from tests.conftest import DATASETS, Loader

characters = st.characters(codec="utf-8", exclude_categories=["Cs"])
words = st.text(characters, min_size=1, max_size=12).filter(lambda text: text.strip() != "")
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("rows", DATASETS)
def test_a_batch_is_the_mean_of_its_rows(tiny: Loader, rows: str) -> None:
    base = tiny("none", torch.float32)
    data = tokenize(DATASETS[rows](), base.tokenizer, 64)
    with torch.inference_mode():
        alone = [float(losses(base, collate(data, [i]))) for i in range(12)]
        together = float(losses(base, collate(data, list(range(12)))))
        backwards = float(losses(base, collate(data, list(range(12))[::-1])))
    assert together == pytest.approx(sum(alone) / 12, rel=1e-5)
    assert together == pytest.approx(backwards, rel=1e-5)
    assert evaluate(base, data, tokens=100).loss == pytest.approx(evaluate(base, data).loss, rel=1e-5)


@relaxed
@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_padding_never_changes_a_loss(tiny: Loader, rows: list[tuple[str, str]]) -> None:
    base = tiny("none", torch.float32)
    dataset = Dataset("completion", tuple(Completion(*row) for row in rows), tuple(range(len(rows))))
    data = tokenize(dataset, base.tokenizer, 200)
    with torch.inference_mode():
        alone = [float(losses(base, collate(data, [i]))) for i in range(len(rows))]
        together = float(losses(base, collate(data, list(range(len(rows))))))
    assert together == pytest.approx(sum(alone) / len(rows), rel=1e-5)


@relaxed
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4), st.integers(8, 60))
def test_rows_are_cut_on_the_left_of_the_prompt_only(
    tiny: Loader, rows: list[tuple[str, str]], max_tokens: int
) -> None:
    tokenizer = tiny().tokenizer
    dataset = Dataset("completion", tuple(Completion(*row) for row in rows), tuple(range(len(rows))))
    whole = tokenize(dataset, tokenizer, 10_000)
    assert isinstance(whole, Targets)
    try:
        cut = tokenize(dataset, tokenizer, max_tokens)
    except DatasetError:
        assert any(sum(row.counted) >= max_tokens for row in whole.rows)
        return
    assert isinstance(cut, Targets)
    for before, after in zip(whole.rows, cut.rows, strict=True):
        assert len(after.tokens) == min(max_tokens, len(before.tokens))
        assert before.tokens[-len(after.tokens) :] == after.tokens
        assert sum(after.counted) == sum(before.counted)
    assert cut.truncated == sum(len(row.tokens) > max_tokens for row in whole.rows)


def test_single_token_options_are_the_general_case(tiny: Loader) -> None:
    """One row of option logits gives the loss that one sequence per option gives."""
    base = tiny("none", torch.float32)
    examples = tuple(Labelled(f"text {i}", "ab"[i % 2]) for i in range(6))
    task = Task(template="{text}: ", options={"a": "x", "b": "z"})
    data = tokenize(Dataset("classification", examples, tuple(range(6)), task), base.tokenizer, 64)
    prompts = [f"text {i}: " for i in range(6)]
    expected = 0.0
    with torch.inference_mode():
        for i, prompt in enumerate(prompts):
            scores = []
            for word in ("x", "z"):
                ids = torch.tensor([base.tokenizer(prompt + word).input_ids])
                scores.append(base.model(input_ids=ids).logits[0, -2].log_softmax(-1)[ids[0, -1]])
            expected -= float(torch.stack(scores).log_softmax(0)[i % 2]) / 6
        found = float(losses(base, collate(data, list(range(6)))))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rows", ["single-token", "phrases", "multiple-choice"])
@pytest.mark.parametrize("option_mass", [0.0, 0.3])
def test_evaluation_and_training_mean_the_same_loss(tiny: Loader, rows: str, option_mass: float) -> None:
    base = tiny("none", torch.float32)
    data = tokenize(DATASETS[rows](), base.tokenizer, 64)
    with torch.inference_mode():
        expected = float(losses(base, collate(data, list(range(20))), option_mass=option_mass))
    found = evaluate(base, data, tokens=100, option_mass=option_mass).loss
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_chat_template_marks_every_answer(tiny: Loader) -> None:
    from steerzo_edge.data.examples import Chat, Message

    tokenizer = tiny().tokenizer
    turns = ("system", "be kind"), ("user", "hi"), ("assistant", "hello"), ("user", "bye"), ("assistant", "ciao")
    chat = Chat(tuple(Message(role, text) for role, text in turns))  # type: ignore[arg-type]
    data = tokenize(Dataset("chat", (chat,), (1,)), tokenizer, 200)
    assert isinstance(data, Targets)
    (row,) = data.rows
    counted = [token for token, flag in zip(row.tokens, row.counted, strict=True) if flag]
    assert tokenizer.decode(counted) == "hello<|end|>ciao<|end|>"
    everything = "<|system|>be kind<|end|><|user|>hi<|end|><|assistant|>hello<|end|>"
    assert tokenizer.decode(row.tokens) == everything + "<|user|>bye<|end|><|assistant|>ciao<|end|>"
