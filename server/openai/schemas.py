"""The answers of the routes under /v1: OpenAI's objects, as far as they apply to this server."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from server.services.logprobs import ChatLogprobs, TextLogprobs
from steerzo_edge.config import Config

T = TypeVar("T")
Auto = Literal["auto"]
Level = Literal["info", "warn", "error"]


class ErrorDetails(Config):
    """The error's details."""

    message: str = Field(description="What is wrong, and what to do next.")
    type: str = Field(description='A coarse kind, such as "invalid_request_error".')
    param: str | None = Field(description="The parameter that caused it.")
    code: str = Field(description="For programs; stable.")


class ErrorBody(Config):
    """The body of every answer with a status of 400 or above."""

    error: ErrorDetails


class Page(Config, Generic[T]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None = Field(None, description="Id of the first item.")
    last_id: str | None = Field(None, description="Id of the last item: the `after` of the next page.")
    has_more: bool = Field(False, description="Whether there is a next page.")


class ModelObject(Config):
    """The base, or an adapter on it."""

    id: str = Field(description="The `model` of requests.")
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since the epoch; 0 for the base.")
    owned_by: str


class FileObject(Config):
    """A dataset."""

    id: str = Field(description="The same as under /datasets.")
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Seconds since the epoch.")
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["processed"] = Field("processed", description="Rows are checked before a file is stored.")
    expires_at: None = None
    status_details: None = None
    ignored: dict[str, int] = Field(description="Fields of the rows that are not used, and in how many rows.")
    warnings: list[str] = Field(description="Sentences on rows that are probably mistakes.")


class FileDeleted(Config):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class Hyperparameters(Config):
    """Hyperparameters as requested."""

    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"


class Supervised(Config):
    """The only method of this server."""

    hyperparameters: Hyperparameters


class MethodObject(Config):
    """The method of a job."""

    type: Literal["supervised"] = "supervised"
    supervised: Supervised


class JobError(Config):
    """Why a job failed."""

    code: str
    message: str
    param: None = None


class JobObject(Config):
    """A fine-tuning job; GET /jobs/{id} shows more of it."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="Seconds since the epoch.")
    finished_at: int | None
    estimated_finish: int | None
    model: str = Field(description="The base.")
    fine_tuned_model: str | None = Field(
        description="The `model` for chat and completions, once the adapter is stored."
    )
    organization_id: str = "local"
    status: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    training_file: str
    validation_file: str | None
    result_files: list[str] = Field(default_factory=list)
    seed: int
    hyperparameters: Hyperparameters
    method: MethodObject
    trained_tokens: int | None = Field(description="Tokens put through the model; null until the job has ended.")
    integrations: None = None
    metadata: dict[str, str] | None
    error: JobError | None


class EventObject(Config):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int = Field(description="Seconds since the epoch.")
    level: Level
    type: Literal["message", "metrics"]
    message: str
    data: dict[str, Any] | None = Field(description="Its values; steps count from 0.")


class CheckpointMetrics(Config):
    """The losses of a checkpoint."""

    step: int
    train_loss: float | None = None
    full_valid_loss: float | None = None


class CheckpointObject(Config):
    """A checkpoint that can be used as a model."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int = Field(description="Seconds since the epoch.")
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int = Field(description="Number of finished steps.")
    metrics: CheckpointMetrics


class TokenUsage(Config):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionChoice(Config):
    """An answer to a text."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: TextLogprobs | None = None


class TextCompletion(Config):
    """Answers to texts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage


class FunctionCall(Config):
    """A function, and what it is called with."""

    name: str
    arguments: str = Field(description="A JSON object, as text.")


class ToolCall(Config):
    """A call of a function."""

    id: str = Field(description="The `tool_call_id` of the message with its result.")
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Config):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str | None = Field(description="The text; null if there are calls only.")
    refusal: None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Config):
    """An answer to a conversation."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Config):
    """The answer to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
