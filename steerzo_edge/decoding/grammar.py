"""Answers of a form: JSON of a schema, text that a regular expression or a grammar matches.

Before each token the library `llguidance` says which tokens may come next; the others are excluded. Each answer has
a matcher of its own, so rows of one batch may have different forms, or none.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from steerzo_edge.errors import FormError
from steerzo_edge.model.base import Base

Kind = Literal["json-schema", "regex", "grammar"]
# A model that is not sure what to write next would otherwise fill its answer with blanks.
BLANKS: Final = r"[ \n]{0,4}"
# Compiled forms that are kept for the next request with the same one.
KEPT: Final = 64
MOST_CHARACTERS: Final = 1 << 18
MOST_SHOWN: Final = 400
_LIMITS: Final = LLParserLimits(verbose_errors=False)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an answer.

    Args:
        kind: What `text` is: a JSON schema as JSON, a regular expression, or a grammar as `llguidance` takes it.
        text: The schema, the expression or the grammar.
    """

    kind: Kind
    text: str


JSON_OBJECT: Final = Form("json-schema", '{"type": "object"}')


class Matcher:
    """Follows one answer of a form.

    Args:
        matcher: At the beginning of an answer.
        vocabulary: Number of tokens that have a logit.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._excluded: Tensor | None = None

    def excluded(self, device: torch.device) -> Tensor:
        """Which tokens may not come next: (V,) bool. Calls before `take` give the same.

        Raises:
            FormError: If the form takes too much computation at this place.
        """
        if self._excluded is None:
            words = torch.zeros(-(-self._vocabulary // 32), dtype=torch.int32)
            self._matcher.unsafe_compute_mask_ptr(words.data_ptr(), words.nbytes)
            self._check()
            bits = (words.view(torch.uint8).unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
            self._excluded = (bits.view(-1)[: self._vocabulary] == 0).to(device)
        return self._excluded

    def take(self, token: int) -> None:
        """Notes that a token became part of the answer.

        Raises:
            FormError: If the token may not come next.
        """
        self._excluded = None
        self._matcher.consume_token(token)
        self._check()

    @property
    def is_complete(self) -> bool:
        """Whether the answer has the form, and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise FormError(f"the answer's form cannot be followed: {_reason(self._matcher.get_error())}")


class _Forms:
    """The forms of one base that were compiled last."""

    def __init__(self, base: Base, tokenizer: PreTrainedTokenizerBase) -> None:
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise FormError(
                f"the tokenizer of {base.name!r} cannot be used with forms of answers",
                hint="Use a base whose tokenizer is one of the library `tokenizers`.",
            )
        self.vocabulary = base.head.vocabulary
        self._tokenizer: LLTokenizer = from_tokenizer(tokenizer, self.vocabulary, sorted(base.end_tokens) or None)
        self._compiled: OrderedDict[Form, LLMatcher] = OrderedDict()
        self._lock = Lock()

    def matcher(self, form: Form) -> LLMatcher:
        """A matcher at the beginning of an answer; compiled outside the lock, so another form need not wait."""
        with self._lock:
            found = self._compiled.get(form)
        if found is None:
            found = _compiled(self._tokenizer, form)
        with self._lock:
            self._compiled[form] = found
            self._compiled.move_to_end(form)
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return found.deep_copy()


_FORMS: Final[WeakKeyDictionary[Base, _Forms]] = WeakKeyDictionary()
_MAKING: Final = Lock()


def matcher_of(
    base: Base, form: Form | None, *, tokenizer: PreTrainedTokenizerBase | None = None
) -> Matcher | None:
    """A matcher for a new answer. Any thread may call it with its own tokenizer.

    The first call for a base reads its vocabulary, which takes up to a second; a form is compiled once.

    Args:
        base: Of the answer.
        form: Of the answer; None for any text, which needs no matcher.
        tokenizer: A copy of the base's; by default the base's own.

    Raises:
        FormError: If the form is not valid, or has a part that is not supported; the message names it.
    """
    if form is None:
        return None
    with _MAKING:
        forms = _FORMS.get(base)
        if forms is None:
            forms = _FORMS[base] = _Forms(base, base.tokenizer if tokenizer is None else tokenizer)
    return Matcher(forms.matcher(form), forms.vocabulary)


def _compiled(tokenizer: LLTokenizer, form: Form) -> LLMatcher:
    if len(form.text) > MOST_CHARACTERS:
        raise FormError(f"the {form.kind} has {len(form.text):,} characters; {MOST_CHARACTERS:,} are allowed")
    try:
        grammar = _grammar(form)
    except ValueError as error:
        raise FormError(f"the {form.kind} cannot be read: {_reason(str(error))}") from None
    found = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
    if found.is_error():
        raise FormError(f"the {form.kind} cannot be used: {_reason(found.get_error())}")
    return found


def _grammar(form: Form) -> str:
    if form.kind == "regex":
        return str(LLMatcher.grammar_from_regex(form.text))
    if form.kind == "grammar":
        return str(LLMatcher.grammar_from_lark(form.text))
    schema: Any = json.loads(form.text)
    if isinstance(schema, dict):
        schema.pop("x-guidance", None)  # options of the library, which are not a request's to set
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_pattern": BLANKS}))


def _reason(text: str) -> str:
    """The library's words on one line, without the marks that point at a place of the line above."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" |^")]
    return " ".join(lines)[:MOST_SHOWN] or "no reason is given"
