"""Weights & Biases: its service, or files for `wandb sync`, by the package wandb.

A resumed run has the id of the run that an earlier process began. The service drops points of steps that it has
already. Offline, the client makes a further directory with the same id, so steps that were sent again are in both.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import uuid4

from pydantic import Field

from steerzo_edge.trackers.tracker import EndState, Point, TrackedRun, TrackerBase


class WandbConfig(TrackerBase):
    """A run in Weights & Biases."""

    kind: Literal["wandb"] = "wandb"
    project: str = Field("steerzo-edge", min_length=1, max_length=128, description="Name of the project.")
    entity: str | None = Field(
        None, min_length=1, max_length=128, description="User or team; by default that of WANDB_API_KEY."
    )
    mode: Literal["online", "offline"] = Field(
        "online", description="offline: files that `wandb sync` sends later."
    )
    directory: Path | None = Field(
        None, description="Directory of the client's files; by default the run's directory."
    )

    module: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"
    places: ClassVar[frozenset[str]] = frozenset({"directory"})

    def open(self, run: TrackedRun) -> "Wandb":
        """A run with a new id, or with that of an earlier process."""
        return Wandb(self, run)


class Wandb:
    """An open run.

    Args:
        config: Its settings.
        run: What is tracked.
    """

    def __init__(self, config: WandbConfig, run: TrackedRun) -> None:
        import wandb

        # Without a key the client would ask for one in the terminal.
        if config.mode == "online" and not wandb.login(prompt=False):
            raise PermissionError("there is no API key: set WANDB_API_KEY, or call `wandb login`")
        directory = config.directory or run.directory
        directory.mkdir(parents=True, exist_ok=True)
        self.known_as = run.known_as or uuid4().hex[:16]
        # No numbers of the machine, no source code, no copy of what the program prints.
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        self._run: Any = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=config.mode,
            dir=str(directory),
            id=self.known_as,
            name=run.name,
            config=dict(run.parameters),
            resume="allow" if config.mode == "online" else None,
            reinit="create_new",
            settings=settings,
        )
        self._code = 0

    def log(self, points: Sequence[Point]) -> None:
        """Hands points to the client, which sends or stores them in a process of its own."""
        for point in points:
            self._run.log(dict(point.numbers), step=point.step)

    def end(self, state: EndState, summary: Mapping[str, float]) -> None:
        """Sets the state and the final evaluation in the run's summary."""
        self._code = int(state == "failed")
        self._run.summary.update({"state": state, **summary})

    def close(self) -> None:
        """Ends the client's run, which waits until everything was sent or stored."""
        self._run.finish(exit_code=self._code)
