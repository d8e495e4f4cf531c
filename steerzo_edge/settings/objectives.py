"""The objective section of a profile: every objective that can be named, one line each."""

from typing import Annotated

from pydantic import Field

from steerzo_edge.objectives.accuracy import AccuracyConfig
from steerzo_edge.objectives.generated import ExactMatchConfig, F1Config, ScorerConfig
from steerzo_edge.objectives.likelihood import LikelihoodConfig

AnyObjectiveConfig = Annotated[
    LikelihoodConfig
    | AccuracyConfig
    | F1Config
    | ExactMatchConfig
    | ScorerConfig,
    Field(discriminator="kind"),
]  # fmt: skip
