"""Texts, a mix of them, and what is prepared from it: made once for each file of tests, and only read."""

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.pretraining.small import VOCABULARY, tale
from tools.pretrain_base.mix import Mix, load_mix
from tools.pretrain_base.tokens import prepare


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
