"""The shape of an estimate, for the API's description."""

from typing import Literal

from pydantic import Field

from server.routes.replies import Reply


class NeedsReply(Reply):
    """Bytes by part."""

    total: int
    parts: dict[str, int] = Field(description="Bytes by the name of the part.")


class MemoryReply(NeedsReply):
    """Memory that a job needs, the base included; and that of other ways to train it."""

    lean: NeedsReply = Field(description="With one probe per forward and no cached prefix.")
    exact: NeedsReply = Field(description="Back-propagation with Adam, the same subset and batch.")
    checkpointed: NeedsReply = Field(description="The same with gradient checkpointing.")


class SpeedReply(Reply):
    """The source of the estimated seconds."""

    source: Literal["job", "layer"] = Field(
        description="layer: one decoder layer, measured when the base was loaded; job: corrected by an earlier job."
    )
    job: str | None = Field(description="The job whose steps gave the correction.")
    correction: float = Field(description="What the seconds were multiplied by.")


class EstimateRowsReply(Reply):
    """The rows of a job."""

    train: int
    validation: int
    truncated: int = Field(description="Rows that are cut to fit.")


class WayReply(Reply):
    """One way to run the job that is estimated."""

    method: str = Field(description="As `method.kind`.")
    memory: str = Field(description="As the setting `memory`.")
    bytes: int = Field(description="Of the whole process.")
    seconds: float = Field(description="Of a step.")
    fits: bool


class EstimateReply(Reply):
    """The estimate of a job."""

    base: str
    device: str
    rows: EstimateRowsReply
    memory: MemoryReply
    free: int = Field(description="Bytes available, including those of the loaded base.")
    fits: bool
    steps: int
    forwards: int = Field(description="Includes those of the search for a rate, but not those of evaluations.")
    evaluations: int
    tokens: int = Field(description="Tokens put through the model, evaluations included.")
    seconds: float = Field(description="If the job does not end early and has the device to itself.")
    speed: SpeedReply
    ways: list[WayReply] = Field(description="The same job with forward passes only, and with exact gradients.")
    warnings: list[str]
    method: str = Field(description="The method that was estimated; with `method: auto` the one that is chosen.")
    advice: str = Field(description="What `auto` chose, or whether back-propagation would be the better choice.")
