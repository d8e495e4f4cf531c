"""The real `openai` client, unchanged, against a real server: jobs, models, and the script of the README."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI
from openai.types.fine_tuning import FineTuningJob

from server.commands.client import Client
from tests.server.openai_jobs import EXTRA, ROWS, job_when, refusal
from tests.server.process import ServerProcess

README = Path(__file__).parent.parent.parent / "README.md"


@pytest.fixture(scope="module")
def tuned(openai: OpenAI, base: str, file: str) -> FineTuningJob:
    """A job that has succeeded."""
    made = openai.fine_tuning.jobs.create(
        model=base,
        training_file=file,
        suffix="evens",
        seed=4,
        metadata={"why": "a test"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 3}}},
        extra_body=EXTRA,
    )
    assert made.status in ("queued", "running")
    assert made.fine_tuned_model is None
    done = job_when(openai, made.id, "succeeded", "failed")
    assert done.status == "succeeded", done.error
    return done


def test_a_job_is_what_was_asked_for(
    openai: OpenAI, client: Client, base: str, file: str, tuned: FineTuningJob
) -> None:
    assert (tuned.object, tuned.model, tuned.training_file, tuned.seed) == ("fine_tuning.job", base, file, 4)
    assert tuned.metadata == {"why": "a test"}
    assert (tuned.hyperparameters.n_epochs, tuned.hyperparameters.batch_size) == (2, 3)
    assert tuned.hyperparameters.learning_rate_multiplier == "auto"
    assert tuned.method is not None
    assert tuned.method.type == "supervised"
    assert tuned.finished_at is not None
    assert tuned.finished_at >= tuned.created_at
    assert tuned.trained_tokens
    own = client.get(f"/jobs/{tuned.id}")
    # 24 rows less a quarter held out, twice, three a step.
    assert (own["steps"], own["profile"]["batch"]["examples"]) == (12, 3)
    assert own["name"].startswith("evens-")
    assert tuned.fine_tuned_model == f"ft:{base.rpartition('/')[2]}:evens:{tuned.id}"


def test_the_multiplier_of_a_rate(openai: OpenAI, client: Client, base: str, file: str) -> None:
    def rate(profile_rate: Any, multiplier: Any) -> Any:
        made = openai.fine_tuning.jobs.create(
            model=base,
            training_file=file,
            hyperparameters={"learning_rate_multiplier": multiplier, "n_epochs": "auto"},
            extra_body={**EXTRA, "overrides": {"rule.learning_rate": profile_rate, "steps": 1}},
        )
        assert made.hyperparameters.learning_rate_multiplier == multiplier
        found = client.get(f"/jobs/{made.id}")["profile"]["rule"]["learning_rate"]
        openai.fine_tuning.jobs.cancel(made.id)
        return found

    assert rate(0.02, 0.5) == pytest.approx(0.01)
    assert rate(0.02, "auto") == 0.02
    assert rate("auto", 0.5) == "0.500000000 * auto"


def test_a_native_job_is_seen_and_the_other_way_round(
    openai: OpenAI, client: Client, base: str, job: dict[str, Any], tuned: FineTuningJob
) -> None:
    found = openai.fine_tuning.jobs.retrieve(job["id"])
    assert (found.training_file, found.metadata, found.status) == (job["dataset"], None, "succeeded")
    assert found.hyperparameters.n_epochs == "auto"
    assert found.fine_tuned_model == f"ft:{base.rpartition('/')[2]}:first:{job['id']}"
    assert tuned.id in [other["id"] for other in client.get("/jobs")["jobs"]]


def test_jobs_are_listed_in_pages(openai: OpenAI, job: dict[str, Any], tuned: FineTuningJob) -> None:
    whole = [found.id for found in openai.fine_tuning.jobs.list(limit=1000)]
    assert {job["id"], tuned.id} <= set(whole)
    page = openai.fine_tuning.jobs.list(limit=1)
    assert [found.id for found in page.data] == whole[:1]
    assert page.has_more is True
    assert [found.id for found in openai.fine_tuning.jobs.list(limit=2)] == whole
    assert [found.id for found in openai.fine_tuning.jobs.list(metadata={"why": "a test"})] == [tuned.id]
    with pytest.raises(NotFoundError):
        openai.fine_tuning.jobs.list(after="job_missing")


def test_events_come_newest_first_in_pages(openai: OpenAI, tuned: FineTuningJob) -> None:
    whole = list(openai.fine_tuning.jobs.list_events(tuned.id, limit=1000))
    assert [event.id for event in openai.fine_tuning.jobs.list_events(tuned.id, limit=5)] == [e.id for e in whole]
    assert whole[0].message == "The job has succeeded."
    assert whole[-1].message == "The job is waiting in the queue."
    found: list[Any] = [event.data or {} for event in whole[::-1] if event.type == "metrics"]
    assert [data["step"] for data in found if "train_loss" in data] == list(range(12))
    assert all(event.level == "info" and event.object == "fine_tuning.job.event" for event in whole)
    with pytest.raises(BadRequestError) as error:
        openai.fine_tuning.jobs.list_events(tuned.id, after="12")
    assert refusal(error)["param"] == "after"


def test_the_kept_version_is_a_checkpoint(openai: OpenAI, client: Client, tuned: FineTuningJob) -> None:
    (checkpoint,) = openai.fine_tuning.jobs.checkpoints.list(tuned.id)
    own = client.get(f"/jobs/{tuned.id}")
    assert checkpoint.step_number == own["adapter"]["step"]
    assert checkpoint.metrics.full_valid_loss == own["metrics"]["loss"]
    assert checkpoint.fine_tuned_model_checkpoint == tuned.fine_tuned_model
    assert list(openai.fine_tuning.jobs.checkpoints.list(tuned.id, after=checkpoint.id)) == []


def test_a_job_is_paused_resumed_and_cancelled(openai: OpenAI, base: str, file: str) -> None:
    extra = {**EXTRA, "overrides": {"steps": 100_000}}
    made = openai.fine_tuning.jobs.create(model=base, training_file=file, extra_body=extra)
    job_when(openai, made.id, "running")
    openai.fine_tuning.jobs.pause(made.id)
    paused = job_when(openai, made.id, "paused")
    assert paused.finished_at is None
    openai.fine_tuning.jobs.resume(made.id)
    job_when(openai, made.id, "running")
    openai.fine_tuning.jobs.cancel(made.id)
    done = job_when(openai, made.id, "cancelled")
    assert done.error is None
    with pytest.raises(ConflictError) as error:
        openai.fine_tuning.jobs.cancel(made.id)
    assert refusal(error)["type"] == "conflict_error"
    assert error.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(ConflictError):
        openai.fine_tuning.jobs.resume(made.id)


def test_an_idempotency_key_makes_one_job(openai: OpenAI, base: str, file: str) -> None:
    body: Any = {"model": base, "training_file": file, "suffix": "once", "extra_body": EXTRA}
    header = {"Idempotency-Key": "openai-1"}
    first, second = (openai.fine_tuning.jobs.create(**body, extra_headers=header) for _ in range(2))
    assert first.id == second.id
    with pytest.raises(ConflictError):
        openai.fine_tuning.jobs.create(**body, metadata={"another": "request"}, extra_headers=header)
    assert openai.fine_tuning.jobs.create(**body).id != first.id


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"model": "gpt-4o-mini"}, "model", "training starts from the base"),
        ({"method": {"type": "dpo"}}, "method.type", "only supervised"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method.type", "only supervised"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "no data leaves"),
        ({"suffix": "../../x"}, "suffix", "match"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than or equal to 1"),
        ({"hyperparameters": {"n_epoch": 3}}, "hyperparameters.n_epoch", "'n_epochs'"),
        (
            {
                "hyperparameters": {"n_epochs": 1},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
            },
            "hyperparameters",
            "in one place",
        ),
        (
            {"hyperparameters": {"n_epochs": 1}, "extra_body": {**EXTRA, "overrides": {"steps": 3}}},
            "hyperparameters.n_epochs",
            "overrides set steps",
        ),
        (
            {
                "hyperparameters": {"batch_size": 2},
                "extra_body": {**EXTRA, "overrides": {"batch": {"examples": 3}}},
            },
            "hyperparameters.batch_size",
            "overrides set batch.examples",
        ),
        ({"extra_body": {**EXTRA, "overrides": {"stpes": 3}}}, "stpes", "did you mean 'steps'"),
        ({"extra_body": {"profil": "cpu-demo"}}, "profil", "did you mean 'profile'"),
    ],
)
def test_jobs_that_cannot_be_made(
    openai: OpenAI, base: str, file: str, changes: dict[str, Any], param: str, says: str
) -> None:
    body: dict[str, Any] = {"model": base, "training_file": file, "extra_body": EXTRA, **changes}
    with pytest.raises(BadRequestError) as error:
        openai.fine_tuning.jobs.create(**body)
    found = refusal(error)
    assert found["param"] == param, found
    assert says in found["message"]


def test_what_does_not_exist(openai: OpenAI, base: str) -> None:
    for call in (
        lambda: openai.files.retrieve("ds_x"),
        lambda: openai.fine_tuning.jobs.retrieve("job_x"),
        lambda: openai.fine_tuning.jobs.list_events("job_x"),
        lambda: openai.fine_tuning.jobs.create(model=base, training_file="ds_x", extra_body=EXTRA),
        lambda: openai.models.retrieve("gpt-4o"),
        lambda: openai.embeddings.create(model="gpt-4o", input="x"),
    ):
        with pytest.raises(NotFoundError) as error:
            call()
        assert refusal(error)["type"] == "not_found_error"


def test_models_are_the_base_and_every_adapter(openai: OpenAI, base: str, tuned: FineTuningJob) -> None:
    assert tuned.fine_tuned_model is not None
    assert {base, tuned.fine_tuned_model} <= {model.id for model in openai.models.list()}
    assert openai.models.retrieve(tuned.fine_tuned_model).owned_by == "user"
    assert openai.models.retrieve(base).id == openai.models.retrieve("base").id == base
    for model in (base, tuned.fine_tuned_model):
        with pytest.raises(BadRequestError) as error:
            openai.models.delete(model)
        assert refusal(error)["param"] == "model"


def test_the_script_of_the_readme_runs(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = re.findall(r"```python server\n(.*?)```", README.read_text(), re.S)
    assert "http://127.0.0.1:8000" in script
    (tmp_path / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(script.replace("8000", str(server.port)), "README.md", "exec"), names)
    names["client"].close()
    assert names["job"].status == "succeeded", names["job"].error
    assert capsys.readouterr().out


def test_errors_outside_of_any_route(client: Client) -> None:
    def error(response: httpx.Response, status: int) -> dict[str, Any]:
        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"
        found: dict[str, Any] = response.json()["error"]
        assert found["message"]
        return found

    assert error(client.http.get("/v1/nowhere"), 404)["code"] == "not_found"
    assert error(client.http.put("/v1/files"), 405)["code"] == "method_not_allowed"
    assert error(client.http.post("/v1/chat/completions", json={"x": "y" * 300_000}), 413)["code"] == "too_large"
    bad = client.http.post("/v1/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert error(bad, 400)["type"] == "invalid_request_error"
    assert "application/problem+json" in client.http.get("/v2").headers["content-type"]
