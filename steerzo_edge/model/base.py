"""One frozen base model: its weights, its tokenizer, its adapter bank. Training and serving share it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerzo_edge.data.packing import Packed
from steerzo_edge.model.allocator import give_back
from steerzo_edge.model.attention import packed_attention
from steerzo_edge.model.bank import AdapterBank
from steerzo_edge.model.branching import BranchedLayers, Plan
from steerzo_edge.model.head import Head
from steerzo_edge.model.layers import decoder_layers
from steerzo_edge.model.positions import context_of
from steerzo_edge.model.quantization import Quantization
from steerzo_edge.model.tape import Tape


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """Hidden states that enter a decoder layer.

    Args:
        layer: The layer, from 0.
        states: (1, S, D) in the compute type, or (K, S, D) of K versions.
    """

    layer: int
    states: Tensor


class Base:
    """A loaded base. Make one with `load_base`.

    Args:
        name: The hub id or path it was loaded from.
        model: Frozen, in evaluation mode; its linear layers are wrapped here.
        tokenizer: Its tokenizer.
        quantization: How its linear layers store their weights.
        compute_dtype: The type of its activations.
        fingerprint: Hash of its frozen weights.
        revision: The commit, tag or branch that was asked for, if one was.

    Attributes:
        bank: Its adapter bank.
        head: Its output head.
        preempted_s: Seconds spent inside `preempted`, in all.
        frugal: Whether the heap's gaps are returned before rows go through the model; set by the run that uses it
            (on a CPU, see `allocator.py`).
    """

    def __init__(
        self,
        *,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        quantization: Quantization,
        compute_dtype: torch.dtype,
        fingerprint: str,
        revision: str | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.quantization = quantization
        self.compute_dtype = compute_dtype
        self.fingerprint = fingerprint
        self.revision = revision
        self.bank = AdapterBank(model)
        self._layers = BranchedLayers(decoder_layers(model)[1])
        self.head = Head(model.get_output_embeddings(), model.config, between=lambda: self.bank.preemption_hook())
        self.preempted_s = 0.0
        self.frugal = False
        self._attention = model.config._attn_implementation
        self._tape: Tape | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @property
    def device_kind(self) -> str:
        """The name of a card, or "cpu"."""
        device = self.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    @property
    def context_length(self) -> int:
        """Most tokens that the model can take: see `positions.py`."""
        return context_of(self.model.config)

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self.tokenizer.get_vocab()))

    @cached_property
    def vocabulary(self) -> int:
        """Number of tokens that the tokenizer has."""
        return len(self.tokenizer)

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a text."""
        found = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id} if found is None else {found} if isinstance(found, int) else set(found)
        return frozenset(end for end in ends if end is not None)

    def hidden(self, packed: Packed, copies: int = 1, states: HiddenStates | None = None) -> Tensor:
        """Last hidden states of K versions under the bank's active route.

        Args:
            packed: S tokens, the same for all versions.
            copies: K. Patches from the route's branch layer on expect K groups of rows, patches below it one group.
            states: Hidden states of these tokens from `hidden_at`, at or below the route's branch layer; the layers
                below them do not run.

        Returns:
            (K, S, D) in the compute type.
        """
        first_layer, tensor = (0, None) if states is None else (states.layer, states.states)
        return self._forward(packed, Plan(self.bank.branch_layer, copies, tensor, first_layer, tape=self._tape))

    def hidden_at(
        self, layer: int, packed: Packed, states: HiddenStates | None = None, copies: int = 1
    ) -> HiddenStates:
        """Hidden states of K versions that enter a layer, under the bank's active route.

        Args:
            layer: The layer, from 0.
            packed: S tokens.
            states: Hidden states that enter a lower layer; the layers below them do not run.
            copies: K; if there are several, as in `hidden`.
        """
        first_layer, tensor = (0, None) if states is None else (states.layer, states.states)
        plan = Plan(min(self.bank.branch_layer, layer), copies, tensor, first_layer, stop_layer=layer)
        self._forward(packed, plan)
        assert plan.reached is not None
        return HiddenStates(layer, plan.reached)

    @contextmanager
    def recorded(self, tape: Tape) -> Iterator[None]:
        """Inside the block `hidden` records its layers on a tape; call it under the route of the tape's leaves."""
        self._tape = tape
        try:
            yield
        finally:
            self._tape = None

    def pull_back(self, packed: Packed, tape: Tape, gradient: Tensor) -> Tensor | None:
        """Carries a gradient from the last layer's result down to the tape's lowest layer.

        Other work may use the model before every layer, as in a forward.

        Args:
            packed: The tokens of the recorded forward.
            tape: Recorded under the route that is active now; its leaves receive their gradients. It is empty
                afterwards.
            gradient: Of `tape.result`.

        Returns:
            As `Tape.pull_back`.
        """
        with self._batch_pass(packed):
            return tape.pull_back(gradient, lambda: self.bank.preemption_hook())

    @contextmanager
    def preempted(self) -> Iterator[None]:
        """Inside the block other work may use the model, while a forward waits at its preemption hook.

        The model's state is as if no forward were running. What the waiting forward has set up (route, plan,
        kernels, attention) is restored afterwards, so its numbers do not depend on the other work.
        """
        began = time.perf_counter()
        config = self.model.config
        is_batch_pass, attention = self.bank.is_batch_pass, config._attn_implementation
        tape, self._tape = self._tape, None
        self.bank.is_batch_pass, config._attn_implementation = False, self._attention
        try:
            with torch.inference_mode(mode=False), self.bank.route({}), self._layers.under(None):
                yield
        finally:
            self.bank.is_batch_pass, config._attn_implementation = is_batch_pass, attention
            self._tape = tape
            self.preempted_s += time.perf_counter() - began

    def catch_up(self) -> None:
        """Waits until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _forward(self, packed: Packed, plan: Plan) -> Tensor:
        if self.frugal and self.device.type == "cpu":
            give_back()
        with self._batch_pass(packed), self._layers.under(plan):
            output = self.model.base_model(
                input_ids=packed.input_ids, position_ids=packed.positions, use_cache=False
            )
        return output.last_hidden_state  # type: ignore[no-any-return]

    @contextmanager
    def _batch_pass(self, packed: Packed) -> Iterator[None]:
        self.bank.is_batch_pass = True
        try:
            with packed_attention(self.model.config, packed):
                yield
        finally:
            self.bank.is_batch_pass = False
