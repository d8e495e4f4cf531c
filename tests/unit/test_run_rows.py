"""A run that an earlier version began, on rows that this version reads differently, is not continued with them."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from steerzo_edge.data.control_tokens import read_control_tokens
from steerzo_edge.data.reading import read_rows
from steerzo_edge.errors import JournalError
from steerzo_edge.model.load import load_base
from steerzo_edge.run import Run
from steerzo_edge.zo.journal import Journal
from tests.unit.runs import profile

SPELLED = [{"prompt": f"{i}<|end|>", "completion": " b"} for i in range(8)]


def begun(path: Path, base: Any, rows: list[dict[str, Any]]) -> str:
    run = Run(path, base, profile(**{"evaluate.holdout": 0}), read_rows(rows), seed=1)
    list(islice(run.records(), 3))
    run.close()
    return Journal.read(path / "journal")[0].data


def test_rows_that_spell_control_tokens_are_other_rows_than_before(tiny_path: Path, tmp_path: Path) -> None:
    plain, allowing = (load_base(str(tiny_path), quantization="none", device="cpu") for _ in range(2))
    read_control_tokens(allowing.tokenizer)
    # With control tokens allowed, everything is as in earlier versions, also the journal.
    assert begun(tmp_path / "old", allowing, SPELLED) == read_rows(SPELLED).fingerprint
    with pytest.raises(JournalError, match="another data") as caught:
        begun(tmp_path / "old", plain, SPELLED)
    assert "a control token in it" in caught.value.hint
    begun(tmp_path / "old", allowing, SPELLED)
    assert begun(tmp_path / "new", plain, SPELLED) != read_rows(SPELLED).fingerprint
    usual = [{**row, "prompt": row["prompt"][0]} for row in SPELLED]
    assert begun(tmp_path / "usual", plain, usual) == read_rows(usual).fingerprint


def test_turns_marked_as_not_learned_are_other_rows_than_before(tiny_path: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny_path), quantization="none", device="cpu")

    def rows(**mark: int) -> list[dict[str, Any]]:
        turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
        written: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
        written[1] |= mark
        return [{"messages": written}] * 4

    # Earlier versions took such rows for those without the mark.
    begun(tmp_path, base, rows())
    with pytest.raises(JournalError, match="another data"):
        begun(tmp_path, base, rows(weight=0))
    begun(tmp_path, base, rows(weight=1))
