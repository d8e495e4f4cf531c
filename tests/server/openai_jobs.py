"""Jobs of the real `openai` client: their rows, waiting for their states, and refusals."""

import time
from typing import Any

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.server.conftest import PROFILE

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"is {i} even?"},
            {"role": "assistant", "content": "yes" if i % 2 == 0 else "no"},
        ]
    }
    for i in range(24)
]
EXTRA = {"profile": PROFILE}


def job_when(openai: OpenAI, job: str, *states: str) -> FineTuningJob:
    deadline = time.monotonic() + 120
    while (found := openai.fine_tuning.jobs.retrieve(job)).status not in states:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def refusal(error: pytest.ExceptionInfo[Any]) -> dict[str, Any]:
    body: dict[str, Any] = error.value.body
    assert set(body) == {"message", "type", "param", "code"}
    return body
