"""The shapes of answers, for the API's description. Answers may gain fields; those listed here stay."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.services.logprobs import TokenLogprobs
from server.store.states import State


class Reply(BaseModel):
    """A JSON object with at least these fields."""

    model_config = ConfigDict(extra="allow")


class FaultReply(Reply):
    """One thing wrong in one place of an input."""

    where: str = Field(description='A line ("line 12") or a path of keys ("method.epsilon").')
    field: str = Field(description="The field or key concerned, empty for the whole line.")
    found: str = Field(description="The value found there.")
    fix: str = Field(description="What to write instead.")


class Problem(Reply):
    """An error, as an RFC 9457 problem document."""

    type: str = Field(description="A URN made from the code.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, with the offending value and its place.")
    code: str = Field(description="For programs; stable.")
    hint: str = Field(description="What to do next.")
    errors: list[FaultReply] = Field(default_factory=list, description="Every fault of an input.")


class OpenAIErrorBody(Reply):
    """The error's details."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(Reply):
    """An error, in the form of OpenAI's API."""

    error: OpenAIErrorBody


class Alive(BaseModel):
    """The process is running."""

    status: Literal["alive"]
    version: str


class Ready(BaseModel):
    """The server is ready."""

    status: Literal["ready"]
    base: str = Field(description="Name of the base model.")
    quantization: str
    device: str
    context_length: int = Field(description="In tokens.")


class DeviceMemoryReply(BaseModel):
    """Bytes of the device's memory; on a CPU, of the machine's."""

    used: int = Field(description="By this process.")
    free: int
    total: int
    process: int = Field(description="Resident memory of this process, whatever the device.")


class SystemReply(Reply):
    """The state of the server and of the machine it runs on."""

    version: str
    versions: dict[str, str]
    started: float = Field(description="Seconds since the epoch.")
    objection: dict[str, str] | None = Field(description="Why it is not ready; null if it is.")
    base: dict[str, Any] | None = Field(description="Null while it is being loaded.")
    device: dict[str, Any]
    memory: DeviceMemoryReply
    disk: dict[str, int | None]
    queue: dict[str, Any]
    limits: dict[str, int]


class ExampleReply(BaseModel):
    """An example dataset."""

    name: str
    about: str
    lines: str = Field(description="JSON lines.")
    task: dict[str, Any] = Field(description="For POST /jobs.")


class TokensReply(Reply):
    """Lengths of a dataset's rows, in tokens."""

    total: int
    mean: float
    longest: int


class DatasetReply(Reply):
    """A dataset."""

    id: str
    name: str
    created: float = Field(description="Seconds since the epoch.")
    rows: int
    format: str
    bytes: int
    truncated: int | None = Field(None, description="Rows that are cut to the context length.")
    tokens: TokensReply | None = None
    ignored: dict[str, int] | None = Field(None, description="Fields that are not used, and in how many rows.")


class DatasetsReply(Reply):
    """All datasets, newest first."""

    datasets: list[DatasetReply]


class PreviewReply(Reply):
    """The first rows of a dataset, as the model will see them."""

    id: str
    format: str
    max_tokens: int
    rows: list[dict[str, Any]]


class FieldChoicesReply(Reply):
    """The fields of a file, and its first rows as they would be trained on."""

    columns: list[str] = Field(description="Fields of its first rows.")
    formats: dict[str, list[str]] = Field(description="The fields that each format needs.")
    format: str | None
    rows: list[dict[str, Any]]
    problem: str | None = Field(description="Why there are no rows.")


class JobReply(Reply):
    """A job."""

    id: str
    name: str
    state: State
    created: float = Field(description="Seconds since the epoch.")
    dataset: str
    validation: str | None
    step: int = Field(description="Finished steps.")
    steps: int = Field(description="Steps of the whole job.")
    loss: float | None = Field(description="Of the last step, nats per target token.")
    forwards: int = Field(description="Forward passes so far.")
    seconds_left: float | None = Field(description="At the rate of its last steps.")
    phase: str | None = Field(None, description="What a running job is doing, in words.")
    metrics: dict[str, Any]
    before: dict[str, Any] | None
    adapter: dict[str, Any] | None
    requested: Literal["pause", "cancel"] | None = Field(
        None, description="The action requested for the end of its present step."
    )
    waiting_for: str | None
    error: Problem | None
    profile: dict[str, Any]
    seed: int
    task: dict[str, Any] | None
    sweep: str | None = Field(None, description="The sweep that it is part of.")


class JobsReply(Reply):
    """All jobs, newest first."""

    jobs: list[JobReply]


class SeriesReply(Reply):
    """The recorded series of a job."""

    job: str
    steps: list[dict[str, Any]]
    evals: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    log: list[dict[str, Any]] = Field(description="States, messages and decisions, each with its time.")


class AdapterReply(Reply):
    """An adapter."""

    id: str
    name: str
    source: Literal["job", "upload"]
    job: str | None = Field(description="The job that made it.")
    created: float = Field(description="Seconds since the epoch.")
    sha256: str = Field(description="Of its weights file.")
    loaded: bool = Field(description="Whether it is in memory.")
    base: str = Field(description="The base it was trained on, or checked against.")
    rank: int | None = None


class AdaptersReply(Reply):
    """All adapters, newest first."""

    adapters: list[AdapterReply]


class UsageReply(Reply):
    """Tokens of a prompt and its answer."""

    prompt_tokens: int
    completion_tokens: int


class GenerationReply(Reply):
    """An answer."""

    text: str
    adapter: str | None = Field(description="The job or adapter that answered; null is the base alone.")
    finish_reason: Literal["stop", "length", "cancelled", "timeout"]
    usage: UsageReply
    logprobs: list[TokenLogprobs] | None = Field(None, description="Of the text's tokens; only if requested.")


class ProfilesReply(Reply):
    """Every profile that ships with the package."""

    profiles: list[dict[str, Any]]


class MethodReply(Reply):
    """A method of estimating the gradient, as `method.kind` of a profile names it."""

    kind: str
    name: str = Field(description="Its name, for people.")
    about: str = Field(description="What a step does.")
    automatic_rate: str = Field(description="What `rule.learning_rate: auto` means with it, in words.")
    settings: dict[str, Any] = Field(description="Every setting of the method with its default.")
    forwards: int = Field(description="Forward passes a step, with the default settings.")
    forwards_per_candidate: int = Field(
        description="Forward passes that one more candidate (`method.pool`) adds to a step; 0 without a pool."
    )


class MethodsReply(Reply):
    """Every method."""

    methods: list[MethodReply]


def binary(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The description of a route that answers with a file."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}
