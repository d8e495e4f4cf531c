"""The JSON body of a sweep: that of a job, and what is tried."""

from typing import Any, Self

from pydantic import Field, model_validator

from server.services.request_bodies import JobBody
from steerzo_edge.sweep.grid import MOST_RUNS, Changes, combinations, crossed, flat


class SweepBody(JobBody):
    """Jobs that differ in their settings; the other fields are those of a job."""

    grid: dict[str, list[Any]] | None = Field(
        None, description='Values by setting, all of which are combined: {"rule.learning_rate": [0.005, 0.01]}.'
    )
    each: list[dict[str, Any]] | None = Field(
        None, min_length=1, max_length=MOST_RUNS, description="Settings of each job; with `grid`, combined with it."
    )
    most_steps: int | None = Field(None, ge=1, description="Steps after which each job ends.")
    most_seconds: float | None = Field(
        None, gt=0, description="Seconds of training after which each job is evaluated and ends."
    )

    @model_validator(mode="after")
    def _something_to_try(self) -> Self:
        if not self.grid and not self.each:
            raise ValueError("send grid, each, or both")
        return self

    @property
    def settings(self) -> list[Changes]:
        """The settings of each job, with dotted keys.

        Raises:
            ProfileError: If these are too many jobs.
        """
        listed: list[Changes] = [{}] if self.each is None else [flat(one) for one in self.each]
        return crossed(listed, combinations(self.grid)) if self.grid else listed

    def job(self) -> JobBody:
        """The fields that it has in common with a job."""
        return JobBody.model_construct(**{name: getattr(self, name) for name in JobBody.model_fields})
