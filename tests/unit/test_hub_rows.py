"""Datasets of the hub: what is asked of the package `datasets`, and what becomes of its rows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from steerzo_edge.cli.options import read_file
from steerzo_edge.data.hub_rows import hub_rows
from steerzo_edge.errors import ConflictError, DatasetError, InputError

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".lm-eval"  # has the package too
PROGRAM = """
import sys
from datasets import ClassLabel, Dataset, Features, Value
from steerzo_edge.data.hub_rows import hub_rows

features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "ok"])})
for split, texts in (("train", ["good", "bad"]), ("test", ["fair"])):
    rows = {"text": texts, "label": [1, 0][: len(texts)]}
    Dataset.from_dict(rows, features=features).to_parquet(f"{sys.argv[1]}/{split}.parquet")
sys.stdout.write(hub_rows(f"hub:{sys.argv[1]}::test").decode() + hub_rows(f"hub:{sys.argv[1]}").decode())
"""


class Rows(list[dict[str, Any]]):
    features: ClassVar = {"text": SimpleNamespace(dtype="string"), "label": SimpleNamespace(names=["no", "ok"])}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    """What the package is asked for, which has two rows of everything but "owner/gone"."""
    found: list[tuple[str, str | None, str]] = []

    def load_dataset(repository: str, config: str | None, *, split: str) -> Rows:
        found.append((repository, config, split))
        if repository == "owner/gone":
            raise FileNotFoundError("no such dataset")
        return Rows([{"text": "good", "label": 1}, {"text": "bad", "label": 0}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return found


def test_rows_are_read_as_those_of_a_file(asked: list[tuple[str, str | None, str]]) -> None:
    rows = read_file(Path("hub:owner/name"), None, None)
    assert rows.format == "classification"
    assert rows.labels == ("ok", "no")
    assert asked == [("owner/name", None, "train")]


def test_configuration_and_split_are_in_the_name(asked: list[tuple[str, str | None, str]]) -> None:
    for name in ("hub:owner/name:sst2", "hub:owner/name:sst2:test", "hub:owner/name::test", "hub:name"):
        hub_rows(name)
    assert asked == [
        ("owner/name", "sst2", "train"),
        ("owner/name", "sst2", "test"),
        ("owner/name", None, "test"),
        ("name", None, "train"),
    ]
    for wrong in ("hub:", "hub:owner/name:a:b:c"):
        with pytest.raises(InputError, match="is not hub:owner/name"):
            hub_rows(wrong)


def test_what_cannot_be_loaded_is_refused_in_words(
    asked: list[tuple[str, str | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match="FileNotFoundError: no such dataset"):
        hub_rows("hub:owner/gone")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConflictError, match="not installed") as raised:
        read_file(Path("hub:owner/name"), None, None)
    assert raised.value.hint == 'pip install "steerzo-edge[datasets]"'


@pytest.mark.skipif(not (INSTALLED / "datasets").is_dir(), reason="there are no datasets: `make lm-eval` has them")
def test_the_package_itself_gives_the_names_of_classes(tmp_path: Path) -> None:
    place = tmp_path / "rows"
    place.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{INSTALLED}{os.pathsep}{ROOT}", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", PROGRAM, str(place)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [
        {"text": "fair", "label": "ok"},
        {"text": "good", "label": "ok"},
        {"text": "bad", "label": "no"},
    ]
