"""The clients langchain-openai and llm, in processes of their own, against a server that calls tools."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import tool_server
from tests.server.process import ServerProcess

__all__ = ["tool_server"]

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALLED = ROOT / ".clients"
FUNCTION = 'def city(big: bool) -> str:\n    "Finds a city."\n    return "Rome" if big else "Bern"\n'


@pytest.fixture(scope="module")
def installed() -> Path:
    if not (INSTALLED / "llm").is_dir():
        pytest.skip("there are no clients: `make clients` installs them")
    return INSTALLED


def ran(installed: Path, directory: Path, *command: str) -> str:
    """What a Python program printed that may import the clients."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "LLM_USER_PATH": str(directory)}
    done = subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_langchain_chats_streams_and_calls_tools(
    installed: Path, tool_server: ServerProcess, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{tool_server.port}/v1"
    ran(installed, tmp_path, str(HERE / "langchain_program.py"), url, str(tmp_path / "result.json"))
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    usage = found.pop("usage")
    assert usage["output_tokens"] == len("Yes") + 1
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert found == {
        "plain": "Yes",
        "stream": ["Y", "e", "s"],
        "call": ["So", "city", {"big": True}],
        "result": "Rome",
        "after": "Fin",
        "streamed_call": ["So", [["city", {"big": True}]]],
        "forced": [["big"]],
        "response": "Yes",
        "response_call": [{"big": True}],
    }


def test_llm_chats_streams_and_calls_tools(installed: Path, tool_server: ServerProcess, tmp_path: Path) -> None:
    model = {
        "model_name": "base",
        "api_base": f"http://127.0.0.1:{tool_server.port}/v1",
        "supports_tools": True,
    }
    models = [{**model, "model_id": "chat"}, {**model, "model_id": "responses", "responses": True}]
    # JSON is YAML too.
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    for name in ("chat", "responses"):
        asked = ("-m", "llm", "prompt", "--no-log", "-m", name, "Which city?")
        assert ran(installed, tmp_path, *asked).strip() == "Yes"
        told = ran(installed, tmp_path, *asked, "--functions", FUNCTION).split()
        # The text before the call, and the answer after its result, which llm sent back.
        assert "".join(told) == "SoFin"
    assert ran(installed, tmp_path, *asked, "--no-stream").strip() == "Yes"
