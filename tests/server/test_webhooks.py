"""The end of a job is reported: signed, tried again, also by the next server, and only to allowed addresses."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from server.webhook_addresses import check_webhook, is_below
from steerzo_edge.errors import InputError
from tests.server.conftest import PROFILE, TASK
from tests.server.process import ServerProcess, finished
from tests.server.webhook_desk import SECRET, Desk, Receiver, wait_for


def test_a_message_says_what_ended_and_openais_client_accepts_its_signature(
    receiver: Receiver, desks: Callable[..., Desk]
) -> None:
    desk = desks(receiver.url)
    desk.sender.start()
    desk.ended("job_1")
    wait_for(lambda: desk.told("job_1"))
    ((path, headers, body),) = receiver.received
    assert path == "/hook/secret-path"
    said = json.loads(body)
    assert said["type"] == "job.failed"
    assert said["data"]["job"] == "job_1"
    assert said["data"]["error"] == {"code": "diverged", "detail": "no", "hint": "h"}
    assert said["data"]["adapter"] is None
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    client.webhooks.verify_signature(body, headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body + b" ", headers)
    assert desk.told("job_1") == ["webhook: http://127.0.0.1 was told, attempt 1 (status 204)"]
    assert desk.table.next_in_s() is None


def test_an_attempt_that_fails_is_made_again_with_the_same_id(
    receiver: Receiver, desks: Callable[..., Desk]
) -> None:
    receiver.statuses = [500, 302]
    desk = desks(receiver.url, secret=None)
    desk.sender.start()
    desk.ended("job_1", "cancelled")
    wait_for(lambda: len(desk.told("job_1")) == 3)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1
    assert {path for path, _, _ in receiver.received} == {"/hook/secret-path"}  # a redirect is not followed
    assert "webhook-signature" not in receiver.received[0][1]
    assert desk.told("job_1") == [
        "webhook: http://127.0.0.1 was not told (status 500); attempt 2 in 0.01 s",
        "webhook: http://127.0.0.1 was not told (status 302); attempt 3 in 0.01 s",
        "webhook: http://127.0.0.1 was told, attempt 3 (status 204)",
    ]


@pytest.mark.parametrize(("statuses", "attempts"), [([500, 500, 500, 500], 3), ([410], 1)])
def test_attempts_are_bounded(
    receiver: Receiver, desks: Callable[..., Desk], statuses: list[int], attempts: int
) -> None:
    receiver.statuses = statuses
    desk = desks(receiver.url)
    desk.sender.start()
    desk.ended("job_1")
    wait_for(lambda: desk.table.next_in_s() is None and len(desk.told("job_1")) == attempts)
    assert len(receiver.received) == attempts
    assert f"given up after attempt {attempts}" in desk.told("job_1")[-1]


def test_a_receiver_that_does_not_answer_is_left_after_the_timeout(desks: Callable[..., Desk]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        desk = desks(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.05)
        desk.sender.start()
        desk.ended("job_1")
        wait_for(lambda: desk.told("job_1"))
    assert "no answer within 0.05 s" in desk.told("job_1")[0]


def test_what_one_server_did_not_deliver_the_next_one_does(receiver: Receiver, desks: Callable[..., Desk]) -> None:
    killed = desks(receiver.url)
    killed.ended("job_1")  # its sender never ran
    killed.ended("job_2", "cancelled", webhook="http://127.0.0.1:1/closed")
    assert len(killed.table.due()) == 3
    desk = desks(None)
    desk.jobs.delete("job_2")  # a message outlives its job
    desk.sender.start()
    wait_for(lambda: desk.table.next_in_s() is None)
    types = sorted(json.loads(body)["type"] for _, _, body in receiver.received)
    assert types == ["job.cancelled", "job.failed"]


def test_a_job_that_goes_on_is_not_reported_until_it_ends_again(desks: Callable[..., Desk]) -> None:
    desk = desks("http://127.0.0.1:1/")
    desk.jobs.add("job_1", None, {"profile": {"model": {"id": "bundled"}, "subset": {}}})
    desk.jobs.change_state("job_1", "running")
    desk.jobs.change_state("job_1", "paused")
    assert desk.table.due() == []
    desk.jobs.resume("job_1")
    desk.jobs.change_state("job_1", "failed", error={"code": "x"})
    desk.jobs.resume("job_1")
    desk.jobs.change_state("job_1", "running")
    desk.jobs.change_state("job_1", "succeeded", result={"sha256": "00", "step": 3, "after": {"loss": 0.5}})
    states = [json.loads(message.body)["data"] for message in desk.table.due()]
    assert [state["state"] for state in states] == ["failed", "succeeded"]
    assert states[1]["adapter"] == {"sha256": "00", "step": 3}
    assert states[1]["metrics"] == {"loss": 0.5}


@pytest.mark.parametrize(
    ("url", "prefix", "allowed"),
    [
        ("https://hooks.example.com/a/b?c=d", "https://hooks.example.com/a", True),
        ("https://hooks.example.com/a", "https://hooks.example.com/a/", True),
        ("https://hooks.example.com:443/a/b", "https://HOOKS.example.com/a/", True),
        ("https://hooks.example.com", "https://hooks.example.com", True),
        ("https://hooks.example.com/other", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/ab", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/../b", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/%252e%252e/b", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/..%5cb", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/x%255c..%255cb", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/..;/b", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/x;y", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/..%00/b", "https://hooks.example.com/a", False),
        ("https://hooks.example.com/a/b..c", "https://hooks.example.com/a", True),
        ("https://hooks.example.com.evil.org/a", "https://hooks.example.com", False),
        ("https://hooks.example.com@evil.org/a", "https://hooks.example.com", False),
        ("https://user@hooks.example.com/a", "https://hooks.example.com", False),
        ("https://hooks.example.com:8443/a", "https://hooks.example.com", False),
        ("http://hooks.example.com/a", "https://hooks.example.com", False),
        ("https://hooks.example.com\\@evil.org/a", "https://hooks.example.com", False),
        ("https://hooks.example.com:port/a", "https://hooks.example.com", False),
        ("http://169.254.169.254/latest", "https://hooks.example.com", False),
        ("file:///etc/passwd", "file:///etc", False),
    ],
)
def test_an_address_is_allowed_by_scheme_host_port_and_path(url: str, prefix: str, allowed: bool) -> None:
    assert is_below(url, prefix) is allowed


def test_without_prefixes_no_job_has_a_webhook_of_its_own() -> None:
    check_webhook(None, ())
    with pytest.raises(InputError, match="does not allow") as raised:
        check_webhook("https://hooks.example.com/", ())
    assert "STEERZO_WEBHOOK_PREFIXES" in raised.value.hint


def test_a_server_reports_a_job_to_both_addresses(receiver: Receiver, tmp_path: Path, tiny_path: Path) -> None:
    own = receiver.url.replace("/hook/", "/own/")
    settings = {"WEBHOOK": receiver.url, "WEBHOOK_SECRET": SECRET, "WEBHOOK_PREFIXES": own}
    rows = [{"text": f"good {index}", "label": ("ok", "no")[index % 2]} for index in range(24)]
    body = {"dataset": rows, "profile": PROFILE, "task": TASK, "overrides": {"steps": 2}}
    with ServerProcess(tiny_path, tmp_path / "data", **settings) as process:
        client = process.start()
        refused = client.http.post("/jobs", json={**body, "webhook": receiver.url})
        assert refused.status_code == 422, refused.text
        tracked = {**body, "overrides": {"steps": 2, "trackers": [{"kind": "mlflow"}]}}
        refused = client.http.post("/jobs", json=tracked)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "kind")
        job = client.post("/jobs", {**body, "webhook": own})["id"]
        done = finished(client, job)
        wait_for(lambda: len(receiver.received) == 2)
        assert process.stop() == 0
    assert {path for path, _, _ in receiver.received} == {"/hook/secret-path", "/own/secret-path"}
    said = json.loads(receiver.received[0][2])["data"]
    assert (said["job"], said["state"], said["adapter"]) == (job, "succeeded", done["adapter"])
    assert said["metrics"]["loss"] == done["metrics"]["loss"]
