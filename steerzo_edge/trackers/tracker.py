"""What every tracker has: settings that open it, and an object that takes numbers.

A client may block or fail: it is only used by the thread of `delivery.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from steerzo_edge.config import Config
from steerzo_edge.errors import ConflictError

EndState = Literal["succeeded", "failed", "cancelled", "paused"]


@dataclass(frozen=True, slots=True)
class Point:
    """Numbers of one step.

    Args:
        step: Index of the step, from 0; evaluations count finished steps.
        numbers: Finite numbers by name, such as "train/loss".
    """

    step: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as a tracker is told of it.

    Args:
        name: For people.
        directory: The run's directory, in which a tracker may keep files.
        parameters: All settings by dotted name, as text.
        known_as: The tracker's own id of this run, if an earlier process has begun it there.
        first_step: The step of the first point that is sent, if points of this or later steps may have been sent by
            an earlier process already.
    """

    name: str
    directory: Path
    parameters: Mapping[str, str]
    known_as: str | None = None
    first_step: int | None = None


class Tracker(Protocol):
    """A run that is open in a tracker.

    Attributes:
        known_as: By which a later process goes on in the same run.
    """

    known_as: str

    def log(self, points: Sequence[Point]) -> None:
        """Takes points, in the order of their steps; returns when the client has accepted them.

        Raises:
            Exception: Whatever the client raises.
        """
        ...

    def end(self, state: EndState, summary: Mapping[str, float]) -> None:
        """Takes the final state and the evaluation of the version that was kept."""
        ...

    def close(self) -> None:
        """Releases what the client holds; called once, also after an error."""
        ...


class TrackerBase(Config):
    """Settings of a tracker.

    Attributes:
        module: The module of the client.
        extra: The extra of this package that installs it.
        places: Names of settings that choose a place to write to: a path or an address.
    """

    kind: str
    module: ClassVar[str]
    extra: ClassVar[str]
    places: ClassVar[frozenset[str]] = frozenset()

    def open(self, run: TrackedRun) -> Tracker:
        """Begins the run in the tracker, or goes on in it; may block, and raises what the client raises."""
        raise NotImplementedError

    def check_installed(self) -> None:
        """Refuses a tracker whose client is missing.

        Raises:
            ConflictError: The hint is the command that installs it.
        """
        if find_spec(self.module) is None:
            raise ConflictError(
                f"tracker {self.kind} needs the package {self.module}, which is not installed",
                hint=f'pip install "steerzo-edge[{self.extra}]"',
            )

    @property
    def key(self) -> str:
        """A file name that differs for other settings."""
        return f"{self.kind}-{sha256(self.model_dump_json().encode()).hexdigest()[:12]}"
