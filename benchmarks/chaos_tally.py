"""Counts of what one mode of `benchmarks.chaos` did, and of what was lost."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of what one mode did and of what was lost in it."""

    mode: str
    jobs: int = 0
    steps: int = 0
    disturbances: int = 0
    starts: int = 0
    uploads: int = 0
    lost_steps: int = 0
    different_adapters: int = 0
    stuck_or_failed_jobs: int = 0
    lost_or_torn_uploads: int = 0
    damaged_databases: int = 0
    seconds: float = 0.0
    moments: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Everything that must be 0, added up."""
        return (
            self.lost_steps
            + self.different_adapters
            + self.stuck_or_failed_jobs
            + self.lost_or_torn_uploads
            + self.damaged_databases
        )

    def saw(self, moment: str) -> None:
        """Counts a disturbance under the moment at which it came."""
        self.disturbances += 1
        self.moments[moment] = self.moments.get(moment, 0) + 1
