"""Log-probabilities over HTTP: /generate, and both completions asked by the real `openai` client."""

import json
from typing import Any

import pytest
import torch
from openai import OpenAI

from server.commands.client import Client
from steerzo_edge.model.base import Base
from tests.conftest import Loader

GREETING: list[Any] = [{"role": "user", "content": "good"}]


def spelled(token: str) -> bytes:
    """A token of a completion, of which parts of characters are written by their bytes."""
    if not token.startswith("bytes:"):
        return token.encode()
    return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))


def test_generate_returns_log_probabilities(client: Client) -> None:
    body = {"prompt": "good =>", "max_new_tokens": 8, "logprobs": 2}
    whole = client.post("/generate", body)
    assert whole["text"] == "".join(one["token"] for one in whole["logprobs"])
    for one in whole["logprobs"]:
        assert bytes(one["bytes"]).decode(errors="replace") == one["token"]
        assert [other["logprob"] for other in one["top_logprobs"]] == sorted(
            (other["logprob"] for other in one["top_logprobs"]), reverse=True
        )
        assert len(one["top_logprobs"]) == 2
        assert one["logprob"] == one["top_logprobs"][0]["logprob"]  # the likeliest was taken
    lines = client.http.post("/generate", json={**body, "stream": True}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [one for event in events[:-1] for one in event["logprobs"]] == whole["logprobs"]
    assert events[-1] == whole
    plain = client.post("/generate", {**body, "logprobs": None})
    assert "logprobs" not in plain
    assert plain["text"] == whole["text"]
    assert client.http.post("/generate", json={**body, "logprobs": 21}).status_code == 422


def test_chat_log_probabilities_have_openais_form(openai: OpenAI) -> None:
    asked: dict[str, Any] = {"messages": GREETING, "max_tokens": 8, "temperature": 0, "logprobs": True}
    whole = openai.chat.completions.create(model="base", top_logprobs=3, **asked).choices[0]
    assert whole.logprobs is not None
    content = whole.logprobs.content
    assert content
    assert "".join(one.token for one in content) == whole.message.content
    assert all(len(one.top_logprobs) == 3 for one in content)
    # What a random model says may hold a part of a character, which is shown as a replacement character.
    assert all(one.bytes == list(one.token.encode()) or "\ufffd" in one.token for one in content)
    assert all(one.logprob == one.top_logprobs[0].logprob <= 0 for one in content)
    chunks = openai.chat.completions.create(model="base", top_logprobs=3, stream=True, **asked)
    streamed = [
        one for chunk in chunks if (found := chunk.choices[0].logprobs) is not None for one in found.content or ()
    ]
    assert streamed == content
    bare = openai.chat.completions.create(model="base", **asked).choices[0]
    assert bare.logprobs is not None
    assert [one.logprob for one in bare.logprobs.content or ()] == [one.logprob for one in content]
    assert all(one.top_logprobs == [] for one in bare.logprobs.content or ())
    without = openai.chat.completions.create(model="base", messages=GREETING, max_tokens=2).choices[0]
    assert without.logprobs is None


def test_text_log_probabilities_have_openais_form(openai: OpenAI) -> None:
    asked: dict[str, Any] = {"prompt": ["good =>", "bad"], "max_tokens": 8, "temperature": 0, "n": 2}
    whole = openai.completions.create(model="base", logprobs=2, **asked)
    for choice in whole.choices:
        found = choice.logprobs
        assert found is not None
        assert found.tokens
        assert b"".join(map(spelled, found.tokens)).decode(errors="replace") == choice.text
        offsets = found.text_offset or []
        assert offsets == sorted(offsets)
        assert (len(offsets), offsets[0]) == (len(found.tokens), 0)
        for token, logprob, top in zip(
            found.tokens, found.token_logprobs or (), found.top_logprobs or (), strict=True
        ):
            assert top[token] == logprob == max(top.values())
    parts: dict[int, list[str]] = {index: [] for index in range(4)}
    for chunk in openai.completions.create(model="base", logprobs=0, stream=True, **asked):
        if (found := chunk.choices[0].logprobs) is not None:
            assert found.top_logprobs is None
            parts[chunk.choices[0].index] += found.tokens or []
    assert [parts[choice.index] for choice in whole.choices] == [
        choice.logprobs.tokens for choice in whole.choices if choice.logprobs is not None
    ]


def test_log_probabilities_equal_the_models(openai: OpenAI, tiny: Loader) -> None:
    """The server's base, loaded here and asked by transformers' own forward."""
    base: Base = tiny("nf4", torch.bfloat16)
    made = openai.completions.create(model="base", prompt="good =>", max_tokens=1, temperature=0, logprobs=0)
    found = made.choices[0].logprobs
    assert found is not None
    with torch.inference_mode():
        ids = base.tokenizer("good =>", return_tensors="pt").input_ids
        expected = base.model(input_ids=ids).logits[0, -1].float().log_softmax(-1).max()
    assert (found.token_logprobs or [0.0])[0] == pytest.approx(float(expected), abs=0.05)
