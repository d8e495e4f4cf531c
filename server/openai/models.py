"""Models: the base, and the adapters that jobs have made on it or that were uploaded.

ft:<base>:<suffix or job name>:<job id>    what /v1/models lists; a job's id or name will do as well
ft:<base>:<name>:<adapter id>              the same for uploaded ones
"""

from pathlib import PurePosixPath

from fastapi import APIRouter

from server.dependencies import Server
from server.openai.schemas import ModelObject, Page
from server.openai_errors import UnsupportedError
from server.services.context import Context
from server.store.adapter_names import LATEST, NamedAdapter
from server.store.adapters import AdapterRow
from server.store.rows import JobRow
from steerzo_edge.errors import NotFoundError

router = APIRouter()
BASE = "base"


class ModelNotFoundError(NotFoundError):
    """A model that is neither the base nor an adapter's."""

    code = "model-not-found"
    hint = "GET /v1/models lists them."


@router.get("/models")
def list_models(server: Server) -> Page[ModelObject]:
    """The base, and every adapter on it, newest first."""
    jobs = {job.id: job for job in server.job_table.rows()}
    usable = [row for row in server.adapters.table.rows() if row.facts["base"] == server.settings.model.id]
    named = [NamedAdapter(None if row.job is None else jobs.get(row.job), row) for row in usable]
    return Page(data=[_base(server), *map(_shown, named)])


@router.get("/models/{model:path}")
def show_model(model: str, server: Server) -> ModelObject:
    """One model."""
    named = named_model(server, model)
    return _base(server) if named is None else _shown(named)


@router.delete("/models/{model:path}")
def delete_model(model: str, server: Server) -> None:
    """Always refused, in words."""
    named = named_model(server, model)
    if named is None:
        raise UnsupportedError("model", model, "the base belongs to the server, not to its clients")
    id = named.id if named.adapter is None else named.adapter.id
    raise UnsupportedError("model", model, f"an adapter is not deleted from here: DELETE /adapters/{id}")


def model_name(job: JobRow) -> str:
    """What requests may name as `model` to have a job's adapter answer."""
    suffix = (job.spec.get("openai") or {}).get("suffix")
    return _name(job.spec["profile"]["model"]["id"], suffix or job.name, job.id)


def is_base(server: Context, model: str) -> bool:
    """Whether a name means the base."""
    return model in (BASE, server.settings.model.id)


def named_model(server: Context, model: str) -> NamedAdapter | None:
    """What a name means; None for the base.

    Raises:
        ModelNotFoundError: If it means nothing.
    """
    if is_base(server, model):
        return None
    try:
        named = server.adapters.names.find(model.rpartition(":")[2])
    except NotFoundError:
        raise ModelNotFoundError(f"there is no model {model!r}") from None
    if model != LATEST and model not in _names(named):
        raise ModelNotFoundError(f"there is no model {model!r}; the one of {named.id} is {_names(named)[-1]!r}")
    return named


def adapter_of(server: Context, model: str) -> str | None:
    """The id of the job or the adapter that a name means; None for the base.

    Raises:
        ModelNotFoundError: If it means nothing.
    """
    named = named_model(server, model)
    return None if named is None else named.id


def _names(named: NamedAdapter) -> tuple[str, ...]:
    """All that it answers to, the name that is listed last."""
    if named.job is not None:
        return named.job.id, named.job.name, model_name(named.job)
    row = named.adapter
    assert row is not None
    # The adapter of a job is listed under the job; by an id or a name of its own it can be named all the same.
    return row.id, row.name, *((_uploaded_name(row),) if row.job is None else ())


def _uploaded_name(row: AdapterRow) -> str:
    return _name(row.facts["base"], row.name, row.id)


def _name(base: str, name: str, id: str) -> str:
    return f"ft:{PurePosixPath(base).name}:{name}:{id}"


def _base(server: Context) -> ModelObject:
    return ModelObject(id=server.settings.model.id, created=0, owned_by="steerzo-edge")


def _shown(named: NamedAdapter) -> ModelObject:
    made = named.adapter or named.job
    assert made is not None
    created = made.created if named.job is None else named.job.created
    return ModelObject(id=_names(named)[-1], created=int(created), owned_by="user")
