"""How a server is set up: options of `steerzo serve`, or STEERZO_* environment variables."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.base_paths import is_allowed_base
from steerzo_edge.config import Config
from steerzo_edge.settings.profile import load_profile
from steerzo_edge.settings.sections import ModelConfig

PREFIX = "STEERZO_"
_MODEL = {
    "base": "id",
    "base_revision": "revision",
    "quantization": "quantization",
    "compute_dtype": "compute_dtype",
}


class Settings(Config):
    """Everything a server is told at its start."""

    host: str = Field("127.0.0.1", description="Address to bind; loopback unless told otherwise.")
    port: int = Field(8000, ge=0, le=65535, description="Port to bind; 0 lets the system choose.")
    data_dir: Path = Field(
        Path.home() / ".steerzo", description="Database, uploads, journals and adapters live here."
    )
    tasks_dir: Path | None = Field(
        None, description="Benchmark files that requests may name by their path; none by default."
    )
    models_dir: Path | None = Field(
        None,
        description="A base from this disk must lie under it; anywhere by default, bundled and hub ids always.",
    )
    model: ModelConfig = Field(default_factory=ModelConfig, description="The base model.")
    api_key: SecretStr | None = Field(
        None, min_length=8, description="A key that opens the server, beside those of `steerzo keys`."
    )
    make_key: bool = Field(
        False, description="Make a key and log it once, if the address is public and there never was one."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names in the Host header beside localhost and the bound address; separated by commas."
    )
    max_upload_bytes: int = Field(256 << 20, ge=1, description="Largest dataset or adapter.")
    max_body_bytes: int = Field(4 << 20, ge=1, description="Largest other request.")
    max_waiting_prompts: int = Field(64, ge=1, description="Prompts that may wait; more are answered 429.")
    max_batch_rows: int = Field(32, ge=1, le=1024, description="Prompts that are answered together.")
    max_cache_bytes: int = Field(
        1 << 30, ge=1, description="Memory for the keys and values of the prompts that are answered together."
    )
    prefill_tokens: int = Field(256, ge=1, description="Tokens of prompts that are read in one quantum.")
    prompt_timeout_s: float = Field(
        600, gt=0, description="How long a prompt may wait and be answered; then 504, or what there is by then."
    )
    training_share: float = Field(
        0.25, ge=0, le=0.9, description="Least share of the device's time for training while there are prompts."
    )
    max_waiting_jobs: int = Field(256, ge=1, description="Jobs that may wait; more are answered 429.")
    max_event_readers: int = Field(
        1000, ge=1, description="Connections that may read events; more are answered 429."
    )
    client_timeout_s: int = Field(
        60, ge=1, description="How long a client may take nothing of what it is sent before it is dropped."
    )
    retry_attempts: int = Field(
        6, ge=0, le=100, description="Further attempts of a job when memory or disk do not suffice."
    )
    retry_delay_s: float = Field(
        10.0, ge=0, le=3600, description="Before the second attempt; doubled for each further one."
    )
    keep_jobs: int | None = Field(None, ge=0, description="Ended jobs that are kept; all by default.")
    keep_days: float | None = Field(None, ge=0, description="How long ended jobs are kept; for ever by default.")
    max_connections: int = Field(2000, ge=2, description="Open connections; requests on more are answered 503.")
    max_datasets: int = Field(10_000, ge=1, description="Datasets kept; more are answered 507.")
    max_adapters: int = Field(1000, ge=0, description="Uploaded adapters kept; more are answered 507.")
    adapter_memory_mib: int = Field(
        1024, ge=0, description="Adapters held in memory, in MiB; the least recently used go first."
    )
    max_data_bytes: int | None = Field(
        None, ge=1, description="What the data directory may hold before uploads and jobs are answered 507."
    )
    least_free_bytes: int = Field(
        64 << 20, ge=0, description="Free space below which the server is not ready and takes nothing more."
    )
    requests_per_second: float = Field(200, gt=0, description="Of one key or address, in the long run; then 429.")
    request_burst: int = Field(2000, ge=1, description="Requests of one key or address that may come at once.")
    body_timeout_s: float = Field(
        30, gt=0, description="How long a body may take, besides a second for each 16 KiB; then 408."
    )
    stuck_after_s: float = Field(
        900, gt=0, description="A single quantum of the device that takes longer makes the server not ready."
    )
    log_format: Literal["text", "json"] = Field("text", description="What a line of the log looks like.")
    log_level: Literal["debug", "info", "warning"] = Field("info", description="The least that is logged.")
    log_messages: bool = Field(
        False,
        description="Also log the messages of unexpected errors, which may quote what users sent.",
    )
    snapshot_every: int = Field(50, ge=1, description="Steps between snapshots of a job.")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _base_lies_where_it_may(self) -> Self:
        if self.models_dir is not None and not is_allowed_base(self.model.id, self.models_dir):
            raise PydanticCustomError(
                "base_outside", "the base {base} does not lie under models_dir", {"base": repr(self.model.id)}
            )
        return self

    @property
    def is_public(self) -> bool:
        """Whether others than this machine can reach the address."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


def from_environment(environment: Mapping[str, str], **options: Any) -> Settings:
    """Settings from STEERZO_* variables; options that are not None come first.

    Args:
        environment: For example `os.environ`.
        options: By field name; `profile` is one whose model is taken, `base`, `base_revision`,
            `quantization` and `compute_dtype` name the model or change the profile's.

    Raises:
        InputError: Naming every setting that is wrong.
        NotFoundError: If there is no such profile.
    """
    names = [*Settings.model_fields, *_MODEL, "profile"]
    # A variable that is set to nothing is not set: compose files do that with variables they do not know.
    found: dict[str, Any] = {name: value for name in names if (value := environment.get(PREFIX + name.upper()))}
    found |= {name: value for name, value in options.items() if value is not None}
    profile = found.pop("profile", None)
    model = {} if profile is None else load_profile(profile).model.model_dump()
    if "base" in found:
        model.pop("revision", None)  # the profile's is of the profile's base
    model |= {key: found.pop(name) for name, key in _MODEL.items() if name in found}
    return Settings.parse({**found, "model": model} if model else found, where="settings")
