"""The settings of a server: options of `steerzo serve`, or STEERZO_* environment variables."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from server.base_paths import is_allowed_base
from server.data_dir import DEFAULT
from server.webhook_addresses import is_address
from steerzo_edge.config import Config
from steerzo_edge.model.packed.cache import MOST_BYTES
from steerzo_edge.model.weights.expanded_copies import DEFAULT_BYTES as EXPANDED_BYTES
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
    """All settings of a server, read once at its start."""

    host: str = Field("127.0.0.1", description="Address to bind; loopback by default.")
    port: int = Field(8000, ge=0, le=65535, description="Port to bind; 0 lets the system choose.")
    data_dir: Path = Field(DEFAULT, description="Directory of the database, uploads, journals and adapters.")
    tasks_dir: Path | None = Field(
        None, description="Directory of benchmark files that requests may name by path; none by default."
    )
    models_dir: Path | None = Field(
        None,
        description="Directory that a base from this disk must be under; bundled and hub bases are always allowed.",
    )
    packed_dir: Path | None = Field(
        None, description="Directory of packed copies of bases; by default `packed` in the data directory."
    )
    max_packed_bytes: int = Field(
        MOST_BYTES, ge=0, description="Most bytes of packed copies that are kept for the next start; 0 keeps none."
    )
    expanded_copy_bytes: int = Field(
        EXPANDED_BYTES,
        ge=0,
        description="Most bytes of 4-bit weights that are kept in 16 bits for answers, on a processor without a "
        "kernel for 4-bit codes (without AVX512-BF16). Weights beyond it are expanded for every token.",
    )
    model: ModelConfig = Field(default_factory=ModelConfig, description="The base model.")
    allow_control_tokens: bool = Field(
        False,
        description="Read control tokens that texts of users spell, such as those of a chat template, as control "
        "tokens, not as text: anyone who may send a text can then end a turn or begin one of the system.",
    )
    api_key: SecretStr | None = Field(
        None, min_length=8, description="An API key, in addition to those of `steerzo keys`."
    )
    make_key: bool = Field(
        False, description="Make a key and log it once, if the address is public and no key was ever made."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names allowed in the Host header besides localhost and the bound address; comma-separated."
    )
    max_upload_bytes: int = Field(
        256 << 20, ge=1, description="Size of the largest dataset or adapter that is accepted."
    )
    max_body_bytes: int = Field(4 << 20, ge=1, description="Size of the largest other request body.")
    max_waiting_prompts: int = Field(64, ge=1, description="Most prompts that wait; more are answered 429.")
    max_batch_rows: int = Field(32, ge=1, le=1024, description="Most prompts that are answered together.")
    max_cache_bytes: int = Field(
        1 << 30,
        ge=1,
        description="Memory for the keys and values of the prompts that are answered together, in bytes.",
    )
    prefill_tokens: int = Field(256, ge=1, description="Most tokens of prompts that are read in one time slice.")
    scored_tokens: int = Field(
        512, ge=1, description="Most tokens of prompts whose log-probabilities are computed in one time slice."
    )
    prompt_timeout_s: float = Field(
        600,
        gt=0,
        description="Seconds until a prompt must be answered; then it is answered 504, or its answer ends early.",
    )
    training_share: float = Field(
        0.25,
        ge=0,
        le=0.9,
        description="Least share of the device's time that training gets while there are prompts.",
    )
    max_waiting_jobs: int = Field(256, ge=1, description="Most jobs that wait; more are answered 429.")
    max_event_readers: int = Field(
        1000, ge=1, description="Most connections that read events; more are answered 429."
    )
    client_timeout_s: int = Field(
        60, ge=1, description="Seconds after which a client that takes no data is disconnected."
    )
    retry_attempts: int = Field(
        6, ge=0, le=100, description="Further attempts of a job after an error of memory or disk."
    )
    retry_delay_s: float = Field(
        10.0, ge=0, le=3600, description="Seconds before the second attempt; doubled for each further one."
    )
    keep_jobs: int | None = Field(None, ge=0, description="Most ended jobs that are kept; all by default.")
    keep_days: float | None = Field(None, ge=0, description="Days that ended jobs are kept; for ever by default.")
    max_connections: int = Field(
        2000, ge=2, description="Most open connections; requests on more are answered 503."
    )
    max_datasets: int = Field(10_000, ge=1, description="Most datasets that are kept; more are answered 507.")
    max_adapters: int = Field(
        1000, ge=0, description="Most uploaded adapters that are kept; more are answered 507."
    )
    adapter_memory_mib: int = Field(
        1024, ge=0, description="Most memory for loaded adapters, in MiB; the least recently used are dropped."
    )
    max_data_bytes: int | None = Field(
        None, ge=1, description="Size of the data directory above which uploads and jobs are answered 507."
    )
    least_free_bytes: int = Field(
        64 << 20, ge=0, description="Free disk space below which the server is not ready and stores nothing more."
    )
    requests_per_second: float = Field(
        200, gt=0, description="Sustained rate of requests per key or address; above it they are answered 429."
    )
    request_burst: int = Field(2000, ge=1, description="Requests that one key or address may send at once.")
    body_timeout_s: float = Field(
        30, gt=0, description="Seconds that a body may take to arrive, plus one for each 16 KiB; then 408."
    )
    stuck_after_s: float = Field(
        900, gt=0, description="Seconds after which a single time slice of the device makes the server not ready."
    )
    log_format: Literal["text", "json"] = Field("text", description="Format of the log's lines.")
    log_level: Literal["debug", "info", "warning"] = Field("info", description="Least level that is logged.")
    log_messages: bool = Field(
        False,
        description="Also log the messages of unexpected errors, which may quote what users sent.",
    )
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        ("tensorboard",),
        description="Kinds of trackers that jobs may name; comma-separated. mlflow and wandb write to where the "
        "server's own MLFLOW_* and WANDB_* variables say, tensorboard into the job's directory.",
    )
    webhook: str | None = Field(
        None, pattern=r"^https?://", description="Address to which the end of every job is reported, by POST."
    )
    webhook_secret: SecretStr | None = Field(
        None, min_length=16, description="Secret with which these reports are signed; unsigned without it."
    )
    webhook_prefixes: tuple[Annotated[str, Field(pattern=r"^https?://[^/]+")], ...] = Field(
        (),
        description="Beginnings of the addresses that a job may name as its own webhook; comma-separated, none by "
        "default.",
    )
    snapshot_every: int = Field(50, ge=1, description="Steps between snapshots of a job.")

    @field_validator("allowed_hosts", "trackers", "webhook_prefixes", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("webhook", "webhook_prefixes")
    @classmethod
    def _can_be_reached(cls, value: Any) -> Any:
        for url in (value,) if isinstance(value, str) else value or ():
            if not is_address(url):
                raise PydanticCustomError("address", "must be an http or https address such as https://host/path")
        return value

    @model_validator(mode="after")
    def _base_is_allowed(self) -> Self:
        if self.models_dir is not None and not is_allowed_base(self.model.id, self.models_dir):
            raise PydanticCustomError(
                "base_outside", "the base {base} is not under models_dir", {"base": repr(self.model.id)}
            )
        return self

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the address."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


def from_environment(environment: Mapping[str, str], **options: Any) -> Settings:
    """Settings from STEERZO_* variables; options that are not None take precedence.

    Args:
        environment: For example `os.environ`.
        options: By field name. `profile` names a profile whose model is taken; `base`, `base_revision`,
            `quantization` and `compute_dtype` set the model or override the profile's.

    Raises:
        InputError: Naming every setting that is wrong.
        NotFoundError: If there is no such profile.
    """
    names = [*Settings.model_fields, *_MODEL, "profile"]
    # An empty variable counts as unset: compose files set undefined variables to an empty string.
    found: dict[str, Any] = {name: value for name in names if (value := environment.get(PREFIX + name.upper()))}
    found |= {name: value for name, value in options.items() if value is not None}
    profile = found.pop("profile", None)
    model = {} if profile is None else load_profile(profile).model.model_dump()
    if "base" in found:
        model.pop("revision", None)  # the profile's revision belongs to the profile's base
    model |= {key: found.pop(name) for name, key in _MODEL.items() if name in found}
    return Settings.parse({**found, "model": model} if model else found, where="settings")
