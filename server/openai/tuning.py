"""Translates a fine-tuning request of OpenAI's API into a job of this server.

n_epochs                   steps = epochs * training rows / rows per step
batch_size                 batch.examples
learning_rate_multiplier   multiplies rule.learning_rate, also if that is "auto" ("0.5 * auto")
suffix                     the beginning of the job's name
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from server.ids import content_id, new_id
from server.openai.models import is_base
from server.openai.parameters import Metadata, ModelName, refused
from server.openai.schemas import Auto, Hyperparameters
from server.openai_errors import UnsupportedError
from server.services.context import Context
from server.services.jobs import profile_of
from server.services.request_bodies import JobBody, Reference
from steerzo_edge.config import Config
from steerzo_edge.data.task import Task
from steerzo_edge.run_data import held_out
from steerzo_edge.settings.profile import Profile, profile_names
from steerzo_edge.training.rates import peak_rate

CPU_PROFILE = "cpu-demo"
JETSON_PROFILE = "jetson-orin-8gb"
# A card sold as 8 GB reports a little less; it fits a profile for 8 GB if it reports at least this share of it.
REPORTED_SHARE = 0.94


class HyperparametersBody(Config):
    """The hyperparameters of OpenAI's supervised jobs; "auto" leaves one to the profile."""

    n_epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto | None = Field(
        None, description="How many times each row is trained on."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto | None = Field(None, description="Rows per step.")
    learning_rate_multiplier: Annotated[float, Field(gt=0, lt=1000)] | Auto | None = Field(
        None, description="Factor of the profile's learning rate."
    )


class SupervisedBody(Config):
    """The supervised method."""

    hyperparameters: HyperparametersBody | None = None


def _only_supervised(kind: Any) -> Any:
    if kind in ("dpo", "reinforcement"):
        raise PydanticCustomError("method", "only supervised jobs are supported; rows contain the correct answers")
    return kind


class MethodBody(Config):
    """The method of a job."""

    type: Annotated[Literal["supervised"], BeforeValidator(_only_supervised)]
    supervised: SupervisedBody | None = None
    dpo: Annotated[None, refused("only supervised jobs are supported")] = None
    reinforcement: Annotated[None, refused("only supervised jobs are supported")] = None


class TuningBody(Config):
    """A fine-tuning job as the `openai` client requests it."""

    model: ModelName
    training_file: Reference = Field(description="The id of a file, which is a dataset.")
    validation_file: Reference | None = Field(None, description="The id of the validation rows.")
    method: MethodBody | None = None
    hyperparameters: HyperparametersBody | None = Field(None, description="The older place of the hyperparameters.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Seed of everything random; 0 by default.")
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,63}$")] | None = Field(
        None, description="Part of the job's and the model's name."
    )
    metadata: Metadata | None = Field(None, description="Stored and returned.")
    integrations: Annotated[None, refused("integrations are not supported: no data leaves this machine", [])] = None
    profile: Reference | dict[str, Any] | None = Field(
        None,
        description="This server's own: a profile's name, or a whole profile; by default one that fits the device.",
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="This server's own: settings of the profile to change."
    )
    task: Task | None = Field(None, description="This server's own: the prompt and options for labelled rows.")

    @property
    def requested(self) -> Hyperparameters:
        """The hyperparameters, from `method` or from the older place.

        Raises:
            UnsupportedError: If both are used.
        """
        modern = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        if modern is not None and self.hyperparameters is not None:
            raise UnsupportedError(
                "hyperparameters",
                self.hyperparameters.model_dump(exclude_none=True),
                "method.supervised.hyperparameters is set too; give hyperparameters in one place only",
            )
        found = modern or self.hyperparameters or HyperparametersBody()
        return Hyperparameters(**found.model_dump(exclude_none=True))


def job_body(server: Context, body: TuningBody, idempotency_key: str | None) -> JobBody:
    """The body of POST /jobs for a request.

    Args:
        server: The server's parts.
        body: The request.
        idempotency_key: The same request with the same key must give the same body, including the job's name.

    Raises:
        UnsupportedError: If the request needs something that is not supported.
        InputError: If the profile cannot be used.
        NotFoundError: If there is no such file or profile.
    """
    if not is_base(server, body.model):
        base = server.settings.model.id
        raise UnsupportedError(
            "model", body.model, f"this server has loaded {base!r}; training starts from the base"
        )
    job = JobBody(
        dataset=body.training_file,
        validation=body.validation_file,
        profile=body.profile or _profile_of_the_device(server.device.base.device),
        overrides=body.overrides,
        task=body.task,
        name=None if body.suffix is None else _name(body.suffix, idempotency_key),
        seed=body.seed or 0,
    )
    changes = _changes(server, job, body.requested)
    return job.model_copy(update={"overrides": {**body.overrides, **changes}})


def extras(body: TuningBody) -> dict[str, Any]:
    """The fields of a request that only OpenAI's API has; stored with the job and returned."""
    requested = body.requested.model_dump()
    return {"suffix": body.suffix, "metadata": body.metadata, "hyperparameters": requested}


def suitable_profile(memory_bytes: int | None, *, integrated: bool = False) -> str:
    """The profile for a device.

    Args:
        memory_bytes: Total memory of the card; None for a CPU.
        integrated: Whether the card shares the machine's memory.
    """
    if memory_bytes is None:
        return CPU_PROFILE
    if integrated:
        return JETSON_PROFILE
    sizes = {int(name[4:-2]): name for name in profile_names() if name.startswith("gpu-")}
    fitting = [size for size in sizes if size * 2**30 * REPORTED_SHARE <= memory_bytes]
    return sizes[max(fitting, default=min(sizes))]


def _profile_of_the_device(device: torch.device) -> str:
    if device.type != "cuda":
        return suitable_profile(None)
    properties = torch.cuda.get_device_properties(device)
    return suitable_profile(properties.total_memory, integrated=bool(properties.is_integrated))


def _name(suffix: str, idempotency_key: str | None) -> str:
    """A unique name for the job; the same again for the same key."""
    mark = new_id("name") if idempotency_key is None else content_id("name", idempotency_key.encode())
    return f"{suffix}-{mark.removeprefix('name_')[:8]}"


def _changes(server: Context, job: JobBody, requested: Hyperparameters) -> dict[str, Any]:
    """The profile settings for the hyperparameters."""
    changes: dict[str, Any] = {}
    profile = profile_of(server, job)
    if requested.batch_size != "auto":
        _refuse_both(job.overrides, "batch.examples", "batch_size", requested.batch_size)
        changes["batch.examples"] = requested.batch_size
    if requested.n_epochs != "auto":
        _refuse_both(job.overrides, "steps", "n_epochs", requested.n_epochs)
        examples = changes.get("batch.examples", profile.batch.examples)
        changes["steps"] = math.ceil(_trained_rows(server, job, profile) * requested.n_epochs / examples)
    if requested.learning_rate_multiplier != "auto":
        rate, factor = peak_rate(profile.rule.learning_rate)
        product = requested.learning_rate_multiplier * (factor if rate is None else rate)
        # Nine decimals: the setting does not accept exponents.
        changes["rule.learning_rate"] = f"{product:.9f} * auto" if rate is None else product
    return changes


def _refuse_both(overrides: Mapping[str, Any], setting: str, param: str, value: Any) -> None:
    """Refuses a hyperparameter whose setting `overrides` sets too."""
    section, _, key = setting.partition(".")
    nested = overrides.get(section)
    if setting in overrides or (key and isinstance(nested, Mapping) and key in nested):
        raise UnsupportedError(f"hyperparameters.{param}", value, f"overrides set {setting} too; give one of them")


def _trained_rows(server: Context, job: JobBody, profile: Profile) -> int:
    assert isinstance(job.dataset, str)
    rows = int(server.dataset_table.get(job.dataset).facts["rows"])
    return rows if job.validation is not None else rows - held_out(rows, profile)
