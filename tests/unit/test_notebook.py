"""The example notebook is run, and a run's progress is shown in a notebook and outside of one.

Jupyter is not installed for the tests: the cells are run in order in a child process, where a stand-in for IPython
shows the last expression of a cell as Jupyter would.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steerzo_edge.errors import ConflictError, InputError
from steerzo_edge.notebook import History, follow, train
from tests.conftest import Loader
from tests.docs.blocks import ROOT
from tests.unit.runs import STEPS, open_run

NOTEBOOK = ROOT / "examples" / "fine_tune.ipynb"
PROGRAM = r"""
import ast, json, sys, types
shown = []
class HTML:
    def __init__(self, data): self.data = data
class Handle:
    def update(self, what): shown.append(what.data)
def display(what, display_id): shown.append(what.data); return Handle()
class Shell:
    pass
python = types.ModuleType("IPython"); python.get_ipython, python.version_info = Shell, (8, 24)
python.display = types.ModuleType("IPython.display"); vars(python.display).update(HTML=HTML, display=display)
sys.modules |= {"IPython": python, "IPython.display": python.display}
space, outputs = {}, []
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), space)
        value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), space)
        html, png = getattr(value, "_repr_html_", None), getattr(value, "_repr_png_", None)
        outputs.append(html() if html else png().hex()[:16] if png else repr(value))
json.dump({"shown": shown, "outputs": outputs}, open("said.json", "w"))
"""


def test_the_example_notebook_runs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(NOTEBOOK)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "said.json").read_text())
    rows, _, history, plot, answer = said["outputs"]
    assert rows.startswith("(120, ('")
    assert 'value="0" max="6"' in said["shown"][0]
    assert 'value="6" max="6"' in said["shown"][-1]
    assert 'src="data:image/png;base64,' in history
    assert bytes.fromhex(plot).startswith(b"\x89PNG")
    assert isinstance(ast.literal_eval(answer), str)


def test_the_example_notebook_is_valid_and_has_no_outputs() -> None:
    document = json.loads(NOTEBOOK.read_text())
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in document["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_outside_of_a_notebook_the_progress_is_text(
    tmp_path: Path, tiny: Loader, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = train(open_run(tmp_path / "run", tiny("none")))
    assert f"step {STEPS - 1}: loss" in capsys.readouterr().out
    assert (history.step, history.result and history.result.step is not None) == (STEPS, True)
    assert str(history).splitlines()[0] == f"step {STEPS} of {STEPS}"
    assert "after 3 steps: " in str(history)
    # What was done before an interruption is in the history too.
    again = train(open_run(tmp_path / "run", tiny("none")))
    assert again.events == history.events
    monkeypatch.setattr("steerzo_edge.notebook.find_spec", lambda name: None)
    assert "<progress" in history._repr_html_()
    with pytest.raises(InputError, match="matplotlib"):
        history.plot()


def test_a_tracker_that_is_not_installed_is_refused_by_name(
    tmp_path: Path, tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerzo_edge.trackers.tracker.find_spec", lambda name: None)
    with pytest.raises(ConflictError, match="tracker wandb needs the package"):
        train(open_run(tmp_path / "run", tiny("none"), trackers=[{"kind": "wandb"}]))


def test_a_jobs_events_become_a_history(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[tuple[str, dict[str, Any]]] = [
        ("state", {"state": "running"}),
        ("tune", {"step": 0, "message": "rate <0.01>"}),
        (
            "step",
            {"step": 0, "loss": 1.5, "slope": 1.0, "epsilon": 0.1, "forwards": 3, "seconds": 0.1, "skipped": None},
        ),
    ]
    history = follow(iter(events), 2)
    assert "rate <0.01>" in capsys.readouterr().out
    assert isinstance(history, History)
    assert [kind for kind, _ in history.events] == ["tune", "step"]
    assert "rate &lt;0.01&gt;" in history._repr_html_()
