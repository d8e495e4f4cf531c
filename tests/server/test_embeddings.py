"""Embeddings, by the real `openai` client."""

import math
from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI

from tests.conftest import Loader, byte_tokenizer

TEXTS = ["good", "a longer text", "b"]


def expected(tiny: Loader, text: str, pooling: str) -> list[float]:
    """By transformers' own forward of the server's base."""
    base = tiny("nf4", torch.bfloat16)
    with torch.inference_mode():
        ids = torch.tensor([byte_tokenizer()(text).input_ids])
        states = base.model.base_model(input_ids=ids).last_hidden_state[0].float()
    vector = states.mean(0) if pooling == "mean" else states[-1]
    found: list[float] = (vector / vector.norm()).tolist()
    return found


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_embeddings_are_pooled_hidden_states(openai: OpenAI, tiny: Loader, pooling: str) -> None:
    made = openai.embeddings.create(model="base", input=TEXTS, extra_body={"pooling": pooling})
    assert [one.index for one in made.data] == [0, 1, 2]
    assert made.usage.prompt_tokens == made.usage.total_tokens == sum(map(len, TEXTS))
    for text, one in zip(TEXTS, made.data, strict=True):
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5)
        assert one.embedding == pytest.approx(expected(tiny, text, pooling), abs=0.02)
    # The client asks for base64 by default; as numbers they are the same.
    plain = openai.embeddings.create(
        model="base", input=TEXTS, encoding_format="float", extra_body={"pooling": pooling}
    )
    for one, other in zip(made.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_tokens_and_adapters(openai: OpenAI, uploaded: str) -> None:
    text = openai.embeddings.create(model="base", input="good").data[0].embedding
    ids = byte_tokenizer()("good").input_ids
    assert openai.embeddings.create(model="base", input=ids).data[0].embedding == pytest.approx(text, abs=1e-5)
    assert openai.embeddings.create(model=uploaded, input="good").data[0].embedding != text


@pytest.mark.parametrize(
    "parameters",
    [{"input": ""}, {"input": []}, {"dimensions": 8}, {"encoding_format": "hex"}, {"input": [100_000]}],
)
def test_what_is_refused(openai: OpenAI, parameters: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        openai.embeddings.create(**{"model": "base", "input": "a", **parameters})
