"""Memory needs, part by part, of a zeroth-order run and of exact gradients for the same run."""

from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import exact_needs
from steerzo_edge.estimate.memory_needs import MemoryNeeds
from steerzo_edge.estimate.work import Work, trained_by
from steerzo_edge.estimate.zeroth_order import zeroth_order_needs
from steerzo_edge.settings.profile import Profile

# On a CPU the process holds more than the live tensors: memory that libraries keep after their first use, and gaps
# in glibc's heap between short-lived tensors. Both are fitted to the grid of benchmarks/estimate_error.py.
PROCESS_BYTES = 47 << 20
GAPS = 0.83
# With back-propagation gaps take more: the process holds 1.3 to 2.7 times the live tensors (docs/estimate.md).
EXACT_GAPS = 1.5
LONG_LIVED = ("base weights", "adapter", "copies of it", "update rule", "noise", "frozen prefix")
EXACT_LONG_LIVED = ("base weights", "adapter")


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
        ProfileError: If the subset does not fit the model.
    """
    trained = trained_by(profile, body)
    batch = profile.batch.model_copy(update={"probes_per_forward": 1, "prefix_memory_mib": 0})
    lean = profile.model_copy(update={"batch": batch})
    found = (
        (zeroth_order_needs(profile, body, trained, work, device=device), GAPS, LONG_LIVED),
        (zeroth_order_needs(lean, body, trained, work, device=device), GAPS, LONG_LIVED),
        (exact_needs(profile, body, trained, work, checkpointing=False), EXACT_GAPS, EXACT_LONG_LIVED),
        (exact_needs(profile, body, trained, work, checkpointing=True), EXACT_GAPS, EXACT_LONG_LIVED),
    )
    return MemoryEstimate(*(_in_process(*each) if device == "cpu" else each[0] for each in found))


def _in_process(needs: MemoryNeeds, share: float, long_lived: tuple[str, ...]) -> MemoryNeeds:
    short_lived = sum(size for name, size in needs.items() if name not in long_lived)
    return MemoryNeeds({**needs, "gaps in the heap": round(share * short_lived), "process": PROCESS_BYTES})
