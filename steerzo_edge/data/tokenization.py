"""Text to token ids, once for a dataset: which tokens are read, and which count in the loss.

Rows that do not fit are cut on the left of the prompt, never in the target, and counted. What the prompt ends
with (the question, the template's last words) is what the answer hangs on. Plain texts are all target: one that
does not fit becomes several sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from steerzo_edge.data.examples import (
    Chat,
    Completion,
    Dataset,
    Example,
    Labelled,
    Message,
    Metric,
    MultipleChoice,
    Plain,
)
from steerzo_edge.errors import DatasetError, Fault, InputError

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A sequence and the tokens of it that count.

    Args:
        tokens: The whole sequence.
        counted: For each token, whether it is a target; never the first one.
        prompt: The prompt's text, for completions.
        references: Answers that count as right when one is generated; empty for conversations and plain texts.
    """

    tokens: Tokens
    counted: tuple[bool, ...]
    prompt: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt and which of the dataset's options is right."""

    prompt: Tokens
    answer: int


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, choices of its own, and which of them are right; the first of those is learned."""

    prompt: Tokens
    choices: tuple[Tokens, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """Completion, chat and plain rows, ready for batches.

    Args:
        rows: One sequence each; a long plain text is several.
        truncated: How many were cut to fit.
        metric: What generated answers are judged by first; None where the loss alone counts.
        max_new_tokens: Longest answer that is generated, where the rows themselves say so.
    """

    rows: tuple[Target, ...]
    truncated: int = 0
    metric: Metric | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """Classification rows, ready for batches.

    Args:
        rows: One prompt each.
        options: The tokens of each option, shared by all rows.
        labels: The label each option stands for.
        truncated: How many prompts were cut to fit.
        metric: What they are judged by first; f1 is that of the second of two options.
    """

    rows: tuple[Choice, ...]
    options: tuple[Tokens, ...]
    labels: tuple[str, ...]
    truncated: int = 0
    metric: Metric = "accuracy"


@dataclass(frozen=True, slots=True)
class Questions:
    """Multiple-choice rows, ready for batches.

    Args:
        rows: One prompt each, with its choices.
        truncated: How many prompts were cut to fit.
        metric: What they are judged by first.
    """

    rows: tuple[Question, ...]
    truncated: int = 0
    metric: Metric = "accuracy"


Tokenized = Targets | Choices | Questions


def tokenize(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str] = ()
) -> Tokenized:
    """Tokenizes every row.

    Args:
        dataset: What to tokenize.
        tokenizer: Of the base.
        max_tokens: Longest sequence, prompt and target together.
        labels: The classes to choose from, where the rows at hand may not show all of them; by default
            those that occur.

    Raises:
        DatasetError: Naming every row whose target alone does not fit, or is empty.
        TaskError: If the task's options do not fit the labels.
    """
    if dataset.task is not None:
        return _choices(dataset, tokenizer, max_tokens, labels or dataset.labels)
    if dataset.kind == "multiple-choice":
        return _questions(dataset, tokenizer, max_tokens)
    if dataset.kind == "plain":
        return _texts(dataset, tokenizer, max_tokens)
    return _targets(dataset, tokenizer, max_tokens)


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """A prompt's tokens, with the marks the tokenizer puts at the start of a text."""
    return tuple(tokenizer(text).input_ids)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """The tokens of a text that goes on behind others."""
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer_next: bool) -> str:
    """A conversation in the tokenizer's own chat template.

    Args:
        tokenizer: Of the base.
        messages: The turns so far.
        answer_next: Whether to end where the assistant begins to speak.

    Raises:
        InputError: If the base has no chat template, or it refuses these turns.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "this base model has no chat template",
            hint="Use prompt/completion rows, or a base that was trained on conversations.",
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next)
    except Exception as error:  # templates raise what they like, TemplateError among it
        raise InputError(f"the chat template refuses these messages: {error}") from error
    return str(text)


def _targets(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Targets:
    rows: list[Target] = []
    faults: list[Fault] = []
    truncated = 0
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        pieces = _pieces(example, tokenizer)
        target = _fit(pieces, max_tokens)
        if target is None:
            length = sum(len(tokens) for tokens, counted in pieces if counted)
            found = f"{length} target tokens" if length else "no target tokens"
            faults.append(Fault(f"line {line}", "", found, f"at most {max_tokens - 1} fit beside the prompt"))
            continue
        if isinstance(example, Completion):
            target = replace(target, prompt=example.prompt, references=example.accepted)
        rows.append(target)
        truncated += len(target.tokens) < sum(len(tokens) for tokens, _ in pieces)
    if faults:
        raise _too_long("target", faults, max_tokens)
    return Targets(tuple(rows), truncated, dataset.metric, dataset.max_new_tokens)


def _texts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Targets:
    rows: list[Target] = []
    faults: list[Fault] = []
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        assert isinstance(example, Plain)
        tokens = prompt_tokens(tokenizer, example.text) + _end(tokenizer)
        if len(tokens) < 2 or max_tokens < 2:
            faults.append(
                Fault(f"line {line}", "text", f"{len(tokens)} tokens", "at least 2 are needed to learn from")
            )
            continue
        rows += _windows(tokens, max_tokens)
    if faults:
        raise _too_long("text", faults, max_tokens)
    return Targets(tuple(rows))


def _windows(tokens: Tokens, max_tokens: int) -> list[Target]:
    """Each begins with the last token of the one before, so that every token but the first counts once."""
    found = []
    for start in range(0, len(tokens) - 1, max_tokens - 1):
        window = tokens[start : start + max_tokens]
        found.append(Target(window, (False, *[True] * (len(window) - 1))))
    return found


def _questions(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Questions:
    rows: list[Question] = []
    faults: list[Fault] = []
    truncated = 0
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        assert isinstance(example, MultipleChoice)
        choices = tuple(answer_tokens(tokenizer, choice) for choice in example.choices)
        longest = max(len(choice) for choice in choices)
        if longest >= max_tokens or not all(choices):
            found = f"a choice of {longest if all(choices) else 0} tokens"
            faults.append(Fault(f"line {line}", "", found, f"1 to {max_tokens - 1} fit beside the prompt"))
            continue
        prompt = prompt_tokens(tokenizer, example.prompt)
        room = max_tokens - longest
        truncated += len(prompt) > room
        rows.append(Question(prompt[-room:], choices, example.answers))
    if faults:
        raise _too_long("choice", faults, max_tokens)
    return Questions(tuple(rows), truncated, dataset.metric or "accuracy")


def _too_long(what: str, faults: Sequence[Fault], max_tokens: int) -> DatasetError:
    return DatasetError(
        f"{len(faults)} rows have a {what} that does not fit into {max_tokens} tokens; {faults[0]}",
        faults=faults[:100],
        hint=f"Shorten the {what}s or raise batch.max_tokens.",
    )


def _choices(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int, labels: Sequence[str]
) -> Choices:
    assert dataset.task is not None
    answers = dataset.task.answers(labels)
    options = tuple(answer_tokens(tokenizer, answer) for answer in answers.values())
    room = max_tokens - max(len(option) for option in options)
    if room < 1:
        raise DatasetError(
            f"an option of {max_tokens - room} tokens leaves no room for a prompt in {max_tokens} tokens",
            hint="Use shorter option words or raise batch.max_tokens.",
        )
    order = {label: index for index, label in enumerate(answers)}
    rows, truncated = [], 0
    for line, example in zip(dataset.lines, dataset.examples, strict=True):
        assert isinstance(example, Labelled)
        if example.label not in order:
            raise DatasetError(
                f"label {example.label!r} does not occur in the training rows",
                faults=[Fault(f"line {line}", "label", repr(example.label), f"one of {', '.join(order)}")],
            )
        prompt = prompt_tokens(tokenizer, dataset.task.prompt(example.text))
        truncated += len(prompt) > room
        rows.append(Choice(prompt[-room:], order[example.label]))
    return Choices(tuple(rows), options, tuple(answers), truncated, dataset.metric or "accuracy")


def _pieces(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Tokens, bool]]:
    """A row as runs of tokens, each counted or not."""
    end = _end(tokenizer)
    if isinstance(example, Completion):
        prompt = prompt_tokens(tokenizer, example.prompt)
        return [(prompt, False), (answer_tokens(tokenizer, example.completion) + end, True)]
    assert isinstance(example, Chat)
    pieces: list[tuple[Tokens, bool]] = []
    written = ""
    for index, message in enumerate(example.messages):
        if message.role != "assistant":
            continue
        before = chat_text(tokenizer, example.messages[:index], answer_next=True)
        after = chat_text(tokenizer, example.messages[: index + 1], answer_next=False)
        if not (before.startswith(written) and after.startswith(before)):
            # Templates that rewrite earlier turns cannot be cut this way: only the last answer counts then.
            pieces, before = [], chat_text(tokenizer, example.messages[:-1], answer_next=True)
            after, written = before + example.messages[-1].content, ""
            pieces.append((answer_tokens(tokenizer, before), False))
            pieces.append((answer_tokens(tokenizer, example.messages[-1].content) + end, True))
            return pieces
        pieces.append((answer_tokens(tokenizer, before[len(written) :]), False))
        pieces.append((answer_tokens(tokenizer, after[len(before) :]), True))
        written = after
    return pieces


def _end(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    return () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)


def _fit(pieces: Sequence[tuple[Tokens, bool]], max_tokens: int) -> Target | None:
    """One sequence of at most `max_tokens`, cut on the left; None if a target would have to go."""
    tokens = tuple(token for run, _ in pieces for token in run)
    counted = tuple(flag for run, flag in pieces for _ in run)
    if not any(counted):
        return None
    excess = max(0, len(tokens) - max_tokens)
    # The first token of all cannot be a target: nothing stands before it.
    if any(counted[: excess + 1]):
        return None
    return Target(tokens[excess:], counted[excess:])
