"""What every objective provides: a section of the profile, and the loss that is built from it.

A new objective is one file in this directory, with a subclass of `ObjectiveConfig` and the loss that it builds, and
one line with its import in `settings/objectives.py`. The engine and the estimate ask the config and never look at
its class.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

from torch import Tensor

from steerzo_edge.config import Config
from steerzo_edge.data.batches import Batch
from steerzo_edge.data.tokenization import Tokenized
from steerzo_edge.model.base import Base, HiddenStates
from steerzo_edge.objectives.scorers import SCORERS, AnswerScorer


class Objective(Protocol):
    """A loss that a run minimises: one number for each of K perturbed versions of the parameters."""

    def __call__(self, base: Base, batch: Batch, copies: int, hidden_states: HiddenStates | None, /) -> Tensor:
        """Computes the loss of each of K stacked versions, under the bank's active route.

        Args:
            base: The frozen model; its bank has the K versions active.
            batch: One batch, the same for all versions.
            copies: K.
            hidden_states: Hidden states of this batch that were computed before; they enter a layer that is not
                above the lowest perturbed one. None computes them here.

        Returns:
            (K,) float32.
        """
        ...


class ObjectiveConfig(Config):
    """The `objective` section of a profile.

    A subclass adds `kind`, a `Literal` with its default, and its own settings.

    Attributes:
        kind: The name of the objective in profiles, in kebab-case.
        differentiable: Whether back-propagation could compute a gradient of it.
        generates: Whether the loss generates text. Such a loss begins at the embedding, so it cannot use the hidden
            states of frozen layers that were computed before.
        by_score: Whether the watcher compares evaluations by their score; if not, by their loss.
    """

    if TYPE_CHECKING:
        kind: str
    differentiable: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    by_score: ClassVar[bool] = False

    def prepare(self, rows: Tokenized, context_length: int) -> Tokenized:
        """Checks that the objective fits the rows, and returns them with what it adds to them.

        Args:
            rows: Tokenized rows, for training or for validation.
            context_length: Of the base, in tokens.

        Raises:
            ProfileError: If the objective does not fit the rows or the base.
        """
        return rows

    @abstractmethod
    def build(self, rows: Tokenized) -> Objective:
        """Builds the loss.

        Args:
            rows: The training rows, as `prepare` returned them; batches name their rows by index.
        """

    def scorers(self) -> Mapping[str, AnswerScorer]:
        """The scorers that evaluations give generated answers to, by the name of the metric.

        Raises:
            ProfileError: If a scorer is not registered.
        """
        return SCORERS

    @property
    def any_option_weight(self) -> float:
        """Weight of -log P(any option) in the loss of labelled rows that evaluations report; 0 leaves it out.

        Above 0, the output head scores the whole vocabulary at each prompt's end, which takes memory.
        """
        return 0.0

    @property
    def answer_tokens(self) -> int:
        """Most tokens that are generated for each row and probe of a step: each is one more forward."""
        return 0
