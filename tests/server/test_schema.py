"""Whatever the API's description allows, and much that it does not, is sent to a real server.

No answer is a 5xx, and every answer is one that the description names: status, media type, headers and body. By
default a few hundred requests; STEERZO_SCHEMA_CASES=2000 asks for so many.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.conftest import PROFILE, TASK
from tests.server.process import ServerProcess, finished

CASES = int(os.environ.get("STEERZO_SCHEMA_CASES", "400"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def real(guarded: ServerProcess) -> dict[str, str]:
    """What there is on the server, by the name of the parameter: most of what is made up does not exist."""
    client = guarded.client
    rows = [{"text": f"good {index}", "label": ("ok", "no")[index % 2]} for index in range(24)]
    dataset = client.post("/datasets", {"rows": rows, "name": "schema"})["id"]
    body = {"dataset": dataset, "profile": PROFILE, "task": TASK, "overrides": {"steps": 2}}
    job = client.post("/jobs", body)["id"]
    assert finished(client, job)["state"] == "succeeded"
    adapter = client.get(f"/adapters/{job}")["id"]
    base = client.get("/v1/models")["data"][0]["id"]
    return {
        "job_id": job,
        "adapter": job,
        "adapter_id": adapter,
        "dataset_id": dataset,
        "dataset": dataset,
        "file_id": dataset,
        "training_file": dataset,
        "name": "cpu-demo",
        "profile": "cpu-demo",
        "model": base,
        "model_id": base,
    }


@pytest.fixture(scope="module")
def session(guarded: ServerProcess) -> Iterator[requests.Session]:
    def with_the_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
        # At the last moment: some cases are made without a key, or with a made-up one, and would end at the door.
        request.headers["Authorization"] = f"Bearer {guarded.key}"
        return request

    with requests.Session() as opened:
        opened.auth = with_the_key
        yield opened


@pytest.mark.long
def test_every_answer_is_one_that_is_described(
    guarded: ServerProcess, session: requests.Session, real: dict[str, str]
) -> None:
    url = str(guarded.client.http.base_url)
    schema = schemathesis.openapi.from_dict(session.get(f"{url}/openapi.json").json())
    schema.config.update(base_url=url)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == sum(1 for _ in schema.get_all_operations())
    # What takes things away comes last.
    operations.sort(key=lambda operation: operation.method.upper() == "DELETE")
    answers: Counter[tuple[str, int]] = Counter()
    failures: list[str] = []
    for operation in operations:
        try:
            _try(operation, session, real, answers, -(-CASES // len(operations)))
        except FailureGroup as error:
            failures.append(f"{operation.label}: {error}")
    assert not failures, "\n\n".join(failures)
    assert sum(answers.values()) >= CASES
    # It did not only knock at the door.
    good = {label for label, status in answers if status < 300}
    assert len(good) > len(operations) // 2, sorted(answers)
    assert not [label for label, status in answers if status in (401, 421)]


def _try(
    operation: Any, session: requests.Session, real: dict[str, str], answers: Counter[tuple[str, int]], cases: int
) -> None:
    allowed = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    asked = allowed
    if operation.body or operation.query or operation.headers:
        asked = allowed | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=asked, existing=st.booleans())
    def one(case: Any, existing: bool) -> None:
        if existing:
            case.path_parameters = {key: real.get(key, value) for key, value in case.path_parameters.items()}
            if isinstance(case.body, dict):
                case.body = {**case.body, **{key: real[key] for key in case.body if key in real}}
        response = case.call(session=session, timeout=60)
        answers[operation.label, response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    one()
    # Some have fewer cases than were asked for (no parameter, no body): there is nothing more to try.
    missing = cases - sum(count for (label, _), count in answers.items() if label == operation.label)
    for _ in range(missing):
        response = session.request(operation.method, operation.base_url + operation.path, timeout=60)
        answers[operation.label, response.status_code] += 1
        assert response.status_code < 500
