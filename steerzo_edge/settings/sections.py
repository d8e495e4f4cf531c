"""The sections of a profile: closed, described, bounded.

A choice is a union discriminated on `kind`. `build` passes plain values to classes that do not know settings.
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from steerzo_edge.config import Config
from steerzo_edge.data.packing import Packed
from steerzo_edge.errors import ProfileError
from steerzo_edge.model.bank import BankLinear
from steerzo_edge.model.base import Base
from steerzo_edge.model.input_subspace import input_subspace
from steerzo_edge.model.last_layers import LastLayers
from steerzo_edge.model.layers import layer_count, select
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.lora_xs import LoraXs, lora_xs_factors
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.model.sources.bundled import BUNDLED
from steerzo_edge.model.subset import Subset
from steerzo_edge.training.rates import LearningRate
from steerzo_edge.zo.rule import Rule
from steerzo_edge.zo.rules import SGD, Adam, Momentum
from steerzo_edge.zo.schedule import Schedule
from steerzo_edge.zo.watcher import Watcher


class ModelConfig(Config):
    """The base model."""

    id: str = Field(BUNDLED, min_length=1, description='A hub id, a local path, or "bundled".')
    revision: str | None = Field(None, description="Commit, tag or branch of a hub model.")
    quantization: Quantization = Field("nf4", description="nf4, fp4, int8 or none; gptq for a base released so.")
    compute_dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="The type of activations and of expanded weights."
    )

    @property
    def dtype(self) -> torch.dtype:
        """The compute type as torch knows it."""
        return getattr(torch, self.compute_dtype)  # type: ignore[no-any-return]


class BlocksConfig(Config):
    """Block-coordinate steps: each step perturbs and moves some decoder layers only."""

    block_layers: int | None = Field(
        None, ge=1, description="Decoder layers that one step perturbs, block by block; null perturbs all."
    )
    block_order: Literal["cycle", "random"] = Field(
        "cycle", description="Which block a step perturbs: in turn, or at random."
    )


class LowRankConfig(BlocksConfig):
    """Settings that all adapters on linear layers share."""

    alpha: float = Field(16, gt=0, le=4096, description="The adapter's product is scaled by alpha / rank.")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description='"all-linear", or last parts of layer names such as [q_proj, v_proj].'
    )
    last_layers: int | None = Field(None, ge=1, description="At most so many decoder layers, from the top.")

    def chosen(self, base: Base) -> dict[str, BankLinear]:
        """The layers it adapts.

        Raises:
            ProfileError: If a target matches nothing.
        """
        return _chosen(base, self.targets, self.last_layers)


class LoraConfig(LowRankConfig):
    """LoRA adapters on linear layers."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, le=256, description="R.")
    freeze_a: bool = Field(
        True, description="Train B only (LoRA-FA): half the parameters; at B = 0 directions in A change nothing."
    )
    init_a: Literal["random", "input-subspace"] = Field(
        "random", description="input-subspace: A spans the layer's inputs over some rows, and is frozen."
    )

    @model_validator(mode="after")
    def _inputs_are_frozen(self) -> Self:
        if self.init_a == "input-subspace" and not self.freeze_a:
            raise PydanticCustomError(
                "trained_subspace", "init_a: input-subspace needs freeze_a: true, since a trained A would leave it"
            )
        return self

    def build(self, base: Base, seed: int, rows: Packed, frozen: Tensor | None = None) -> Subset:
        """The subset on a base.

        Args:
            base: The frozen model.
            seed: Of a random A, and of the search for the inputs' subspace.
            rows: The subspace is found on their hidden states.
            frozen: The frozen part, if it is known: then nothing is drawn or computed.
        """
        layers = self.chosen(base)
        if frozen is None and self.init_a == "input-subspace":
            frozen = input_subspace(base, layers, rows, rank=self.rank, seed=seed)
        return Lora(
            layers,
            rank=self.rank,
            alpha=self.alpha,
            freeze_a=self.freeze_a,
            seed=seed,
            compute_dtype=base.compute_dtype,
            device=base.device,
            frozen=frozen,
        )


class LoraXsConfig(LowRankConfig):
    """LoRA-XS: a small trained core between factors of the layer's own weight."""

    kind: Literal["lora-xs"] = "lora-xs"
    rank: int = Field(16, ge=1, le=256, description="R; R * R numbers a layer are trained.")
    alpha: float = Field(32, gt=0, le=4096, description="The adapter's product is scaled by alpha / rank.")

    def build(self, base: Base, seed: int, rows: Packed, frozen: Tensor | None = None) -> Subset:
        """The subset on a base.

        Args:
            base: The frozen model; the factors are derived from its weights.
            seed: Of the search for them.
            rows: Not used.
            frozen: The factors, if they are known: then nothing is computed.
        """
        layers = self.chosen(base)
        if frozen is None:
            frozen = lora_xs_factors(layers, rank=self.rank, seed=seed, compute_dtype=base.compute_dtype)
        return LoraXs(
            layers,
            rank=self.rank,
            alpha=self.alpha,
            frozen=frozen,
            compute_dtype=base.compute_dtype,
            device=base.device,
        )


class LastLayersConfig(BlocksConfig):
    """The linear weights of the last decoder layers, trained whole in bf16."""

    kind: Literal["last-n-layers"] = "last-n-layers"
    layers: int = Field(1, ge=1, description="How many decoder layers, from the top.")

    def chosen(self, base: Base) -> dict[str, BankLinear]:
        """The layers it trains.

        Raises:
            ProfileError: If the base has fewer.
        """
        depth = layer_count(base.model.config)
        if self.layers > depth:
            raise ProfileError(f"subset.layers is {self.layers}, but the base has {depth} layers")
        return _chosen(base, "all-linear", self.layers)

    def build(self, base: Base, seed: int, rows: Packed, frozen: Tensor | None = None) -> Subset:
        """The subset on a base; it starts from the base's own weights, and has no frozen part."""
        return LastLayers(self.chosen(base), compute_dtype=base.compute_dtype, device=base.device)


class SGDConfig(Config):
    """Plain gradient descent."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: LearningRate = "auto"

    def build(self, size: int, device: torch.device) -> Rule:
        """The rule for d parameters."""
        return SGD()


class MomentumConfig(Config):
    """Heavy-ball momentum."""

    kind: Literal["momentum"] = "momentum"
    learning_rate: LearningRate = "auto"
    beta: float = Field(0.9, ge=0, lt=1, description="Decay of the running sum.")
    dampening: float = Field(0.9, ge=0, lt=1, description="Share of each gradient that is not added.")

    def build(self, size: int, device: torch.device) -> Rule:
        """The rule for d parameters."""
        return Momentum(size, device, beta=self.beta, dampening=self.dampening)


class AdamConfig(Config):
    """Adam on the estimated gradient."""

    kind: Literal["adam"] = "adam"
    learning_rate: LearningRate = "auto"
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the running mean.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the running square.")
    stability: float = Field(1e-8, gt=0, description="Added to the root of the running square.")

    def build(self, size: int, device: torch.device) -> Rule:
        """The rule for d parameters."""
        return Adam(size, device, beta1=self.beta1, beta2=self.beta2, stability=self.stability)


class ScheduleConfig(Config):
    """The learning rate over the steps."""

    kind: Literal["constant", "linear", "cosine"] = Field("linear", description="Decay after the warm-up.")
    warmup: int = Field(0, ge=0, description="Steps of linear rise.")
    floor: float = Field(0.0, ge=0, le=1, description="Share of the peak rate that is left at the end.")

    def build(self, steps: int) -> Schedule:
        """The schedule of a run."""
        return Schedule(steps, self.kind, self.warmup, self.floor)


class BatchConfig(Config):
    """The rows of a step, and how they are put through the model."""

    examples: int = Field(16, ge=1, le=4096, description="Rows a step.")
    max_tokens: int = Field(512, ge=8, le=131072, description="Longest row; the context length caps it.")
    prefix_memory_mib: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="Memory for the hidden states that enter the lowest trained layer, kept for all rows; auto: "
        "at most 512, as `memory` allows.",
    )
    prefix_disk_mib: int = Field(4096, ge=0, description="The same on disk, in the run's directory.")
    probes_per_forward: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto", description="Probes stacked in one forward; 1 needs the least memory, auto is what `memory` allows."
    )


class EvaluateConfig(Config):
    """Evaluation on rows that are not trained on."""

    every: int = Field(100, ge=1, description="Steps between evaluations.")
    examples: int = Field(200, ge=1, description="Most rows evaluated.")
    generate: int = Field(
        32, ge=0, description="Most rows for which answers are generated, where the metric needs them: it is slow."
    )
    holdout: float = Field(
        0.1, ge=0, le=0.5, description="Share of the rows set aside where no validation data is given; 0: none."
    )
    early_stop: int | None = Field(None, ge=1, description="Evaluations without a new best that end the run.")
    keep: Literal["best", "last"] = Field("best", description="Which version becomes the adapter.")


class WatchConfig(Config):
    """The watcher: notices a run that fails or stands still, reports it, and lowers the rate."""

    enabled: bool = Field(True, description="False never intervenes.")
    patience: int = Field(8, ge=2, description="Evaluations without progress that make a plateau.")
    retries: int = Field(2, ge=0, description="Verdicts after which the run is ended.")

    def build(self, *, by_score: bool = False) -> Watcher | None:
        """The watcher, or None."""
        return Watcher(self.patience, self.retries, by_score) if self.enabled else None


SubsetConfig = Annotated[LoraConfig | LoraXsConfig | LastLayersConfig, Field(discriminator="kind")]
RuleConfig = Annotated[SGDConfig | MomentumConfig | AdamConfig, Field(discriminator="kind")]


def _chosen(base: Base, targets: str | list[str], last_layers: int | None) -> dict[str, BankLinear]:
    names = select(list(base.bank.layers), targets, last_layers)
    return {name: base.bank.layers[name] for name in names}
