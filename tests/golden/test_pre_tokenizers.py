"""Every pre-tokenizer cuts as llama.cpp does; `python -m tools.llama_cpp --cuts` recorded its token ids."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from steerzo_edge.model.cuts import CUTS
from steerzo_edge.model.load import load_tokenizer
from tests.cut_file import cut_file

RECORD = json.loads(Path(__file__).with_name("pre_tokenizers.json").read_text(encoding="utf-8"))


def test_all_are_recorded_and_differ() -> None:
    """The vocabulary tells every two of them apart, but for those that differ in texts that are no page."""
    assert set(RECORD["ids"]) == set(CUTS)
    assert all(RECORD["ids"][one] != RECORD["ids"][other] for one, other in pairwise(CUTS))
    assert len({json.dumps(ids) for ids in RECORD["ids"].values()}) == len(CUTS)


@pytest.mark.parametrize("name", CUTS)
def test_ids_of_a_page(tmp_path: Path, name: str) -> None:
    tokenizer = load_tokenizer(str(cut_file(tmp_path / "x.gguf", name, RECORD["merges"])))
    for text, expected in zip(RECORD["page"], RECORD["ids"][name], strict=True):
        assert tokenizer.encode(text) == expected, text
