"""A new objective is one file in `objectives`, and one line with its import in `settings/objectives.py`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import labelled_rows
from tests.seams.copied import add_line, copied_package, run_in

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
from steerzo_edge.model.load import load_base
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve
from tests.conftest import labelled_rows

base, directory, settings = sys.argv[1:]
profile = resolve(json.loads(settings))
run = Run(Path(directory), load_base(base, quantization="none", device="cpu"), profile, labelled_rows(30))
losses = [record.loss for record in run.records() if record.kind == "step"]
advice = run.advice()
run.close()
print(json.dumps({"losses": losses, "advice": advice, "adapter": str(run.finish().adapter)}))
"""

ESTIMATE = """
import sys
from steerzo_edge.cli.app import app

app(["estimate", "--json", "--profile", sys.argv[1], "--base", sys.argv[2], "--dataset", sys.argv[3]])
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


def test_an_objective_is_one_file_and_one_line(tmp_path: Path, tiny_path: Path) -> None:
    root = copied_package(tmp_path)
    train = (TRAIN, str(tiny_path), str(tmp_path / "run"), json.dumps(SETTINGS))
    (root / "steerzo_edge/objectives/margin.py").write_text(MARGIN)
    with pytest.raises(AssertionError, match=r"ProfileError.*'margin'"):
        run_in(root, *train)

    union = root / "steerzo_edge/settings/objectives.py"
    add_line(union, "import AccuracyConfig", "from steerzo_edge.objectives.margin import MarginConfig")
    add_line(union, "    | AccuracyConfig", "    | MarginConfig")
    trained = json.loads(run_in(root, *train))
    # Scores differ by far less than the margin of 50 nats, so the loss is near it; the likelihood's is near 1.
    assert len(trained["losses"]) == 2
    assert all(45 < loss < 55 for loss in trained["losses"])
    assert Path(trained["adapter"], "adapter_model.safetensors").exists()
    assert "Back-propagation would need" in trained["advice"]

    profile, rows = tmp_path / "margin.yaml", tmp_path / "rows.jsonl"
    profile.write_text(json.dumps(SETTINGS))
    rows.write_text("".join(json.dumps(row) + "\n" for row in labelled_rows(30).rows()))
    needs = json.loads(run_in(root, ESTIMATE, str(profile), str(tiny_path), str(rows)))
    assert needs["forwards"] == 2 * 3
    assert needs["zeroth_order"]["total"] > 0
