"""The texts of the base: held-out text stays out, conversations, the tokenizer, and the mix that they come from."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from steerzo_edge.errors import InputError
from steerzo_edge.model.sources.bundled import DIRECTORY
from tests.unit.pretraining.small import VOCABULARY
from tools.pretrain_base.conversations import turns
from tools.pretrain_base.documents import Document, clean, documents
from tools.pretrain_base.evaluation import held_out_text
from tools.pretrain_base.mix import DEFAULT_MIX, Mix, load_mix
from tools.pretrain_base.tokenizer import CHAT_TEMPLATE, SPECIAL, sample, train_tokenizer, wrapped
from tools.pretrain_base.tokens import load_corpora, load_prepared_tokenizer

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
