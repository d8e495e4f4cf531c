"""What OpenAI's clients ask of a fine-tuning job, in our own terms.

n_epochs                   steps = epochs * rows that are trained on / rows a step
batch_size                 batch.examples
learning_rate_multiplier   times rule.learning_rate, given or found ("0.5 * auto")
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
from server.schemas import JobBody, Reference
from server.services.context import Context
from server.services.jobs import profile_of
from steerzo_edge.config import Config
from steerzo_edge.data.task import Task
from steerzo_edge.run_data import held_out
from steerzo_edge.settings.profile import Profile, profile_names
from steerzo_edge.settings.sections import peak_rate

CPU_PROFILE = "cpu-demo"
JETSON_PROFILE = "jetson-orin-8gb"
# A card sold as 8 GB shows the system a little less.
NEARLY = 0.94


class HyperparametersBody(Config):
    """The three that OpenAI's supervised jobs have; "auto" leaves each to the profile."""

    n_epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto | None = Field(
        None, description="Times that each row is trained on."
    )
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto | None = Field(None, description="Rows a step.")
    learning_rate_multiplier: Annotated[float, Field(gt=0, lt=1000)] | Auto | None = Field(
        None, description="Times the profile's rate, given or found."
    )


class SupervisedBody(Config):
    """Learning from examples."""

    hyperparameters: HyperparametersBody | None = None


def _only_supervised(kind: Any) -> Any:
    if kind in ("dpo", "reinforcement"):
        raise PydanticCustomError("method", "only supervised jobs can be made; rows hold what should be answered")
    return kind


class MethodBody(Config):
    """How to tune."""

    type: Annotated[Literal["supervised"], BeforeValidator(_only_supervised)]
    supervised: SupervisedBody | None = None
    dpo: Annotated[None, refused("only supervised jobs can be made")] = None
    reinforcement: Annotated[None, refused("only supervised jobs can be made")] = None


class TuningBody(Config):
    """A fine-tuning job as the `openai` client asks for it."""

    model: ModelName
    training_file: Reference = Field(description="The id of a file; of a dataset, that is.")
    validation_file: Reference | None = Field(None, description="Rows to be judged by.")
    method: MethodBody | None = None
    hyperparameters: HyperparametersBody | None = Field(None, description="The older place for them.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Of everything random; 0 by default.")
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,63}$")] | None = Field(
        None, description="Part of the job's and the model's name."
    )
    metadata: Metadata | None = Field(None, description="Kept, and returned.")
    integrations: Annotated[None, refused("nothing leaves this machine: there are no integrations", [])] = None
    profile: Reference | dict[str, Any] | None = Field(
        None, description="Ours: a profile's name, or a whole profile; by default one that suits the device."
    )
    overrides: dict[str, Any] = Field(default_factory=dict, description="Ours: settings of it to change.")
    task: Task | None = Field(None, description="Ours: how labelled rows are put to the model.")

    @property
    def asked(self) -> Hyperparameters:
        """The hyperparameters, from whichever place they are in.

        Raises:
            UnsupportedError: If both places are used.
        """
        modern = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        if modern is not None and self.hyperparameters is not None:
            raise UnsupportedError(
                "hyperparameters",
                self.hyperparameters.model_dump(exclude_none=True),
                "they are in method.supervised.hyperparameters as well; write them in one place",
            )
        found = modern or self.hyperparameters or HyperparametersBody()
        return Hyperparameters(**found.model_dump(exclude_none=True))


def job_body(server: Context, body: TuningBody, idempotency_key: str | None) -> JobBody:
    """The job in our own terms.

    Args:
        server: The server's parts.
        body: What is asked for.
        idempotency_key: The same request with the same key must give the same body, name and all.

    Raises:
        UnsupportedError: If something of it cannot be done.
        InputError: If the profile cannot be used.
        NotFoundError: If there is no such file or profile.
    """
    if not is_base(server, body.model):
        base = server.settings.model.id
        raise UnsupportedError("model", body.model, f"this server holds {base!r}; adapters start from the base")
    job = JobBody(
        dataset=body.training_file,
        validation=body.validation_file,
        profile=body.profile or _profile_of_the_device(server.device.base.device),
        overrides=body.overrides,
        task=body.task,
        name=None if body.suffix is None else _name(body.suffix, idempotency_key),
        seed=body.seed or 0,
    )
    changes = _changes(server, job, body.asked)
    return job.model_copy(update={"overrides": {**body.overrides, **changes}})


def extras(body: TuningBody) -> dict[str, Any]:
    """What only OpenAI's clients know of a job, to be given back to them."""
    asked = body.asked.model_dump()
    return {"suffix": body.suffix, "metadata": body.metadata, "hyperparameters": asked}


def suitable_profile(memory_bytes: int | None, *, integrated: bool = False) -> str:
    """The profile for a device.

    Args:
        memory_bytes: Of the card, all of it; None for a CPU.
        integrated: Whether it shares the machine's memory.
    """
    if memory_bytes is None:
        return CPU_PROFILE
    if integrated:
        return JETSON_PROFILE
    sizes = {int(name[4:-2]): name for name in profile_names() if name.startswith("gpu-")}
    fitting = [size for size in sizes if size * 2**30 * NEARLY <= memory_bytes]
    return sizes[max(fitting, default=min(sizes))]


def _profile_of_the_device(device: torch.device) -> str:
    if device.type != "cuda":
        return suitable_profile(None)
    properties = torch.cuda.get_device_properties(device)
    return suitable_profile(properties.total_memory, integrated=bool(properties.is_integrated))


def _name(suffix: str, idempotency_key: str | None) -> str:
    """Unique, as names of jobs must be; the same again for the same key."""
    mark = new_id("name") if idempotency_key is None else content_id("name", idempotency_key.encode())
    return f"{suffix}-{mark.removeprefix('name_')[:8]}"


def _changes(server: Context, job: JobBody, asked: Hyperparameters) -> dict[str, Any]:
    """The settings that the hyperparameters stand for."""
    changes: dict[str, Any] = {}
    profile = profile_of(server, job)
    if asked.batch_size != "auto":
        _refuse_both(job.overrides, "batch.examples", "batch_size", asked.batch_size)
        changes["batch.examples"] = asked.batch_size
    if asked.n_epochs != "auto":
        _refuse_both(job.overrides, "steps", "n_epochs", asked.n_epochs)
        examples = changes.get("batch.examples", profile.batch.examples)
        changes["steps"] = math.ceil(_trained_rows(server, job, profile) * asked.n_epochs / examples)
    if asked.learning_rate_multiplier != "auto":
        rate, factor = peak_rate(profile.rule.learning_rate)
        product = asked.learning_rate_multiplier * (factor if rate is None else rate)
        # Nine places, for the setting has no exponents.
        changes["rule.learning_rate"] = f"{product:.9f} * auto" if rate is None else product
    return changes


def _refuse_both(overrides: Mapping[str, Any], setting: str, param: str, value: Any) -> None:
    """A number that is asked for twice could only be honoured once."""
    section, _, key = setting.partition(".")
    nested = overrides.get(section)
    if setting in overrides or (key and isinstance(nested, Mapping) and key in nested):
        raise UnsupportedError(f"hyperparameters.{param}", value, f"overrides set {setting} as well; write one")


def _trained_rows(server: Context, job: JobBody, profile: Profile) -> int:
    assert isinstance(job.dataset, str)
    rows = int(server.register.dataset(job.dataset).facts["rows"])
    return rows if job.validation is not None else rows - held_out(rows, profile)
