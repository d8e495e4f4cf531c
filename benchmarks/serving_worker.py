"""Answers prompts in a process of its own, with this engine or with `transformers`, for `serving_real.py`.

    python -m benchmarks.serving_worker ours FILE.gguf THREADS
    python -m benchmarks.serving_worker transformers-nf4 DIRECTORY THREADS

It prints a line of JSON when the model is loaded. For each line of standard input,
`{"prompts": [...], "tokens": T}`, it answers these prompts together, greedily and with T tokens each, and prints
the seconds that this took and the most memory that the process ever had.
"""

import sys
from collections.abc import Callable, Sequence

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from benchmarks.serving_llama_cpp import serve
from benchmarks.serving_peers import padded
from steerzo_edge.decoding.decoder import Decoder, Request
from steerzo_edge.decoding.generate import encode_prompt
from steerzo_edge.decoding.sampling import Sampling
from steerzo_edge.model.load import load_base, load_tokenizer
from steerzo_edge.model.quantization import STORAGES

Answer = Callable[[Sequence[str], int], None]


def ours(path: str) -> Answer:
    """This engine's batched decoding, on the base in nf4."""
    base = load_base(path, device="cpu")
    base.model.generation_config.eos_token_id = -1  # no token: all answers are equally long

    def answer(prompts: Sequence[str], tokens: int) -> None:
        decoder = Decoder(base)
        for prompt in prompts:
            decoder.add(Request(encode_prompt(base, prompt, tokens), Sampling(tokens)))
        made = 0
        while len(decoder):
            made += sum(piece.tokens for piece in decoder.step() if piece.made is not None)
        if made != tokens * len(prompts):
            raise RuntimeError(f"answers ended early: {made} tokens of {len(prompts)} prompts")

    return answer


def transformers(path: str, *, quantized: bool) -> Answer:
    """`transformers`' generate, on the same weights in nf4 or in bf16; several prompts are one padded batch."""
    options = STORAGES["nf4"].load_options(torch.bfloat16) if quantized else {}
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, **options).eval()
    tokenizer = load_tokenizer(path)
    pad = tokenizer.pad_token_id

    def answer(prompts: Sequence[str], tokens: int) -> None:
        ids, mask = padded([tokenizer.encode(prompt) for prompt in prompts], pad, model.device)
        options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": pad}
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=mask, **options)

    return answer


if __name__ == "__main__":
    disable_progress_bar()
    kind, path, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    serve(lambda: ours(path) if kind == "ours" else transformers(path, quantized=kind == "transformers-nf4"))
