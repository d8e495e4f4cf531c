"""Models: the base, the adapters that jobs have made on it, and uploaded adapters.

ft:<base>:<suffix or job name>:<job id>    a job's adapter; requests may also give the job's id or name
ft:<base>:<name>:<adapter id>              an uploaded adapter; requests may also give its id or name
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
    """A name that is neither the base's nor an adapter's."""

    code = "model-not-found"
    hint = "GET /v1/models lists them."


@router.get("/models")
@router.get("/models/", include_in_schema=False)
def list_models(server: Server) -> Page[ModelObject]:
    """The base, and every adapter on it, newest first."""
    jobs = {job.id: job for job in server.job_table.rows()}
    usable = [row for row in server.adapters.table.rows() if row.facts["base"] == server.settings.model.id]
    named = [NamedAdapter(None if row.job is None else jobs.get(row.job), row) for row in usable]
    return Page(data=[_base(server), *map(_model_object, named)])


@router.get("/models/{model:path}")
def show_model(model: str, server: Server) -> ModelObject:
    """One model."""
    named = named_model(server, model)
    return _base(server) if named is None else _model_object(named)


@router.delete("/models/{model:path}")
def delete_model(model: str, server: Server) -> None:
    """Always refused: the error says how to delete an adapter."""
    named = named_model(server, model)
    if named is None:
        raise UnsupportedError("model", model, "the base cannot be deleted")
    id = named.id if named.adapter is None else named.adapter.id
    raise UnsupportedError("model", model, f"adapters are deleted with DELETE /adapters/{id}")


def model_name(job: JobRow) -> str:
    """The `model` name of a job's adapter."""
    suffix = (job.spec.get("openai") or {}).get("suffix")
    return _name(job.spec["profile"]["model"]["id"], suffix or job.name, job.id)


def is_base(server: Context, model: str) -> bool:
    """Whether a name is the base's."""
    return model in (BASE, server.settings.model.id)


def named_model(server: Context, model: str) -> NamedAdapter | None:
    """The job or adapter with a model name; None for the base.

    Raises:
        ModelNotFoundError: If there is none.
    """
    if is_base(server, model):
        return None
    try:
        named = server.adapters.names.find(model.rpartition(":")[2])
    except NotFoundError:
        raise ModelNotFoundError(f"there is no model {model!r}") from None
    if model != LATEST and model not in _names(named):
        raise ModelNotFoundError(f"there is no model {model!r}; the model of {named.id} is {_names(named)[-1]!r}")
    return named


def adapter_of(server: Context, model: str) -> str | None:
    """The id of the job or the adapter with a model name; None for the base.

    Raises:
        ModelNotFoundError: If there is none.
    """
    named = named_model(server, model)
    return None if named is None else named.id


def _names(named: NamedAdapter) -> tuple[str, ...]:
    """All names of a model; the last is the one in the list of models."""
    if named.job is not None:
        return named.job.id, named.job.name, model_name(named.job)
    row = named.adapter
    assert row is not None
    # A job's adapter is listed under the job's name, but can also be requested by its own id or name.
    return row.id, row.name, *((_uploaded_name(row),) if row.job is None else ())


def _uploaded_name(row: AdapterRow) -> str:
    return _name(row.facts["base"], row.name, row.id)


def _name(base: str, name: str, id: str) -> str:
    return f"ft:{PurePosixPath(base).name}:{name}:{id}"


def _base(server: Context) -> ModelObject:
    return ModelObject(id=server.settings.model.id, created=0, owned_by="steerzo-edge")


def _model_object(named: NamedAdapter) -> ModelObject:
    made = named.adapter or named.job
    assert made is not None
    created = made.created if named.job is None else named.job.created
    return ModelObject(id=_names(named)[-1], created=int(created), owned_by="user")
