"""What the clients of TensorBoard, MLflow and Weights & Biases keep of a run that was killed once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALLED = ROOT / ".trackers"
STEPS = list(range(8))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `program.py` found in the three stores."""
    if not (INSTALLED / "tensorboardX").is_dir():
        pytest.skip("there are no trackers: `make trackers` installs them")
    place = tmp_path_factory.mktemp("tracked")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WANDB_"))}
    environment["PYTHONPATH"] = f"{INSTALLED}{os.pathsep}{ROOT}"
    command = [sys.executable, str(HERE / "program.py"), str(place)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads((place / "said.json").read_text())
    return found


def test_no_client_is_left_out(said: dict[str, Any]) -> None:
    assert said["reports"] == []


def test_tensorboard_shows_every_step_once(said: dict[str, Any]) -> None:
    found = said["tensorboard"]
    assert [step for step, _ in found["shown"]["train/loss"]] == STEPS
    assert [value for _, value in found["shown"]["train/loss"]] == pytest.approx([2 - i / 10 for i in STEPS])
    # The evaluation after 3 steps was noted as sent; it is of the step that is sent again.
    assert [step for step, _ in found["shown"]["eval/f1"]] == [3, 8]
    assert found["dropped"] > 0  # else nothing was sent twice, and the test shows nothing
    assert '"method.kind": "two-point"' in found["texts"]["settings/text_summary"]
    assert "succeeded" in found["texts"]["result/text_summary"]


def test_mlflow_goes_on_in_the_same_run_and_has_every_step_once(said: dict[str, Any]) -> None:
    found = said["mlflow"]
    assert (found["name"], found["status"]) == ("a run", "FINISHED")
    assert found["parameters"] == {"steps": "8", "method.kind": "two-point"}
    assert [step for step, _ in found["shown"]["train/loss"]] == STEPS
    assert [step for step, _ in found["shown"]["eval/loss"]] == [3, 8]
    assert found["shown"]["final/f1"] == [[0, 0.25]]


def test_wandb_has_two_parts_of_one_run_that_agree_where_they_overlap(said: dict[str, Any]) -> None:
    first, second = said["wandb"]
    assert first["id"] == second["id"]
    assert first["config"]["method.kind"] == "two-point"
    losses = [
        {row["_step"]: row["train/loss"] for row in run["shown"] if "train/loss" in row} for run in (first, second)
    ]
    assert [list(part) for part in losses] == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]]
    assert losses[0][3] == losses[1][3] == pytest.approx(1.7)
    assert second["summary"]["state"] == "succeeded"
    assert second["exit"] == 0
