"""Log-probabilities and embeddings of whole texts: many texts in one forward pass, as evaluations compute them.

Texts are packed without padding. Texts that begin alike become one row that forks, so that what they share is
computed once: an evaluation of a multiple choice sends its question again with every choice.

    texts       q q q a a      q q q b      r r
    rows       [q q q|a a|b]               [r r]

A text's numbers may differ in rounding from those of `decoder.py`, which reads it in chunks into a cache, and by
which texts it shares a row with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from steerzo_edge.data.packing import Fork, pack, starts
from steerzo_edge.data.tokens import Tokens
from steerzo_edge.decoding.answer import Generation, PartialAnswer
from steerzo_edge.decoding.forward import not_finite
from steerzo_edge.decoding.grammar import matcher_of
from steerzo_edge.decoding.logprobs import Likely, TokenLogprob, logprobs_of
from steerzo_edge.decoding.sampling import Chooser, Sampling, chosen
from steerzo_edge.model.base import Base
from steerzo_edge.model.patches import Patches
from steerzo_edge.model.routes import uniform

# How many query-key pairs of attention take as long as the linear layers of one token: about 1,600 in the bundled
# base, 3,000 in SmolLM2-135M.
PAIRS_OF_A_TOKEN = 1500
Pooling = Literal["mean", "last"]


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A text to score.

    Args:
        tokens: At least one, and at most the context.
        likeliest: For how many of the likeliest tokens at each place log-probabilities are returned, besides the
            text's own; None for no log-probabilities.
        pooling: How the last hidden states become an embedding: their mean, or that of the last token; None for no
            embedding.
        samplings: How the token after the text is chosen, for each answer; `max_new_tokens` must be 1.
    """

    tokens: Tokens
    likeliest: int | None = 0
    samplings: tuple[Sampling, ...] = ()
    pooling: Pooling | None = None


@dataclass(frozen=True, slots=True)
class NextToken:
    """An answer of one token.

    Args:
        made: The answer.
        logprob: Of its token, also if that ended the text.
    """

    made: Generation
    logprob: TokenLogprob


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored text.

    Args:
        logprobs: One for each token but the first, which no token precedes; empty if not requested. Offsets are 0.
        answers: One for each sampling of the request.
        embedding: Of the text, of length 1; empty if not requested.
    """

    logprobs: tuple[TokenLogprob, ...]
    answers: tuple[NextToken, ...] = ()
    embedding: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedRow:
    """Texts that begin alike, as one row.

    Args:
        texts: The index of each text.
        fork: What they share, and the rest of each; a single text does not fork.
    """

    texts: tuple[int, ...]
    fork: Fork


def shared_rows(texts: Sequence[Tokens]) -> list[SharedRow]:
    """Gathers texts that begin alike, where computing the beginning once saves more than wider attention costs.

    Args:
        texts: None empty.
    """
    found: list[SharedRow] = []
    group: list[int] = []
    stem: Tokens = ()
    for index in sorted(range(len(texts)), key=lambda i: texts[i]):
        common = _common(stem, texts[index])
        if group and _saved(texts, [*group, index], common) > _saved(texts, group, len(stem)):
            group.append(index)
            stem = stem[:common]
            continue
        if group:
            found.append(_row(texts, group, len(stem)))
        group, stem = [index], texts[index]
    return [*found, _row(texts, group, len(stem))] if group else found


def parts_of(rows: Sequence[SharedRow], most: int) -> list[list[SharedRow]]:
    """Distributes rows over forwards, rows of similar length together.

    Args:
        rows: In any order.
        most: Most tokens of a forward, unless a single row has more.
    """
    parts: list[list[SharedRow]] = []
    filled = 0
    for row in sorted(rows, key=lambda row: len(row.fork.tokens)):
        length = len(row.fork.tokens)
        if not parts or filled + length > most:
            parts.append([])
            filled = 0
        parts[-1].append(row)
        filled += length
    return parts


@torch.inference_mode()
def scored(
    base: Base, requests: Sequence[ScoringRequest], rows: Sequence[SharedRow], adapter: Patches | None = None
) -> dict[int, Scored]:
    """Scores the texts of some rows in one forward.

    Args:
        base: The frozen model; only the thread that owns it may call this.
        requests: All texts.
        rows: Of some of these texts, from `shared_rows`; at least one.
        adapter: Patches of one version; None is the bare base.

    Returns:
        For the index of each text of these rows its numbers.

    Raises:
        NotFiniteError: If the model's numbers are not finite.
    """
    packed = pack([row.fork for row in rows], base.device)
    with base.bank.route(uniform(adapter)):
        hidden = base.hidden(packed)[0]  # (S, D)
    if not hidden.isfinite().all():
        raise not_finite(adapter)
    places: list[list[int]] = []
    texts: list[int] = []
    for start, row in zip(starts(packed.rows), rows, strict=True):
        stem = len(row.fork.stem)
        branch = start + stem
        for text, rest in zip(row.texts, row.fork.branches or ((),), strict=True):
            texts.append(text)
            places.append([*range(start, start + stem), *range(branch, branch + len(rest))])
            branch += len(rest)
    asked = [requests[text] for text in texts]
    logprobs = _prompt_logprobs(base, hidden, asked, places)
    answers = _next_tokens(base, hidden, asked, [own[-1] for own in places])
    pooled = [_embedding(hidden, request.pooling, own) for request, own in zip(asked, places, strict=True)]
    found = map(Scored, logprobs, answers, pooled)
    return dict(zip(texts, found, strict=True))


def _embedding(hidden: Tensor, pooling: Pooling | None, places: Sequence[int]) -> tuple[float, ...]:
    if pooling is None:
        return ()
    chosen = places if pooling == "mean" else places[-1:]
    mean = hidden.index_select(0, torch.tensor(chosen, device=hidden.device)).float().mean(0)
    return tuple(torch.nn.functional.normalize(mean, dim=0).tolist())


def _prompt_logprobs(
    base: Base, hidden: Tensor, requests: Sequence[ScoringRequest], places: Sequence[Sequence[int]]
) -> list[tuple[TokenLogprob, ...]]:
    """Of each text's tokens but the first; a place and token that texts share are computed once."""
    pairs: dict[tuple[int, int], int] = {}
    own = [
        [pairs.setdefault(pair, len(pairs)) for pair in zip(at, request.tokens[1:], strict=False)]
        if request.likeliest is not None
        else []
        for request, at in zip(requests, places, strict=True)
    ]
    if not pairs:
        return [() for _ in requests]
    at, targets = torch.tensor(list(pairs), device=hidden.device).T
    count = min(max(request.likeliest or 0 for request in requests), base.head.vocabulary)
    found = [part.tolist() for part in base.head.likeliest(hidden.index_select(0, at), targets, count)]
    tokens = [token for _, token in pairs]
    made = [
        TokenLogprob(Likely(token, logprob), tuple(map(Likely, ids, values)))
        for token, logprob, values, ids in zip(tokens, *found, strict=True)
    ]
    return [
        tuple(replace(made[place], likeliest=made[place].likeliest[: request.likeliest or 0]) for place in numbers)
        for request, numbers in zip(requests, own, strict=True)
    ]


def _next_tokens(
    base: Base, hidden: Tensor, requests: Sequence[ScoringRequest], ends: Sequence[int]
) -> list[tuple[NextToken, ...]]:
    """The answers of one token, to the texts that have any."""
    asked = [place for place, request in enumerate(requests) for _ in request.samplings]
    if not asked:
        return [() for _ in requests]
    samplings = [sampling for request in requests for sampling in request.samplings]
    last = hidden.index_select(0, torch.tensor([ends[place] for place in asked], device=hidden.device))
    scores = base.head.rows(last)
    choosers = [Chooser(sampling, base.device, matcher_of(base, sampling.form)) for sampling in samplings]
    tokens = chosen(scores, choosers)
    logprobs = logprobs_of(scores, tokens, [requests[place].likeliest or 0 for place in asked])
    found: list[list[NextToken]] = [[] for _ in requests]
    for place, sampling, token, logprob in zip(asked, samplings, tokens, logprobs, strict=True):
        assert logprob is not None
        answer = PartialAnswer(base.tokenizer, base.end_tokens, sampling)
        answer.put(token, logprob)
        found[place].append(NextToken(answer.finished(len(requests[place].tokens)), logprob))
    return [tuple(answers) for answers in found]


def _common(one: Tokens, other: Tokens) -> int:
    """How many tokens two texts begin with alike."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _saved(texts: Sequence[Tokens], group: Sequence[int], stem: int) -> int:
    """What one row for these texts saves, in query-key pairs; 0 for one text."""
    lengths = [len(texts[index]) for index in group]
    width = stem + sum(length - stem for length in lengths)
    return PAIRS_OF_A_TOKEN * (sum(lengths) - width) - (width**2 - sum(length**2 for length in lengths))


def _row(texts: Sequence[Tokens], group: Sequence[int], stem: int) -> SharedRow:
    if len(group) == 1:
        return SharedRow(tuple(group), Fork(texts[group[0]]))
    return SharedRow(tuple(group), Fork(texts[group[0]][:stem], tuple(texts[index][stem:] for index in group)))
