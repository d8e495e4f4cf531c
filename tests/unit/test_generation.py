"""Generation: streamed, stopped, seeded, with and without an adapter."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from steerzo_edge.data.examples import Message
from steerzo_edge.decoding.generate import Sampling, encode_prompt, generate
from steerzo_edge.errors import InputError, PromptTooLongError
from steerzo_edge.model.base import Base
from steerzo_edge.model.load import load_base
from steerzo_edge.model.lora import Lora
from steerzo_edge.model.subset import Copies
from tests.conftest import Loader, byte_tokenizer


def test_pieces_concatenate_to_the_whole_text(bundled: Base) -> None:
    pieces: list[str] = []
    answer = generate(bundled, "Once upon a time", sampling=Sampling(20), on_text=pieces.append)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 5
    assert answer.completion_tokens == 20
    assert answer.finish_reason == "length"
    assert "little girl" in answer.text


def test_greedy_decoding_equals_transformers(bundled: Base) -> None:
    ids = bundled.tokenizer("Once upon a time", return_tensors="pt")
    with torch.inference_mode():
        expected = bundled.model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=5)
    text = bundled.tokenizer.decode(expected[0, ids.input_ids.shape[1] :], skip_special_tokens=True)
    assert generate(bundled, "Once upon a time", sampling=Sampling(12)).text == text


def test_a_stop_text_ends_the_answer_and_is_never_seen(bundled: Base) -> None:
    whole = generate(bundled, "Once upon a time", sampling=Sampling(20)).text
    stop = whole[10:16]
    pieces: list[str] = []
    answer = generate(bundled, "Once upon a time", sampling=Sampling(20, stop=(stop,)), on_text=pieces.append)
    assert answer.text == whole[: whole.index(stop)] == "".join(pieces)
    assert answer.finish_reason == "stop"


def test_the_end_token_ends_the_answer(bundled: Base) -> None:
    turns = [Message("user", "I want to find a restaurant in San Jose.")]
    answer = generate(bundled, turns, sampling=Sampling(60))
    assert answer.finish_reason == "stop"
    assert "restaurant" in answer.text
    assert "<|" not in answer.text


def test_a_seed_gives_the_same_text_again_and_touches_no_global_state(bundled: Base) -> None:
    sampling = Sampling(16, temperature=1.0, top_p=0.95, top_k=50, seed=3)
    before = torch.get_rng_state()
    first = generate(bundled, "The", sampling=sampling).text
    assert generate(bundled, "The", sampling=sampling).text == first
    assert generate(bundled, "The", sampling=Sampling(16, temperature=1.0, seed=4)).text != first
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.long
def test_samples_follow_the_distribution(bundled: Base) -> None:
    """Gumbel noise and argmax draw from the softmax: 400 first tokens against its probabilities."""
    with torch.inference_mode():
        ids = bundled.tokenizer("I like the", return_tensors="pt").input_ids
        scores = bundled.model(input_ids=ids).logits[0, -1].float()
    chances = (scores / 0.5).softmax(-1)
    likeliest = int(chances.argmax())
    piece = bundled.tokenizer.decode([likeliest])
    hits = sum(
        generate(bundled, "I like the", sampling=Sampling(1, temperature=0.5, seed=seed)).text == piece
        for seed in range(400)
    )
    expected = 400 * float(chances[likeliest])
    assert abs(hits - expected) < 4 * (expected * (1 - expected / 400)) ** 0.5 + 1


def test_cancelling_ends_after_one_token(bundled: Base) -> None:
    answer = generate(bundled, "Once", sampling=Sampling(50), cancelled=lambda: True)
    assert answer.finish_reason == "cancelled"
    assert answer.completion_tokens == 1


def test_an_adapter_changes_the_answer_and_leaves_the_base(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    bare = generate(base, "hello", sampling=Sampling(12)).text
    lora = Lora(base.bank.layers, rank=2, alpha=4, freeze_a=True, seed=0, compute_dtype=torch.float32)
    lora.parameters.add_(torch.randn(lora.parameters.shape, generator=torch.Generator().manual_seed(1)))
    adapted = generate(base, "hello", Copies(lora, 1).hold(), Sampling(12)).text
    assert adapted != bare
    assert generate(base, "hello", sampling=Sampling(12)).text == bare


def test_bytes_of_one_character_are_sent_together(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    for seed in range(20):
        pieces: list[str] = []
        sampling = Sampling(24, temperature=2.0, seed=seed)
        answer = generate(base, "é", sampling=sampling, on_text=pieces.append)
        assert "".join(pieces) == answer.text
        assert all("\ufffd" not in piece for piece in pieces[:-1] if not answer.text.count("\ufffd"))


def test_prompts_that_cannot_be_answered(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    with pytest.raises(PromptTooLongError, match=r"250 tokens and max_new_tokens is 10.*holds 256"):
        generate(base, "x" * 250, sampling=Sampling(10))
    with pytest.raises(InputError, match="empty"):
        generate(base, "", sampling=Sampling(1))


def test_a_row_may_end_inside_a_block_of_weights(tmp_path: Path) -> None:
    """bitsandbytes' packed CPU kernel cannot take 96 inputs; such layers are expanded instead."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    base = load_base(str(tmp_path), device="cpu")
    assert generate(base, "hello", sampling=Sampling(max_new_tokens=3)).completion_tokens <= 3


def test_a_prompt_that_can_never_fit_is_not_even_encoded(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    tokenizer = byte_tokenizer()
    most = base.context_length * base.longest_token
    with pytest.raises(PromptTooLongError, match="256 tokens"):
        encode_prompt(base, "x" * (most + 1), 1, tokenizer=Unasked(tokenizer))
    with pytest.raises(PromptTooLongError, match=f"{most} tokens"):
        encode_prompt(base, "x" * most, 1, tokenizer=tokenizer)


class Unasked:
    """A tokenizer that must not be called."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.chat_template = tokenizer.chat_template
