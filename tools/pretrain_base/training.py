"""Training: rows to gradients to AdamW, with checkpoints that hold everything.

A checkpoint has weights, moments, step, position in the text, time spent and what was measured. On a CPU with the
same number of threads, a run that was stopped and went on has the weights of one that was not, bit for bit.
"""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from steerzo_edge.errors import DivergedError, InputError
from steerzo_edge.storage.files import write_bytes
from tools.pretrain_base.rows import Rows
from tools.pretrain_base.settings import Settings

Measured = dict[str, Any]
_FREE = ("minutes", "save_every", "compiled")  # settings that may be others when a run goes on
_PROBED = 4
_SETTLED = 10  # steps after which the measured speed is used


@dataclass(frozen=True, slots=True)
class Step:
    """The figures of one step.

    Args:
        index: From 0.
        loss: Nats a token.
        norm: Of the gradient, before clipping.
        rate: Its learning rate.
    """

    index: int
    loss: float
    norm: float
    rate: float


class Pretraining:
    """A training run: its model, its optimiser and its position.

    Args:
        model: Trained in place, on its device.
        rows: The rows to train on; their position is advanced in place.
        settings: Of the run.
        origin: What the rows were made from; a checkpoint with another origin is rejected.
        clock: Seconds.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        rows: Rows,
        settings: Settings,
        origin: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model = model
        self.settings = settings
        self.step = 0
        self.steps = settings.steps
        self.seconds = 0.0
        self.history: list[Measured] = []
        self._rows = rows
        self._origin = origin
        self._clock = clock
        self._forward: Callable[..., Any] = torch.compile(model) if settings.compiled else model
        matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        others = [parameter for parameter in model.parameters() if parameter.dim() == 1]
        self._optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.95),
            fused=model.device.type == "cuda",
        )

    @property
    def tokens(self) -> int:
        """Trained on so far, a pass's repetitions counted."""
        return self.step * self.settings.rows * self.settings.context

    def passes(self) -> list[float]:
        """How often each corpus has been gone through."""
        return self._rows.passes()

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """Steps until the end, or until `stop` says so.

        Raises:
            DivergedError: If a loss or a gradient is not finite; the weights are those before that step.
        """
        self._fit()
        while self.steps is not None and self.step < self.steps and not stop():
            started = self._clock()
            done = self._one(self.steps)
            self.seconds += self._clock() - started
            self._fit()
            yield done

    def save(self, path: Path) -> None:
        """Writes a checkpoint, whole or not at all.

        Raises:
            OSError: If the disk is full or fails.
        """
        state = {
            "asked": self._asked(),
            "origin": self._origin,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "taken": self._rows.taken,
            "step": self.step,
            "steps": self.steps,
            "seconds": self.seconds,
            "history": self.history,
        }
        buffer = io.BytesIO()  # torch's own file writer raises no OSError when the disk is full
        torch.save(state, buffer)
        write_bytes(path, buffer.getvalue())

    def restore(self, path: Path) -> None:
        """Goes to where a checkpoint was written.

        Raises:
            InputError: If it is of a run with other settings or other text.
        """
        state = torch.load(path, map_location=self.model.device, weights_only=True)
        if state["asked"] != self._asked() or state["origin"] != self._origin:
            raise InputError(
                f"{path} belongs to a run with other settings or other text", hint="Use a new directory."
            )
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rows.go_to(state["taken"])
        self.step, self.steps, self.seconds = state["step"], state["steps"], state["seconds"]
        self.history = state["history"]

    def _asked(self) -> Measured:
        asked = asdict(self.settings)
        return {key: value for key, value in asked.items() if key not in _FREE} | {
            "parameters": self.model.num_parameters()
        }

    def _fit(self) -> None:
        if self.settings.steps is not None:
            return
        schedule = self.settings.schedule
        if self.steps is not None and not (self.step >= _SETTLED and schedule.can_change(self.step, self.steps)):
            return
        a_step = self.seconds / self.step if self.step >= _SETTLED else self._probe()
        left = self.settings.minutes * 60 - self.seconds
        row = self.settings.rows * (self.settings.context + 1)
        self.steps = schedule.fitted(self.step, left, a_step, self._rows.tokens_for(self.settings.passes) // row)

    def _probe(self) -> float:
        """Seconds of a step, from passes that change nothing."""
        tokens = torch.zeros(self.settings.rows, self.settings.context + 1, dtype=torch.int64)
        self._gradient(tokens)
        self._gradient(tokens)
        started = self._clock()
        for _ in range(_PROBED):
            self._gradient(tokens)
        self._optimiser.zero_grad()
        return (self._clock() - started) / _PROBED

    def _one(self, steps: int) -> Step:
        rate = self.settings.learning_rate * self.settings.schedule.share(self.step, steps)
        taken = self._rows.taken
        loss = self._gradient(self._rows.next(self.settings.rows))
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip))
        if not (torch.isfinite(torch.tensor([loss, norm])).all()):
            self._rows.go_to(taken)
            raise DivergedError(
                f"step {self.step}: loss {loss}, gradient norm {norm}", hint="Lower --learning-rate."
            )
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self.step += 1
        return Step(self.step - 1, loss, norm, rate)

    def _gradient(self, rows: Tensor) -> float:
        device = self.model.device
        self._optimiser.zero_grad()
        total = torch.zeros((), device=device)
        for some in torch.split(rows.to(device), self.settings.rows_a_forward):
            with self.settings.autocast(device):
                logits = self._forward(input_ids=some[:, :-1], use_cache=False).logits  # (B, T, V)
            summed = functional.cross_entropy(logits.flatten(0, 1).float(), some[:, 1:].flatten(), reduction="sum")
            loss = summed / (rows.shape[0] * (rows.shape[1] - 1))
            loss.backward()
            total += loss.detach()
        return float(total)
