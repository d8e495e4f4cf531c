"""Commands that load no model import neither torch nor what comes with it: they start quickly, in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "bitsandbytes", "accelerate", "optimum", "numpy", "pyarrow", "fastapi", "gguf")
PROGRAM = """
import json, sys
from typer.testing import CliRunner
from server.commands.app import app
done = CliRunner().invoke(app, json.loads(sys.argv[1]), input=sys.argv[3])
print(json.dumps([done.exit_code, done.output, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]))
"""
NO_SERVER = ["--url", "http://127.0.0.1:9"]


def run(*words: str, typed: str = "") -> tuple[int, str, list[str]]:
    """Runs a command in a fresh process: its exit code, what it prints, and the heavy packages it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(words), json.dumps(HEAVY), typed],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    code, output, heavy = json.loads(done.stdout.splitlines()[-1])
    return code, output, heavy


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"]], ids=str)
def test_help(words: list[str]) -> None:
    code, output, heavy = run(*words)
    assert code == 0
    assert output
    assert heavy == []


@pytest.mark.parametrize("words", [["jobs", "list"], ["jobs", "watch", "a"]], ids=str)
def test_clients_of_a_server(words: list[str]) -> None:
    code, output, heavy = run(*words, *NO_SERVER)
    assert code == 1
    assert "no server answers" in output
    assert heavy == []


def test_chat() -> None:
    code, _, heavy = run("chat", *NO_SERVER, typed="Hello\n")
    assert code == 1
    assert heavy == []


def test_keys(tmp_path: Path) -> None:
    assert run("keys", "create", "laptop", "--data-dir", str(tmp_path))[::2] == (0, [])
    code, output, heavy = run("keys", "list", "--data-dir", str(tmp_path))
    assert code == 0
    assert "laptop" in output
    assert heavy == []


TRAINED = """
import sys
from steerzo_edge.assemble import assemble
from steerzo_edge.decoding.generate import generate
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.estimate import survey
from steerzo_edge.model.load import load_base
from steerzo_edge.run_data import Data, tokenized
from steerzo_edge.settings.profile import resolve
from steerzo_edge.training.loop import finetune
from tests.conftest import DATASETS

base = load_base()
survey(base)
generate(base, "Once", sampling=Sampling(2))
profile = resolve({"steps": 1, "method": {"pool": 2, "epsilon": 0.01}, "rule": {"learning_rate": 0.01}})
data = tokenized(base.tokenizer, base.context_length, profile, DATASETS["single-token"](), None, seed=0)
for _ in finetune(assemble(base, profile, data, seed=0)):
    pass
print([name for name in ("torch._dynamo", "torch.distributed.tensor", "sympy") if name in sys.modules])
import torch
print(torch._dynamo.__name__, torch.compile.__module__)
"""


def test_a_run_loads_no_compiler() -> None:
    """Neither a load, nor an estimate, a prompt or a step; afterwards torch has its compiler as ever."""
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "torch._dynamo torch"]


def test_the_list_of_heavy_packages_means_something() -> None:
    """A command that loads a model does import them."""
    code, _, heavy = run("generate", "Once", "--max-new-tokens", "1")
    assert code == 0
    assert {"torch", "transformers", "bitsandbytes"} <= set(heavy)
