"""JSON bodies of requests, apart from those under /v1."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steerzo_edge.config import Config
from steerzo_edge.data.task import Task
from steerzo_edge.decoding.grammar import Form

# The length limit also makes pydantic reject half of a surrogate pair, which SQLite and tokenizers do not accept.
Reference = Annotated[str, Field(min_length=1, max_length=200)]
FieldMap = Annotated[str, Field(min_length=1, max_length=4000)]
FormText = Annotated[str, Field(min_length=1, max_length=1 << 18)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$")]


Penalty = Annotated[float, Field(ge=-2, le=2)]
LogitBias = Annotated[
    dict[Annotated[int, Field(ge=0, lt=1 << 31)], Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)
]


class NameBody(Config):
    """A new name."""

    name: Name = Field(description="Unique among jobs and adapters.")


class RowsBody(Config):
    """A dataset sent as JSON instead of a file."""

    rows: list[dict[str, Any]] = Field(min_length=1, max_length=100_000, description="One object per row.")
    name: Name | None = Field(None, description="Its name.")
    task: Reference | None = Field(None, description="The benchmark task whose released files have these fields.")
    format: Reference | None = Field(None, description="The format of the rows, if their fields fit several.")
    map: FieldMap | None = Field(None, description="Other names for fields: prompt=question,completion=answer.")


class BenchmarkRows(Config):
    """Rows of a benchmark task: an uploaded dataset, or a file under the operator's directory."""

    task: Reference = Field(description='The task: "rte", "squad", ...')
    dataset: Reference | None = Field(None, description="A dataset's id.")
    path: str | None = Field(
        None, min_length=1, max_length=1000, description="A file under the server's --tasks-dir."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "BenchmarkRows":
        if (self.dataset is None) == (self.path is None):
            raise ValueError("give either dataset or path")
        return self


Rows = Reference | list[dict[str, Any]] | BenchmarkRows


class JobBody(Config):
    """A fine-tuning job."""

    dataset: Rows = Field(description="A dataset's id, the rows themselves, or a benchmark task and its rows.")
    profile: Reference | dict[str, Any] = Field("cpu-demo", description="A profile's name, or a whole profile.")
    overrides: dict[str, Any] = Field(
        default_factory=dict, description='Settings to change: {"steps": 300} or {"method.pool": 4}.'
    )
    task: Task | None = Field(None, description="The prompt and options for labelled rows.")
    validation: Rows | None = Field(
        None, description="Validation rows; by default some of the dataset's rows are held out."
    )
    model: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="The base that the job needs; refused if another is loaded.",
    )
    name: Name | None = Field(None, description="Name of the job and its adapter.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    webhook: str | None = Field(
        None,
        min_length=8,
        max_length=2000,
        description="Address to which the job's end is reported; only where the operator allows it.",
    )
    priority: int = Field(0, ge=-100, le=100, description="Higher ones run first; among equals, the older.")


class MessageBody(Config):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class GenerateBody(Config):
    """A prompt or a conversation to answer."""

    prompt: str | None = Field(None, min_length=1, description="Text to continue.")
    messages: list[MessageBody] | None = Field(None, min_length=1, description="Turns of a conversation.")
    adapter: Reference | None = Field(
        None,
        description='Id or name of an adapter or a job, or "latest" for the job that ran last; null is the base.',
    )
    max_new_tokens: int = Field(128, ge=1, le=4096)
    temperature: float = Field(0.0, ge=0, le=10, description="0 always takes the likeliest token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="Number of likeliest tokens to choose from; 0 keeps all.")
    min_p: float = Field(
        0.0, ge=0, le=1, description="Choose from tokens at least so many times as likely as the likeliest."
    )
    frequency_penalty: Penalty = Field(
        0.0, description="Lowers a token's logit for each time that the answer has it."
    )
    presence_penalty: Penalty = Field(0.0, description="Lowers the logits of tokens that the answer has.")
    logit_bias: LogitBias = Field(
        default_factory=dict, description="What is added to the logits of tokens, by their ids."
    )
    json_schema: dict[str, Any] | None = Field(None, description="A JSON schema that the answer must have.")
    regex: FormText | None = Field(None, description="A regular expression that the whole answer must match.")
    grammar: FormText | None = Field(None, description="A grammar, in Lark's syntax, that the answer must have.")
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=8)
    seed: int = Field(0, ge=0, lt=2**63)
    logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Return each token's log-probability, and those of so many of the likeliest tokens.",
    )
    stream: bool = Field(False, description="Server-sent events: token, token, ..., done.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "GenerateBody":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send either prompt or messages")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> "GenerateBody":
        if sum(one is not None for one in (self.json_schema, self.regex, self.grammar)) > 1:
            raise ValueError("send one of json_schema, regex and grammar")
        return self

    @property
    def form(self) -> tuple[str, Form] | None:
        """The form that the answer must have, and the field that it is from."""
        if self.json_schema is not None:
            return "json_schema", Form("json-schema", json.dumps(self.json_schema))
        if self.regex is not None:
            return "regex", Form("regex", self.regex)
        return None if self.grammar is None else ("grammar", Form("grammar", self.grammar))
