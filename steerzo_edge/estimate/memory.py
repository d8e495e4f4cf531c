"""Memory needs, part by part, of a zeroth-order run and of exact gradients for the same run."""

from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import exact_needs
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.plan import leanest, planned, run_needs
from steerzo_edge.estimate.work import Work, trained_by
from steerzo_edge.estimate.zeroth_order import exact_in_process
from steerzo_edge.settings.profile import Profile


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory needs of a run, and of exact gradients instead.

    Args:
        zeroth_order: This profile's run.
        lean: The same run with one probe per forward and no prefix in memory: the least that it can run with.
        exact: Back-propagation with Adam, the same subset and batch.
        checkpointed: The same with gradient checkpointing.
    """

    zeroth_order: MemoryNeeds
    lean: MemoryNeeds
    exact: MemoryNeeds
    checkpointed: MemoryNeeds

    @property
    def weights(self) -> int:
        """Bytes of the frozen base, which all of them need."""
        return self.exact["base weights"]


def estimate(profile: Profile, body: Anatomy, work: Work, *, device: str) -> MemoryEstimate:
    """Estimates the memory needs of one profile.

    Args:
        profile: The settings.
        body: The model's sizes, from `anatomy`.
        work: The largest batch, from `work_of`.
        device: "cpu" or "cuda"; on a CPU attention holds its scores, and the heap has gaps.

    Raises:
        ProfileError: If the subset does not fit the model, or the run not into the size that `memory` names.
    """
    trained = trained_by(profile, body)
    plans = planned(profile, body, work, device=device), leanest(profile, work)
    own = [run_needs(profile, body, trained, work, plan, device=device) for plan in plans]
    exact = [
        exact_needs(profile, body, trained, work, checkpointing=checkpointing) for checkpointing in (False, True)
    ]
    if device == "cpu":
        exact = [exact_in_process(needs, body) for needs in exact]
    return MemoryEstimate(*own, *exact)
