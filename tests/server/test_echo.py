"""Text completions with `echo` and with tokens as prompts, by the real `openai` client."""

from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI

from tests.conftest import Loader, byte_tokenizer
from tests.server.process import ServerProcess

ASKED: dict[str, Any] = {"model": "base", "temperature": 0}


def ids(text: str) -> list[int]:
    found: list[int] = byte_tokenizer()(text).input_ids
    return found


@pytest.mark.parametrize("length", [1, 5])
def test_tokens_are_answered_as_their_text_is(openai: OpenAI, length: int) -> None:
    for logprobs in (None, 2):
        for echo in (False, True):
            asked: dict[str, Any] = {**ASKED, "max_tokens": length, "echo": echo, "logprobs": logprobs}
            text = openai.completions.create(prompt="good =>", **asked)
            assert openai.completions.create(prompt=ids("good =>"), **asked).choices == text.choices
            assert text.choices[0].text.startswith("good =>") == echo
            several = openai.completions.create(prompt=[ids("bad"), ids("good =>")], **asked)
            assert several.choices[1].text == text.choices[0].text
            assert several.usage is not None
            assert several.usage.prompt_tokens == len("bad") + len("good =>")


@pytest.mark.parametrize("length", [0, 1, 4])
def test_prompts_have_the_log_probabilities_of_the_model(openai: OpenAI, tiny: Loader, length: int) -> None:
    """The server's base, loaded here and asked by transformers' own forward."""
    base = tiny("nf4", torch.bfloat16)
    prompts = ["good => y", "good => n", "b"]
    made = openai.completions.create(prompt=prompts, max_tokens=length, echo=True, logprobs=2, **ASKED)
    for prompt, choice in zip(prompts, made.choices, strict=True):
        found = choice.logprobs
        assert found is not None
        assert choice.text.startswith(prompt)
        assert (found.tokens or [])[: len(prompt)] == list(prompt)
        assert (found.text_offset or [])[: len(prompt)] == list(range(len(prompt)))
        values, tops = found.token_logprobs or [], found.top_logprobs or []
        assert (values[0], tops[0]) == (None, None)
        assert len(values) == len(tops) == len(found.tokens or ()) >= len(prompt) + min(length, 1)
        if length <= 1:
            assert len(values) == len(prompt) + length
        with torch.inference_mode():
            logits = base.model(input_ids=torch.tensor([ids(prompt)])).logits[0].float().log_softmax(-1)
        for place, token in enumerate(ids(prompt)[1:]):
            assert values[place + 1] == pytest.approx(float(logits[place, token]), abs=0.1)
            assert max(tops[place + 1].values()) == pytest.approx(float(logits[place].max()), abs=0.1)
            assert tops[place + 1][prompt[place + 1]] == values[place + 1]
        offsets = (found.text_offset or [])[len(prompt) :]
        assert offsets == sorted(offsets)
        assert all(len(prompt) <= offset <= len(choice.text) for offset in offsets)


def test_a_stream_echoes_what_the_whole_answer_does(openai: OpenAI) -> None:
    for length, logprobs in ((0, None), (0, 1), (1, 1), (6, None), (6, 1)):
        asked: dict[str, Any] = {**ASKED, "prompt": ["good =>", "bad"], "n": 2, "seed": 3, "temperature": 1}
        asked |= {"max_tokens": length, "logprobs": logprobs, "echo": True}
        whole = openai.completions.create(**asked)
        texts = dict.fromkeys(range(4), "")
        offsets: dict[int, list[int]] = {index: [] for index in range(4)}
        for chunk in openai.completions.create(stream=True, **asked):
            choice = chunk.choices[0]
            texts[choice.index] += choice.text
            if choice.logprobs is not None:
                offsets[choice.index] += choice.logprobs.text_offset or []
        assert [texts[choice.index] for choice in whole.choices] == [choice.text for choice in whole.choices]
        if logprobs is not None:
            assert [offsets[choice.index] for choice in whole.choices] == [
                choice.logprobs.text_offset for choice in whole.choices if choice.logprobs is not None
            ]


def test_an_adapter_scores_prompts_too(openai: OpenAI, uploaded: str) -> None:
    asked: dict[str, Any] = {"prompt": "good => y", "max_tokens": 1, "echo": True, "logprobs": 0, "temperature": 0}
    scores = {}
    for model in ("base", uploaded):
        found = openai.completions.create(model=model, **asked).choices[0].logprobs
        assert found is not None
        scores[model] = (found.token_logprobs or [])[1:]
    assert len({tuple(values) for values in scores.values()}) == 2


def test_many_prompts_are_scored_in_one_request(openai: OpenAI) -> None:
    prompts = [ids(f"good number {number} =>") for number in range(256)]
    made = openai.completions.create(prompt=prompts, max_tokens=1, echo=True, logprobs=1, **ASKED)
    assert [choice.index for choice in made.choices] == list(range(256))
    assert all(
        choice.logprobs and len(choice.logprobs.tokens or ()) == len(p) + 1
        for choice, p in zip(made.choices, prompts, strict=True)
    )


def test_more_prompts_than_the_queue_holds_are_answered(openai: OpenAI) -> None:
    prompts = [ids(f"good number {number} =>") for number in range(70)]
    made = openai.completions.create(prompt=prompts, max_tokens=3, **ASKED)
    assert [choice.index for choice in made.choices] == list(range(70))
    for place in (0, 40, 69):
        alone = openai.completions.create(prompt=prompts[place], max_tokens=3, **ASKED)
        assert made.choices[place].text == alone.choices[0].text


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"prompt": [ids("a")] * 257, "max_tokens": 1, "echo": True, "logprobs": 1}, "prompt"),
        ({"prompt": ["a"] * 33, "max_tokens": 2, "echo": True, "logprobs": 1, "stream": True}, None),
        ({"prompt": ["a"] * 129, "max_tokens": 2, "n": 2}, None),
        ({"prompt": "a", "max_tokens": 0}, None),
        ({"prompt": [1, 100_000], "max_tokens": 1}, None),
        ({"prompt": [5] * 256, "max_tokens": 1}, None),
    ],
    ids=["257 prompts", "a stream of 33 answers", "258 answers", "no token", "unknown token", "too long"],
)
def test_what_cannot_be_answered_is_refused(openai: OpenAI, parameters: dict[str, Any], param: str | None) -> None:
    with pytest.raises(BadRequestError) as error:
        openai.completions.create(model="base", **parameters)
    body: Any = error.value.body
    assert body["param"] == param or param is None
    assert len(body["message"].split()) > 5


def test_the_server_counts_scored_prompts(server: ServerProcess, openai: OpenAI) -> None:
    def read() -> float:
        text = server.client.http.get("/metrics").text
        return sum(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("steerzo_prompt_tokens_total")
        )

    before = read()
    openai.completions.create(prompt="good", max_tokens=1, echo=True, logprobs=1, **ASKED)
    assert read() == before + 4
