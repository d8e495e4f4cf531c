"""The training settings of a base, which its card lists."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from tools.pretrain_base.schedule import Schedule

Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a training run.

    Args:
        context: Tokens of a row, and the context length that the model declares.
        batch_tokens: Tokens of a step, rounded down to whole rows, at least one.
        forward_tokens: Tokens of one forward and backward; a step has as many as it needs.
        learning_rate: The peak learning rate of AdamW.
        weight_decay: On matrices; norms have none.
        clip: Largest norm of a gradient.
        schedule: Of the learning rate.
        steps: Length of the run; None derives it from `minutes`.
        minutes: Of training, without preparation and evaluation; used if `steps` is None.
        passes: Most passes over the text of any corpus; an upper bound of the steps that fit into `minutes`.
        save_every: Steps between checkpoints.
        seed: Of weights and order.
        precision: Of the forward: "auto" is bfloat16 autocast on CUDA and float32 elsewhere.
        compiled: Whether torch.compile is used.
    """

    context: int = 1024
    batch_tokens: int = 65_536
    forward_tokens: int = 32_768
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    schedule: Schedule = field(default_factory=Schedule)
    steps: int | None = None
    minutes: float = 20.0
    passes: float = 40.0
    save_every: int = 500
    seed: int = 0
    precision: Precision = "auto"
    compiled: bool = False

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return max(1, self.batch_tokens // self.context)

    @property
    def rows_a_forward(self) -> int:
        """Rows of one forward."""
        return max(1, min(self.batch_tokens, self.forward_tokens) // self.context)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The forward's type on a device."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.low(device))

    def low(self, device: torch.device) -> bool:
        """Whether a device computes in bfloat16."""
        return self.precision == "bfloat16" or (self.precision == "auto" and device.type == "cuda")
