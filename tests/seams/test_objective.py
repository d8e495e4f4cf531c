"""A new objective is one file, and one line in the union of `settings/objectives.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import labelled_rows
from tests.seams.copied import add_line, copied_package

MARGIN = '''
"""A margin loss: how far the score of the right option is from `margin` above that of the best wrong one."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from steerzo_edge.data.batches import Batch, TargetBatch
from steerzo_edge.data.tokenization import Targets, Tokenized
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.objectives.likelihood import option_scores
from steerzo_edge.objectives.objective import Objective, ObjectiveConfig


class MarginConfig(ObjectiveConfig):
    """The distance of the right option from the best wrong one."""

    kind: Literal["margin"] = "margin"
    differentiable: ClassVar[bool] = True
    margin: float = Field(1.0, gt=0, description="In nats per token.")

    def prepare(self, rows: Tokenized, context_length: int) -> Tokenized:
        if isinstance(rows, Targets):
            raise ProfileError("objective.kind is margin, but the rows have no options")
        return rows

    def build(self, rows: Tokenized) -> Objective:
        return MarginLoss(self.margin)


@dataclass(frozen=True)
class MarginLoss:
    margin: float

    def __call__(self, base: Base, batch: Batch, copies: int, hidden_states: HiddenStates | None, /) -> Tensor:
        assert not isinstance(batch, TargetBatch)
        scores, _ = option_scores(base, batch, copies, hidden_states)  # (K, B, C)
        right = batch.answers.expand(len(scores), -1).unsqueeze(-1)  # (K, B, 1)
        wrong = scores.scatter(-1, right, -torch.inf).amax(-1)
        return (self.margin - scores.gather(-1, right).squeeze(-1) + wrong).clamp(min=0).mean(-1)
'''

TRAIN = """
import json, sys
from pathlib import Path

import steerzo_edge
from steerzo_edge.data.reading import read_dataset
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.load import load_base
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve

home, base, rows, settings = sys.argv[1:]
assert Path(steerzo_edge.__file__).parent == Path(home) / "steerzo_edge"
try:
    profile = resolve(json.loads(settings))
except ProfileError as error:
    sys.exit(f"profile: {error}")
data = read_dataset(Path(rows).read_bytes(), name="rows.jsonl")
run = Run(Path(home) / "run", load_base(base, quantization="none", device="cpu"), profile, data)
steps = [record.as_dict() for record in run.records() if record.kind == "step"]
advice = run.advice()
run.close()
print(json.dumps({"steps": steps, "advice": advice, "adapter": str(run.finish().adapter)}))
"""

SETTINGS: dict[str, Any] = {
    "objective": {"kind": "margin", "margin": 50.0},
    "model": {"quantization": "none"},
    "subset": {"kind": "lora", "rank": 2},
    "method": {"kind": "all-losses", "pool": 3, "epsilon": 0.1},
    "rule": {"kind": "sgd", "learning_rate": 0.01},
    "batch": {"examples": 4, "max_tokens": 64},
    "evaluate": {"every": 2},
    "steps": 2,
}


def python(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(str(argument) for argument in arguments)]
    environment = {**os.environ, "PYTHONPATH": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    return path


def test_an_objective_is_one_file_and_one_line(tmp_path: Path, tiny_path: Path, rows: Path) -> None:
    package = copied_package(tmp_path)
    arguments = ("-c", TRAIN, tmp_path, tiny_path, rows, json.dumps(SETTINGS))

    (package / "objectives" / "margin.py").write_text(MARGIN)
    refused = python(tmp_path, *arguments)
    assert refused.stderr.startswith("profile: "), refused.stderr
    assert "'margin'" in refused.stderr

    add_line(package / "settings" / "objectives.py", '"accuracy.AccuracyConfig",', '    "margin.MarginConfig",')
    done = python(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [step["step"] for step in found["steps"]] == [0, 1]
    # Scores differ by far less than the margin of 50 nats, so the loss is near it; the likelihood's is near 1.
    assert all(45 < step["loss"] < 55 and step["skipped"] is None for step in found["steps"])
    assert Path(found["adapter"], "adapter_model.safetensors").exists()
    assert "Back-propagation would need" in found["advice"]

    profile = tmp_path / "margin.yaml"
    profile.write_text(json.dumps(SETTINGS))
    program = ("-c", "from steerzo_edge.cli.app import app; app()", "estimate", "--json")
    estimated = python(tmp_path, *program, "--profile", profile, "--base", tiny_path, "--dataset", rows)
    assert estimated.returncode == 0, estimated.stderr
    needs = json.loads(estimated.stdout)
    assert needs["forwards"] == 2 * 3
    assert needs["zeroth_order"]["total"] > 0
