"""The published training loop, which the engine is compared with.

peft LoRA on the same bitsandbytes base; parameters perturbed in place, +1, -2, +1, one forward for each probe;
rows padded to the longest; for classification one sequence for each option; logits for every position; greedy
evaluates its winner twice, as the paper's listing does. Adapters are in the compute type, which is faster than
peft's float32 default. Sources of the procedure: arXiv:2305.17333, arXiv:2601.04710.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import peft
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from steerzo_edge.data.batches import batch_rows
from steerzo_edge.data.tokenization import Choices, Targets, Tokenized
from steerzo_edge.model.base import Base
from steerzo_edge.model.building import building
from steerzo_edge.model.layers import layer_count, linear_layers
from steerzo_edge.model.load import quiet
from steerzo_edge.model.quantization import STORAGES
from steerzo_edge.model.sources.registry import source_of
from steerzo_edge.model.sources.source import Loading

Loss = Callable[[], float]


def reference_model(base: Base) -> PreTrainedModel:
    """Another copy of a base, as `transformers` loads it.

    Of a GGUF file a checkpoint in 16 bits is made first: `transformers` quantizes no other.
    """
    with tempfile.TemporaryDirectory() as scratch, quiet():
        place = base.model.config.name_or_path or _sixteen_bits(base, Path(scratch))
        return AutoModelForCausalLM.from_pretrained(
            place,
            dtype=base.compute_dtype,
            device_map={"": base.device},
            **STORAGES[base.quantization].load_options(base.compute_dtype),
        )


def _sixteen_bits(base: Base, directory: Path) -> Path:
    with building():
        loading = Loading(STORAGES["none"], True, base.compute_dtype, torch.device("cpu"))
        source_of(base.name, base.revision).model(loading).save_pretrained(directory)
    return directory


class Reference:
    """A model with peft LoRA and an in-place zeroth-order step.

    Args:
        model: A base of its own; peft changes it in place.
        last_layers: Number of topmost layers that get LoRA; None for all.
        rank: R.
    """

    def __init__(self, model: PreTrainedModel, *, last_layers: int | None = None, rank: int = 8) -> None:
        count = layer_count(model.config)
        only = None if last_layers is None else list(range(count - last_layers, count))
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=sorted({name.rsplit(".", 1)[-1] for name in linear_layers(model)}),
            layers_to_transform=only,
            task_type="CAUSAL_LM",
        )
        self.model = peft.get_peft_model(model, config, autocast_adapter_dtype=False).eval()
        self.device = model.device
        self._trained = [p for name, p in self.model.named_parameters() if "lora_B" in name]
        self.pad = int(model.config.pad_token_id or 0)
        self.epsilon = 1e-2
        self.rate = 1e-4
        self.forwards = 0

    def step(self, method: str, data: Tokenized, seed: int, step: int, size: int) -> None:
        """One update, as the method's listing has it.

        Args:
            method: "two-point", "guiding-vector(M)", "greedy(M)" or "all-losses(M)".
            data: Tokenized rows.
            seed: Of the run.
            step: Index of the step.
            size: Rows a batch.
        """
        loss = self._loss(data, batch_rows(seed, step, len(data.rows), size))
        kind, _, pool = method.rstrip(")").partition("(")
        seeds = [hash((seed, step, index)) % 2**31 for index in range(int(pool or 1))]
        with torch.inference_mode():
            if kind == "two-point":
                self._two_point(loss, {seeds[0]: 1.0})
            elif kind == "all-losses":
                losses = [self._probe(loss, {s: 1.0}) for s in seeds]
                center = sum(losses) / len(losses)
                scale = self.epsilon * (len(losses) - 1)
                self._move({s: (v - center) / scale for s, v in zip(seeds, losses, strict=True)}, -self.rate)
            else:
                losses = [self._probe(loss, {s: 1.0}) for s in seeds]
                ranked = [s for _, s in sorted(zip(losses, seeds, strict=True))]
                half = max(1, len(ranked) // 2)
                guide = dict.fromkeys(ranked[:half], 1 / half) | {
                    s: -1 / (len(ranked) - half) for s in ranked[half:]
                }
                self._two_point(loss, {ranked[0]: 1.0} if kind == "greedy" else guide)

    def _two_point(self, loss: Loss, direction: dict[int, float]) -> None:
        self._move(direction, self.epsilon)
        plus = loss()
        self._move(direction, -2 * self.epsilon)
        minus = loss()
        self._move(direction, self.epsilon)
        self.forwards += 2
        self._move(direction, -self.rate * (plus - minus) / (2 * self.epsilon))

    def _probe(self, loss: Loss, direction: dict[int, float]) -> float:
        self._move(direction, self.epsilon)
        value = loss()
        self._move(direction, -self.epsilon)
        self.forwards += 1
        return value

    def _move(self, direction: dict[int, float], scale: float) -> None:
        for seed, weight in direction.items():
            generator = torch.Generator(self.device).manual_seed(seed)
            for parameter in self._trained:
                z = torch.randn(
                    parameter.shape, generator=generator, device=parameter.device, dtype=parameter.dtype
                )
                parameter.data.add_(z, alpha=scale * weight)

    def _loss(self, data: Tokenized, rows: list[int]) -> Loss:
        if isinstance(data, Choices):
            return self._option_loss(data, rows)
        assert isinstance(data, Targets)
        chosen = [data.rows[row] for row in rows]
        ids, mask = self._padded([row.tokens for row in chosen])
        labels = torch.full_like(ids, -100)
        for index, row in enumerate(chosen):
            labels[index, : len(row.tokens)] = torch.where(
                torch.tensor(row.counted, device=self.device), ids[index, : len(row.tokens)], -100
            )
        return lambda: float(self.model(input_ids=ids, attention_mask=mask, labels=labels).loss)

    def _option_loss(self, data: Choices, rows: list[int]) -> Loss:
        chosen = [data.rows[row] for row in rows]
        pairs = [(row.prompt, option) for row in chosen for option in data.options]
        ids, mask = self._padded([prompt + option for prompt, option in pairs])
        answers = torch.tensor([row.answer for row in chosen], device=self.device)
        target = torch.zeros_like(ids, dtype=torch.float32)
        for index, (prompt, option) in enumerate(pairs):
            target[index, len(prompt) : len(prompt) + len(option)] = 1 / len(option)

        def loss() -> float:
            logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
            chances = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:].unsqueeze(2)).squeeze(2)
            scores = (chances * target[:, 1:]).sum(1).view(len(rows), -1)
            return float(torch.nn.functional.cross_entropy(scores, answers))

        return loss

    def _padded(self, sequences: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, sequences))
        ids = torch.tensor([list(s) + [self.pad] * (width - len(s)) for s in sequences], device=self.device)
        mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences], device=self.device)
        return ids, mask
