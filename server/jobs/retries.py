"""Decides whether a failed job is tried again, and how long it waits before that."""

from dataclasses import dataclass

from steerzo_edge.errors import CapacityError, SteerzoError, StorageError

TRANSIENT = (CapacityError, StorageError)
LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how soon a job is tried again after a transient error (memory, disk).

    Args:
        most: Attempts after the first.
        delay_s: Before the second attempt; doubled for each further one.
    """

    most: int = 6
    delay_s: float = 10.0

    def next_in_s(self, error: SteerzoError, attempts: int) -> float | None:
        """How long to wait before the next attempt.

        Args:
            error: The error that ended the present attempt.
            attempts: Consecutive failed attempts before the present one.

        Returns:
            Seconds, 3600 at most; None if the job is not tried again.
        """
        if not isinstance(error, TRANSIENT) or attempts >= self.most:
            return None
        return min(self.delay_s * 2.0**attempts, LONGEST_S)
