"""The objective section of a profile: what is minimised.

likelihood                 cross-entropy of the answers; has a gradient, and a signal in every probe
accuracy                   the share of rows with options that is answered wrong
f1, exact-match, scorer    1 - what generated answers are given
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from steerzo_edge.config import Config
from steerzo_edge.data.examples import Metric
from steerzo_edge.data.tokenization import Targets, Tokenized
from steerzo_edge.errors import ProfileError
from steerzo_edge.objectives.generated import MAX_NEW_TOKENS
from steerzo_edge.objectives.likelihood import Objective, losses
from steerzo_edge.objectives.metric_objectives import GeneratedAnswerLoss, error_rate
from steerzo_edge.objectives.scorers import SCORERS, AnswerScorer, registered_scorer


class LikelihoodConfig(Config):
    """The likelihood of the answers."""

    kind: Literal["likelihood"] = "likelihood"
    option_mass: float = Field(
        0.0,
        ge=0,
        le=1,
        description="For labelled rows: weight of -log P(any option), which teaches the model to answer with "
        "an option at all; at 0 only the choice among them is learned.",
    )


class AccuracyConfig(Config):
    """The share of rows whose likeliest option is a right one."""

    kind: Literal["accuracy"] = "accuracy"


class AnswersConfig(Config):
    """Answers that are generated greedily, for every probe."""

    max_new_tokens: int | None = Field(
        None, ge=1, le=4096, description="Longest answer; null takes the task's own, or 32."
    )


class F1Config(AnswersConfig):
    """Words that generated answers share with their references."""

    kind: Literal["f1"] = "f1"


class ExactMatchConfig(AnswersConfig):
    """The share of generated answers that are one of their references."""

    kind: Literal["exact-match"] = "exact-match"


class ScorerConfig(AnswersConfig):
    """What a scorer that the operator has registered gives the generated answers."""

    kind: Literal["scorer"] = "scorer"
    name: str = Field(min_length=1, max_length=200, description="The scorer's name, as the operator registered it.")


ObjectiveConfig = Annotated[
    LikelihoodConfig | AccuracyConfig | F1Config | ExactMatchConfig | ScorerConfig, Field(discriminator="kind")
]
AnyObjectiveConfig = LikelihoodConfig | AccuracyConfig | AnswersConfig


def build_objective(config: AnyObjectiveConfig, data: Tokenized) -> Objective:
    """The objective on rows that `prepared` has seen.

    Raises:
        ProfileError: If there is no such scorer.
    """
    if isinstance(config, LikelihoodConfig):
        return partial(losses, option_mass=config.option_mass)
    if isinstance(config, AccuracyConfig):
        return error_rate
    assert isinstance(data, Targets)
    metric = _metric(config)
    return GeneratedAnswerLoss(data, scorers_of(config)[metric], data.max_new_tokens or MAX_NEW_TOKENS)


def scorers_of(config: AnyObjectiveConfig) -> Mapping[str, AnswerScorer]:
    """What generated answers are judged by at an evaluation, by the metric's name.

    Raises:
        ProfileError: If there is no such scorer.
    """
    return {**SCORERS, "score": registered_scorer(config.name)} if isinstance(config, ScorerConfig) else SCORERS


def prepared(config: AnyObjectiveConfig, data: Tokenized, context_length: int) -> Tokenized:
    """Rows that say what their answers are judged by, where the objective decides that.

    Args:
        config: The objective.
        data: Tokenized rows.
        context_length: Of the base.

    Raises:
        ProfileError: If the objective does not fit the rows or the base, or there is no such scorer.
    """
    if isinstance(config, LikelihoodConfig):
        return data
    if isinstance(config, AccuracyConfig):
        if isinstance(data, Targets):
            raise ProfileError("objective.kind is accuracy, but the rows have no options to choose from")
        return data
    scorers_of(config)
    kind = "scorer" if isinstance(config, ScorerConfig) else _metric(config).replace("_", "-")
    if not isinstance(data, Targets) or not all(row.references for row in data.rows):
        raise ProfileError(f"objective.kind is {kind}, which needs prompt/completion rows")
    longest = config.max_new_tokens or data.max_new_tokens or MAX_NEW_TOKENS
    if longest >= context_length:
        raise ProfileError(
            f"objective.max_new_tokens is {longest}, but the base's context holds {context_length} tokens"
        )
    # The operator's own scorer says what is wanted; otherwise a task's metric stays what it is judged by.
    metric = "score" if isinstance(config, ScorerConfig) else data.metric or _metric(config)
    return replace(data, metric=metric, max_new_tokens=longest)


def _metric(config: AnswersConfig) -> Metric:
    if isinstance(config, ScorerConfig):
        return "score"
    return "exact_match" if isinstance(config, ExactMatchConfig) else "f1"
