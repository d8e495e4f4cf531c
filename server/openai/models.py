"""Models: the base, and the adapters that jobs have made on it.

ft:<base>:<suffix or job name>:<job id>    what /v1/models lists; a job's id or name will do as well
"""

from pathlib import PurePosixPath

from fastapi import APIRouter

from server.context import Context, Server
from server.jobs.rows import JobRow
from server.openai.errors import UnsupportedError
from server.openai.schemas import ModelObject, Page
from steerzo_edge.errors import NotFoundError

router = APIRouter()
BASE = "base"


class ModelNotFoundError(NotFoundError):
    """A model that is neither the base nor a job's."""

    code = "model-not-found"
    hint = "GET /v1/models lists them."


@router.get("/models")
def list_models(server: Server) -> Page[ModelObject]:
    """The base, and every adapter on it, newest first."""
    adapters = [_shown(job) for job in reversed(server.store.jobs()) if _is_usable(server, job)]
    return Page(data=[_base(server), *adapters])


@router.get("/models/{model:path}")
def show_model(model: str, server: Server) -> ModelObject:
    """One model."""
    job = job_of_model(server, model)
    return _base(server) if job is None else _shown(job)


@router.delete("/models/{model:path}")
def delete_model(model: str, server: Server) -> None:
    """Always refused, in words."""
    job = job_of_model(server, model)
    if job is None:
        raise UnsupportedError("model", model, "the base belongs to the server, not to its clients")
    raise UnsupportedError("model", model, f"an adapter goes with its job: DELETE /jobs/{job.id}")


def model_name(job: JobRow) -> str:
    """What requests may name as `model` to have a job's adapter answer."""
    suffix = (job.spec.get("openai") or {}).get("suffix")
    base = PurePosixPath(job.spec["profile"]["model"]["id"]).name
    return f"ft:{base}:{suffix or job.name}:{job.id}"


def is_base(server: Context, model: str) -> bool:
    """Whether a name means the base."""
    return model in (BASE, server.settings.model.id)


def job_of_model(server: Context, model: str) -> JobRow | None:
    """The job whose adapter a name means; None for the base.

    Raises:
        ModelNotFoundError: If it means nothing.
    """
    if is_base(server, model):
        return None
    try:
        job = server.store.job(model.rpartition(":")[2])
    except NotFoundError:
        raise ModelNotFoundError(f"there is no model {model!r}") from None
    if model not in (job.id, job.name, model_name(job)):
        raise ModelNotFoundError(f"there is no model {model!r}; the one of {job.id} is {model_name(job)!r}")
    return job


def adapter_of(server: Context, model: str) -> str | None:
    """The id of the job whose adapter a name means; None for the base.

    Raises:
        ModelNotFoundError: If it means nothing.
    """
    job = job_of_model(server, model)
    return None if job is None else job.id


def _is_usable(server: Context, job: JobRow) -> bool:
    return job.result is not None and job.spec["profile"]["model"]["id"] == server.settings.model.id


def _base(server: Context) -> ModelObject:
    return ModelObject(id=server.settings.model.id, created=0, owned_by="steerzo-edge")


def _shown(job: JobRow) -> ModelObject:
    return ModelObject(id=model_name(job), created=int(job.created), owned_by="user")
