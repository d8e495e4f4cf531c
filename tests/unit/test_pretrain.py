"""The recipe of the base: held-out text stays out, runs can continue, bits are reproduced, and the result loads."""

import hashlib
import json
import math
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from steerzo_edge.assemble import assemble
from steerzo_edge.data.examples import Completion, Dataset
from steerzo_edge.errors import DivergedError, InputError
from steerzo_edge.model.load import load_base
from steerzo_edge.model.sources.bundled import DIRECTORY
from steerzo_edge.records import StepRecord
from steerzo_edge.run_data import tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune
from tests.conftest import byte_tokenizer
from tools.pretrain_base.bits import score, windows
from tools.pretrain_base.command import STOPPED, command_line, main
from tools.pretrain_base.conversations import turns
from tools.pretrain_base.documents import Document, clean, documents
from tools.pretrain_base.evaluation import held_out_text
from tools.pretrain_base.mix import DEFAULT_MIX, Mix, load_mix
from tools.pretrain_base.recipe import Recipe, make_base
from tools.pretrain_base.rows import Rows
from tools.pretrain_base.schedule import Schedule
from tools.pretrain_base.settings import Settings
from tools.pretrain_base.shape import PRESETS, Shape, fitting, random_model
from tools.pretrain_base.tokenizer import CHAT_TEMPLATE, SPECIAL, sample, train_tokenizer, wrapped
from tools.pretrain_base.tokens import Corpus, load_corpora, load_prepared_tokenizer, prepare
from tools.pretrain_base.training import Pretraining

SETTINGS = Settings(
    context=32,
    batch_tokens=128,
    forward_tokens=64,
    learning_rate=1e-2,
    schedule=Schedule(warmup=2),
    steps=6,
    save_every=3,
)
VOCABULARY = 300
ROOT = Path(__file__).parents[2]


def tale(index: int) -> str:
    who, what = ("Ann", "Ben", "Cleo", "Dan")[index % 4], ("bread", "a red kite", "two stones")[index % 3]
    return f"Tale {index}\n\n{who} had {what} on day {index}. Nobody else had {what}, and {who} was glad of it."


def dialogue(index: int) -> str:
    return f"User: Where is item {index}?\nAssistant: On shelf {index % 7}.\nUser: Thank you.\nAssistant: Welcome!"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts")
    tales = [tale(index) for index in range(400)]
    (path / "tales.txt").write_text(
        "\n<|endoftext|>\n".join([*tales, tales[3], "***", "a <|user|> in a tale's text"])
    )
    (path / "talks.txt").write_text("\n<|endoftext|>\n".join([tales[5], *map(dialogue, range(200))]))
    rows = [{"instruction": f"Add 1 to {n}.", "input": "", "output": f"That is {n + 1}."} for n in range(120)]
    (path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "authors.tsv").write_text("tale\tauthor\n")
    return path


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    common = {"licence": "CC BY-SA 4.0", "credit": "nobody"}
    sources = [
        {
            "name": "tales",
            "path": "tales.txt",
            "form": "titled",
            "chat_share": 0.3,
            "ask": "Tell {title}",
            "weight": 3,
        },
        {"name": "talks", "path": "talks.txt", "form": "dialogue", "chat_share": 0.5, "weight": 2},
        {"name": "asked", "path": "asked.jsonl", "form": "instructions", "chat_share": 1.0, "weight": 1},
    ]
    sources[0]["attribution"] = "authors.tsv"
    path = tmp_path_factory.mktemp("mix") / "mix.yaml"
    path.write_text(yaml.safe_dump({"sources": [common | source for source in sources]}))
    return load_mix(path)


@pytest.fixture(scope="module")
def prepared(data: Path, mix: Mix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prepared")
    prepare(mix, data, directory, vocabulary=VOCABULARY, characters=20_000)
    return directory


def rows_of(prepared: Path, mix: Mix, seed: int = 0) -> Rows:
    return Rows(load_corpora(prepared, mix), mix.shares, SETTINGS.context + 1, seed)


def pretraining(prepared: Path, mix: Mix, settings: Settings = SETTINGS, **others: Any) -> Pretraining:
    model = random_model(Shape(VOCABULARY, 64, 1), settings.context, settings.seed)
    return Pretraining(model, rows_of(prepared, mix), settings, "here", **others)


# Documents


def test_cleaning() -> None:
    assert clean("One  \n\n\n* * *\n\n  Two\n1\n\n") == "One\n\n  Two"


def test_every_text_comes_once_and_what_is_dropped_is_counted(data: Path, mix: Mix) -> None:
    dropped: Counter[str] = Counter()
    found = list(documents(mix, data, dropped))
    assert Counter(one.source.name for one in found) == {"tales": 400, "talks": 200, "asked": 120}
    assert len({one.text for one in found}) == len(found)
    assert dropped == {"tales: repeated": 1, "tales: short": 1, "tales: special token": 1, "talks: repeated": 1}


def test_the_held_out_side_depends_on_the_text_alone(data: Path, mix: Mix) -> None:
    whole = {one.text: one.held_out for one in documents(mix, data)}
    assert 0 < sum(whole.values()) < 0.06 * len(whole)
    turned = Mix(sources=mix.sources[::-1])
    assert {one.text: one.held_out for one in documents(turned, data)} == whole


def test_held_out_text_is_never_in_a_row(data: Path, mix: Mix, prepared: Path) -> None:
    tokenizer = load_prepared_tokenizer(prepared, 32)
    held_out = [one for one in documents(mix, data) if one.held_out]
    trained = [one for one in documents(mix, data) if not one.held_out]
    seen = "".join(tokenizer.decode(corpus.tokens) for corpus in load_corpora(prepared, mix))
    parts = {line for one in trained for line in one.text.splitlines()}
    told = [line for one in held_out for line in one.text.splitlines() if line not in parts]
    assert len(told) >= len(held_out)
    assert not [line for line in told if f"{line}\n" in seen or f"{line}<" in seen]
    assert all(line in seen for one in trained[:50] for line in one.text.splitlines() if ":" not in line)


def test_evaluated_text_is_held_out_and_cut_at_a_character(data: Path, mix: Mix) -> None:
    texts = held_out_text(documents(mix, data), 200)
    whole = {one.text for one in documents(mix, data) if one.held_out}
    for text in texts.values():
        assert sum(len(one.encode()) for one in text.documents) == text.bytes <= 200
        assert all(any(one == full[: len(one)] for full in whole) for one in text.documents)
    source = mix.sources[0]
    held_out = next(one for n in range(999) if (one := Document(source, "é" * 9, n.to_bytes(2, "big"))).held_out)
    assert held_out_text([held_out], 5)["tales"].documents == ("éé",)


# Conversations


def test_conversations_say_what_their_documents_say(data: Path, mix: Mix) -> None:
    in_chat: Counter[str] = Counter()
    for one in documents(mix, data):
        said = turns(one)
        if said is None:
            continue
        in_chat[one.source.name] += 1
        assert [turn["role"] for turn in said] == ["user", "assistant"] * (len(said) // 2)
        told = said[1:] if one.source.form == "titled" else said
        assert all(turn["content"] in one.text for turn in told)
    assert in_chat["asked"] == 120
    assert 0.2 * 400 < in_chat["tales"] < 0.4 * 400
    assert 0.35 * 200 < in_chat["talks"] < 0.65 * 200


def test_a_dialogue_out_of_turn_stays_text(mix: Mix) -> None:
    talks = mix.sources[1].model_copy(update={"chat_share": 1.0})
    for text in ("User: a\nUser: b", "Before.\nUser: a\nAssistant: b", "User: alone"):
        assert turns(Document(talks, text, b"")) is None


# Tokenizer


def test_the_same_texts_give_the_same_tokenizer(data: Path, mix: Mix) -> None:
    texts = [one.text for one in documents(mix, data)]
    first, second = (train_tokenizer(iter(texts), VOCABULARY).to_str() for _ in range(2))
    assert first == second
    assert train_tokenizer(texts[:3], VOCABULARY).to_str() != first


def test_the_tokenizer_learns_from_the_mix_and_not_from_held_out_text(data: Path, mix: Mix) -> None:
    sources = {one.text: (one.source.name, one.held_out) for one in documents(mix, data)}
    texts = list(sample(documents(mix, data), mix.shares, 6000))
    assert not any(sources[text][1] for text in texts)
    sizes = Counter[str]()
    for text in texts:
        sizes[sources[text][0]] += len(text)
    assert all(abs(sizes[name] - 6000 * share) < 150 for name, share in mix.shares.items())


def test_the_tokenizer_is_made_like_the_bundled_one(prepared: Path, tmp_path: Path) -> None:
    ours = json.loads((prepared / "tokenizer.json").read_text())
    bundled = DIRECTORY
    theirs = json.loads((bundled / "tokenizer.json").read_text())
    assert ours["pre_tokenizer"] == theirs["pre_tokenizer"]
    assert [token["content"] for token in ours["added_tokens"]] == list(SPECIAL)
    assert [(token["id"], token["content"]) for token in theirs["added_tokens"]] == list(enumerate(SPECIAL))
    assert (bundled / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    text = "It's 1987 — naïve, no?\n\n\tYes. "
    tokenizer = wrapped(train_tokenizer(["some text"], VOCABULARY), 32)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    with pytest.raises(InputError, match="vocabulary"):
        train_tokenizer(["some text"], 100)


# Shape


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_and_nothing_deeper_would(name: str) -> None:
    preset = PRESETS[name]
    shape = fitting(preset.budget_mb, preset.vocabulary)
    assert 0.9 * preset.budget_mb * 10**6 < shape.bytes <= preset.budget_mb * 10**6
    assert replace(shape, layers=shape.layers + 1).bytes > preset.budget_mb * 10**6
    assert 24 <= shape.width / shape.layers <= 40


@pytest.mark.parametrize("tied", [True, False])
def test_a_shape_counts_what_the_model_has(tied: bool) -> None:
    shape = Shape(VOCABULARY, 64, 2, tied)
    model = random_model(shape, 32, 0)
    assert model.num_parameters() == shape.parameters
    assert fitting(shape.bytes / 10**6, VOCABULARY, tied=tied).layers == 2
    state = torch.get_rng_state()
    torch.rand(3)
    again = random_model(shape, 32, 0)
    torch.set_rng_state(state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_too_small_a_budget_is_refused() -> None:
    with pytest.raises(InputError, match="nothing fits"):
        fitting(0.01, VOCABULARY)


# Rows


def test_rows_keep_the_shares_and_start_with_whole_passes(prepared: Path, mix: Mix) -> None:
    rows = rows_of(prepared, mix)
    rows.next(60)
    assert rows.taken == [30, 20, 10]


def test_a_pass_has_every_row_once(prepared: Path, mix: Mix) -> None:
    (corpus, *_) = load_corpora(prepared, mix)
    rows = Rows([corpus], {"tales": 1.0}, 33, seed=0)
    a_pass = len(corpus.tokens) // 33
    both = rows.next(2 * a_pass)
    assert rows.passes() == [2.0]
    for found in both.split(a_pass):
        counted = torch.bincount(found.flatten(), minlength=VOCABULARY)
        whole = torch.bincount(torch.from_numpy(corpus.tokens.astype("int64")), minlength=VOCABULARY)
        assert (counted <= whole).all()
        assert int((whole - counted).sum()) == len(corpus.tokens) % 33
    assert not torch.equal(both[:a_pass], both[a_pass:])


def test_rows_go_on_where_they_were(prepared: Path, mix: Mix) -> None:
    rows, again = rows_of(prepared, mix), rows_of(prepared, mix)
    rows.next(77)
    again.go_to(rows.taken)
    assert torch.equal(rows.next(50), again.next(50))
    assert not torch.equal(rows_of(prepared, mix, seed=1).next(50), rows_of(prepared, mix).next(50))


def test_a_corpus_without_a_whole_row_is_refused(prepared: Path, mix: Mix) -> None:
    (corpus, *_) = load_corpora(prepared, mix)
    with pytest.raises(InputError, match="fewer than a row"):
        Rows([Corpus("tales", corpus.tokens[:9], corpus.starts)], {"tales": 1.0}, 33, seed=0)


# Schedule


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
def test_the_rate_goes_up_and_down(kind: Any) -> None:
    schedule = Schedule(kind, warmup=10)
    shares = [schedule.share(step, 200) for step in range(200)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:10] == sorted(shares[:10])
    assert shares[10] == 1.0
    assert shares[150:] == sorted(shares[150:], reverse=True)
    assert shares[-1] < 0.11
    assert schedule.share(0, 1) > 0


def test_the_length_of_a_level_part_may_change() -> None:
    schedule = Schedule("wsd", warmup=10)
    assert [schedule.can_change(step, 200) for step in (5, 50, 149, 150, 199)] == [False, True, True, False, False]
    assert schedule.share(50, 200) == schedule.share(50, 2000) == 1.0
    assert schedule.fitted(10, 60, 0.5, 1000) == 130
    assert schedule.fitted(10, 60, 0.5, 50) == 50
    assert schedule.fitted(0, 0.1, 0.5, 50) == 1


def test_a_run_out_of_time_still_goes_down() -> None:
    schedule = Schedule("wsd", warmup=10)
    steps = schedule.fitted(75, -100, 0.5, 1000)
    assert steps == 100
    assert schedule.decay_start(steps) == 75
    assert schedule.share(steps - 1, steps) < 0.1
    assert Schedule("cosine").fitted(75, -100, 0.5, 1000) == 75


# Training


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(prepared: Path, mix: Mix, tmp_path: Path) -> None:
    whole = pretraining(prepared, mix)
    losses = [step.loss for step in whole.run()]
    first = pretraining(prepared, mix)
    found = [step.loss for step in first.run(lambda: first.step >= 2)]
    first.save(tmp_path / "checkpoint.pt")
    second = pretraining(prepared, mix)
    second.restore(tmp_path / "checkpoint.pt")
    found += [step.loss for step in second.run()]
    assert found == losses
    assert losses[-1] < losses[0]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
        assert name.endswith("norm.weight") or not torch.equal(tensor, first.model.state_dict()[name])


def test_one_forward_or_two_give_the_same_gradient(prepared: Path, mix: Mix) -> None:
    steps = [next(pretraining(prepared, mix, replace(SETTINGS, forward_tokens=size)).run()) for size in (32, 128)]
    assert steps[0].loss == pytest.approx(steps[1].loss, rel=1e-5)
    assert steps[0].norm == pytest.approx(steps[1].norm, rel=1e-4)


def test_bfloat16_is_close_and_leaves_the_weights_float32(prepared: Path, mix: Mix) -> None:
    exact, close = (
        pretraining(prepared, mix, replace(SETTINGS, precision=kind)) for kind in ("float32", "bfloat16")
    )
    losses = [next(run.run()).loss for run in (exact, close)]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert {parameter.dtype for parameter in close.model.parameters()} == {torch.float32}


def test_minutes_decide_how_many_steps_there_are(prepared: Path, mix: Mix) -> None:
    ticks = iter(range(10**6))
    # Every look at the clock is a second later: a step takes one, and four passes of the probe take one.
    settings = replace(SETTINGS, steps=None, minutes=1.0, passes=1e6, save_every=5)
    run = pretraining(prepared, mix, settings, clock=lambda: float(next(ticks)))
    lengths = [run.steps for _ in run.run()]
    assert lengths[0] == 60 * 4
    assert lengths[-1] == len(lengths) == 60


def test_few_texts_end_a_run_before_its_minutes(prepared: Path, mix: Mix) -> None:
    ticks = iter(range(10**6))
    settings = replace(SETTINGS, steps=None, minutes=1.0, passes=0.25)
    run = pretraining(prepared, mix, settings, clock=lambda: next(ticks) / 1000)
    assert len(list(run.run())) == run.steps
    assert 0.2 < max(run.passes()) <= 0.25


def test_a_checkpoint_of_something_else_is_refused(prepared: Path, mix: Mix, tmp_path: Path) -> None:
    run = pretraining(prepared, mix)
    run.save(tmp_path / "checkpoint.pt")
    other = pretraining(prepared, mix, replace(SETTINGS, learning_rate=1.0))
    with pytest.raises(InputError, match="other settings"):
        other.restore(tmp_path / "checkpoint.pt")
    pretraining(prepared, mix, replace(SETTINGS, save_every=1)).restore(tmp_path / "checkpoint.pt")


def test_what_is_not_finite_ends_the_run_before_it_is_applied(prepared: Path, mix: Mix) -> None:
    run = pretraining(prepared, mix)
    with torch.no_grad():
        run.model.model.norm.weight.fill_(float("inf"))
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    with pytest.raises(DivergedError):
        list(run.run())
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())
    assert run.step == 0


# Bits per byte


class Uniform:
    """A model that gives every token the same score."""

    device = torch.device("cpu")

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.vocabulary))


class EveryByte(Uniform):
    """Gives a piece of n bytes a probability of 2**-(9 n), whatever it is; special tokens share what is left."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(len(tokenizer))
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        chances = torch.tensor([0.0 if piece in SPECIAL else 2.0 ** (-9 * len(piece)) for piece in pieces])
        chances[chances == 0] = (1 - chances.sum()) / len(SPECIAL)
        self.scores = chances.log()

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.scores.expand(*input_ids.shape, -1))


TEXTS = ["Tale 7 and “naïve” bread.\n\nNobody else had it.", "x" * 200, "On shelf 3."]


@pytest.mark.parametrize("context", [2, 7, 64])
def test_a_uniform_model_needs_log2_of_its_vocabulary(context: int) -> None:
    tokenizer = byte_tokenizer()
    found = score(Uniform(len(tokenizer)), tokenizer, TEXTS, context=context, batch=3)
    assert found.tokens == found.bytes == sum(len(text.encode()) for text in TEXTS)
    assert found.bits_per_byte == pytest.approx(math.log2(len(tokenizer)))
    assert (found.documents, found.exact) == (3, 3)


def test_a_model_of_bytes_is_scored_alike_through_any_tokenizer(prepared: Path) -> None:
    pieces = load_prepared_tokenizer(prepared, 512)
    found = []
    for tokenizer in (pieces, wrapped(train_tokenizer([], 262), 512)):
        model = EveryByte(tokenizer)
        assert float(model.scores.exp().sum()) == pytest.approx(1.0)
        found.append(score(model, tokenizer, TEXTS, context=16))
    assert found[0].tokens < found[1].tokens == found[1].bytes
    assert [one.bits_per_byte for one in found] == pytest.approx([9.0, 9.0])


def test_windows_score_every_token_once_with_half_a_window_before_it() -> None:
    ids = list(range(100))
    for context in (2, 3, 8, 64, 100, 200):
        scored = []
        for index, (window, last) in enumerate(windows(ids, context)):
            assert len(window) <= context
            assert window == ids[window[0] : window[-1] + 1]
            assert index == 0 or len(window) - last >= context // 2
            scored += window[-last:]
        assert scored == ids[1:]


def test_bits_are_those_of_one_forward_over_the_whole_text(prepared: Path) -> None:
    tokenizer = load_prepared_tokenizer(prepared, 512)
    model = random_model(Shape(VOCABULARY, 64, 1), 512, 3)
    text = tale(1)
    ids = torch.tensor([[0, *tokenizer.encode(text)]])
    with torch.no_grad():
        expected = float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
    found = score(model, tokenizer, [text, "more"], context=512)
    assert found.nats - score(model, tokenizer, ["more"], context=512).nats == pytest.approx(expected, rel=1e-5)


# The whole way


@pytest.fixture(scope="module")
def made(data: Path, mix: Mix, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    out = tmp_path_factory.mktemp("made")
    settings = replace(SETTINGS, steps=9, context=64, batch_tokens=256)
    recipe = Recipe(
        "a-test", mix, data, out, 0.2, VOCABULARY, settings, tokenizer_characters=20_000, evaluated_bytes=300
    )
    first = list(make_base(recipe, stopped_after(2)))
    assert [progress.step for progress in first] == [2]
    assert not (out / "base").exists()
    rest = list(make_base(recipe))
    assert [progress.step for progress in rest] == [3, 6, 9]
    assert all(0 < progress.bits_per_byte < 8.1 for progress in rest)
    return recipe


def stopped_after(steps: int) -> Any:
    asked = iter(range(100))
    return lambda: next(asked) >= steps


def test_the_base_loads_and_learns(made: Recipe) -> None:
    base = load_base(str(made.out / "base"), device="cpu")
    assert base.tokenizer.eos_token == "<|endoftext|>"
    assert base.model.generation_config.eos_token_id == [0, 4]
    profile = resolve(
        {
            "steps": 1,
            "batch": {"examples": 2, "max_tokens": 32},
            "subset": {"kind": "lora", "rank": 2},
            "method": {"kind": "two-point", "epsilon": 0.01},
            "rule": {"kind": "sgd", "learning_rate": 0.01},
        }
    )
    examples = tuple(Completion(f"Item {n}:", f" shelf {n}") for n in range(8))
    dataset = Dataset("completion", examples, tuple(range(1, 9)))
    data = tokenized(base.tokenizer, base.context_length, profile, dataset, None, seed=0)
    records = [
        record for record in finetune(assemble(base, profile, data, seed=0)) if isinstance(record, StepRecord)
    ]
    assert len(records) == 1
    assert records[0].loss is not None
    assert records[0].loss is not None
    assert math.isfinite(records[0].loss)


def test_the_card_says_everything(made: Recipe) -> None:
    base = made.out / "base"
    card = (base / "README.md").read_text()
    manifest = json.loads((base / "manifest.json").read_text())
    assert "license: cc-by-sa-4.0" in card
    for source in made.mix.sources:
        counts = manifest["prepared"]["sources"][source.name]
        (row,) = (line for line in card.splitlines() if line.startswith(f"| {source.name} | {source.credit}"))
        assert source.licence in row
        assert f"{counts['held_out_documents']:,} |" in row
        assert counts["held_out_documents"] > 0
        assert f"| {source.name} | " in card.split("## Bits per byte")[1]
        assert len(manifest["prepared"]["asked"]["sha256"][source.name]) == 64
    assert manifest["files"]["model.safetensors"] in card
    assert (base / "attribution" / "tales.tsv").read_text() == "tale\tauthor\n"
    assert "attribution/tales.tsv" in card
    assert manifest["run"]["steps"] == 9
    assert [line["step"] for line in manifest["run"]["history"]] == [2, 3, 6, 9]
    assert (base / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_a_finished_run_is_not_done_again_and_other_settings_are_refused(made: Recipe) -> None:
    before = (made.out / "base" / "model.safetensors").read_bytes()
    assert list(make_base(made)) == []
    assert (made.out / "base" / "model.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="other texts or settings"):
        list(make_base(replace(made, vocabulary=VOCABULARY + 1)))
    with pytest.raises(InputError, match="other settings"):
        list(make_base(replace(made, settings=replace(made.settings, seed=1))))


# The commands


def test_a_run_that_is_told_to_stop_has_saved_where_it_is(data: Path, mix: Mix, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(mix.model_dump(mode="json")))
    options = {"out": tmp_path, "data": data, "mix": tmp_path / "mix.yaml", "vocabulary": 300, "budget-mb": 0.2}
    options |= {"context": 32, "batch-tokens": 128, "save-every": 1, "steps": 10**6}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "tools.pretrain_base", "train", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline()]
        assert said[0].startswith("step 1, steps 1e+06, loss")
        process.terminate()
        said += process.stderr.readlines()
    assert process.returncode == STOPPED
    assert said[-1].endswith("run the same command again to resume\n")
    last = said[-2]
    checkpoint = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    assert last.startswith(f"step {checkpoint['step']}, ")


def test_models_are_compared_on_the_same_bytes(made: Recipe, tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(made.mix.model_dump(mode="json")))
    where = ["--data", str(made.data), "--mix", str(tmp_path / "mix.yaml"), "--bytes", "300"]
    models = ["--model", str(made.out / "base"), "--model", str(tiny_path)]
    main(["evaluate", *where, *models, "--context", "64", "--json", str(tmp_path / "found.json")])
    ours, tiny = json.loads((tmp_path / "found.json").read_text())["models"]
    assert ours["bits_per_byte"].keys() == tiny["bits_per_byte"].keys() == made.mix.shares.keys()
    assert ours["all_bytes"] < tiny["all_bytes"]
    assert tiny["bytes_per_token"] == 1.0 < ours["bytes_per_token"]
    assert ours["documents_that_come_back"] == 1.0
    shipped = json.loads((made.out / "base" / "manifest.json").read_text())["evaluation"]["models"][0]
    assert shipped["sha256"] == ours["sha256"]


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--model", "bundled", "--data", str(tmp_path)])
    assert ended.value.code == 1
    assert "classic_books" in capsys.readouterr().out


def test_documented_commands_are_understood() -> None:
    for name in ("tools/pretrain_base/README.md", "docs/results/bits_per_byte.md"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        lines = re.findall(r"^    .*python -m tools\.pretrain_base (.*)$", text, re.M)
        assert lines
        for line in lines:
            command_line().parse_args(shlex.split(line))


def test_the_documents_repeat_what_was_measured() -> None:
    found = json.loads((ROOT / "docs" / "results" / "bits_per_byte.json").read_text())
    text = (ROOT / "docs" / "results" / "bits_per_byte.md").read_text()
    for corpus, size in found["corpora"].items():
        scores = " | ".join(f"{model['bits_per_byte'][corpus]:.2f}" for model in found["models"])
        assert f"| {corpus} | {size['bytes']:,} | {scores} |" in text
    shipped = hashlib.sha256((DIRECTORY / "model.safetensors").read_bytes()).hexdigest()
    assert found["models"][0]["sha256"] == shipped


# The mix that a base is made from


def test_the_mix_leaves_out_what_has_no_clean_licence() -> None:
    mix = load_mix(DEFAULT_MIX)
    assert not [source.name for source in mix.sources if "imdb" in f"{source.name}{source.path}"]
    assert all(source.licence and source.credit for source in mix.sources)
    assert sum(mix.shares.values()) == pytest.approx(1.0)


def test_a_wrong_mix_is_refused(tmp_path: Path, mix: Mix, data: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_mix(tmp_path / "none.yaml")
    (tmp_path / "mix.yaml").write_text("sources: [{name: a, path: a.txt, weight: 1, credit: me, license: x}]")
    with pytest.raises(InputError, match="licence"):
        load_mix(tmp_path / "mix.yaml")
    twice = {"name": "a", "path": "a.txt", "weight": 1, "credit": "me", "licence": "CC0"}
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"sources": [twice, twice]}))
    with pytest.raises(InputError, match="same name"):
        load_mix(tmp_path / "mix.yaml")
    with pytest.raises(InputError, match="tales"):
        list(documents(mix, tmp_path))
