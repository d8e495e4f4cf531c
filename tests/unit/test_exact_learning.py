"""The report on learning in equal seconds: medians over seeds, and which runs a file still lacks."""

import json
from argparse import Namespace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import exact_learning
from benchmarks.exact_learning_report import draw, table


def _run(way: str, seed: int, losses: list[float], peak: int) -> dict[str, Any]:
    points = [
        {"seconds": 10.0 * step, "processor": 20.0 * step, "steps": step, "loss": loss, "accuracy": 0.5}
        for step, loss in enumerate(losses)
    ]
    return {"way": way, "set": "sst2", "seed": seed, "points": points, "peak": peak << 20}


@pytest.fixture
def found() -> dict[str, Any]:
    runs = [_run("exact", seed, [1.5, end], 600 + seed) for seed, end in enumerate((0.4, 0.9, 0.5))]
    runs += [_run("forward only", 0, [1.5, 1.25], 550)]
    described = {"machine": "a machine", "base": "a base", "compute_dtype": "float32", "seconds": 10.0}
    return {**described, "rates": [{"way": "exact", "chosen": {"rule.learning_rate": 1e-3}}], "runs": runs}


def test_the_table_has_medians_of_the_seeds(found: dict[str, Any]) -> None:
    console = Console(width=160, record=True, file=StringIO())
    console.print(table(found))
    lines = console.export_text().splitlines()
    last = {way: [line for line in lines if way in line][-1] for way in ("exact", "forward only")}
    for words in ("0.500", "0.400 to 0.900", "601"):
        assert words in last["exact"]
    assert "1.250" in last["forward only"]


def test_the_picture_names_every_way(found: dict[str, Any], tmp_path: Path) -> None:
    draw(found, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_only_what_a_file_lacks_is_run(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str]] = []

    def child(options: Namespace, way: str, name: str, given: str) -> dict[str, Any]:
        asked.append((way, name, "rates" if given == "rates" else "run"))
        if given == "rates":
            return {"tried": [], "chosen": {"rule.learning_rate": 0.1}}
        own = _run(way, 9, [1.5, 1.0], 500)
        return {name: own[name] for name in ("points", "peak")}

    monkeypatch.setattr(exact_learning, "_in_child", child)
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    ways, seeds = "forward only,exact", "0,1,2"
    options = Namespace(json=path, ways=ways, sets="sst2", seeds=seeds, most=1e9, base="a base")
    exact_learning._measure(options)
    assert asked == [("forward only", "sst2", "rates"), *[("forward only", "sst2", "run")] * 2]
    exact_learning._measure(options)
    assert len(asked) == 3
    options.most, options.sets = 0.0, "sst2,snips"
    exact_learning._measure(options)
    assert len(asked) == 3
