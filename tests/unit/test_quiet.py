"""Commands say what they are asked for: no line of a library, no loading bar."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

from tests.families import FURTHER, saved

PROMPT = ["--max-new-tokens", "2", "--json"]


def said(*words: str) -> str:
    """What a command prints to standard error."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that `transformers` loads itself."""
    return saved(deepcopy(FURTHER["mixtral-experts"]), tmp_path_factory.mktemp("experts"))


# One command after the other in one process, which imports once what takes seconds.
COMMANDS = """
import json, sys
from server.commands.app import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["steerzo", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code
"""


def test_commands(experts: Path) -> None:
    bundled = ["generate", "Once", *PROMPT]
    by_transformers = [*bundled, "--base", str(experts), "--quantization", "none"]
    assert said("-c", COMMANDS, json.dumps([bundled, by_transformers])) == ""


def test_the_library_is_imported_in_one_place_only() -> None:
    """Before steerzo_edge it would print its line; and importing it loads no compiler."""
    program = (
        "import steerzo_edge.model.weights.library, sys;"
        "assert 'torch._inductor.lowering' not in sys.modules;"
        "import torch; assert torch.compile.__module__ == 'torch'"
    )
    assert said("-c", program) == ""
    package = Path(__file__).parents[2] / "steerzo_edge"
    importing = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "import bitsandbytes" in (text := path.read_text()) or "from bitsandbytes" in text
    ]
    assert importing == ["model/weights/library.py"]
