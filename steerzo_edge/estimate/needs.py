"""Needs part by part, of a zeroth-order run and of exact gradients for the same."""

from dataclasses import dataclass

from steerzo_edge.estimate.anatomy import Anatomy
from steerzo_edge.estimate.exact import exact_needs
from steerzo_edge.estimate.parts import Needs
from steerzo_edge.estimate.work import Work, trained_by
from steerzo_edge.estimate.zeroth_order import zeroth_order_needs
from steerzo_edge.settings.profile import Profile

# On a CPU the process holds more than is alive: what libraries keep once a run has gone through them, and what
# glibc's heap holds besides tensors that come and go. Both are fitted to the grid of benchmarks/estimate_error.py.
PROCESS_BYTES = 47 << 20
GAPS = 0.83
# With back-propagation the heap has more of them: 1.3 to 2.7 times what is alive (docs/estimate.md).
EXACT_GAPS = 1.5
RESTING = ("base weights", "adapter", "copies of it", "update rule", "noise", "frozen prefix")
EXACT_RESTING = ("base weights", "adapter")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run needs, and what exact gradients would.

    Args:
        zeroth_order: This profile's run.
        lean: The same with one probe in a forward and no prefix kept: the least this run can do with.
        exact: Back-propagation with Adam, the same subset and batch.
        checkpointed: The same with gradient checkpointing.
    """

    zeroth_order: Needs
    lean: Needs
    exact: Needs
    checkpointed: Needs

    @property
    def weights(self) -> int:
        """Bytes of the frozen base, which all three need."""
        return self.exact["base weights"]


def estimate(profile: Profile, body: Anatomy, work: Work, *, device: str) -> Estimate:
    """All three, for one profile.

    Args:
        profile: The settings.
        body: The model's sizes, from `anatomy`.
        work: The largest batch, from `work_of`.
        device: "cpu" or "cuda"; on the first attention holds scores, and the heap has gaps.

    Raises:
        ProfileError: If the subset does not fit the model.
    """
    trained = trained_by(profile, body)
    batch = profile.batch.model_copy(update={"probes_per_forward": 1, "prefix_memory_mib": 0})
    lean = profile.model_copy(update={"batch": batch})
    found = (
        (zeroth_order_needs(profile, body, trained, work, device=device), GAPS, RESTING),
        (zeroth_order_needs(lean, body, trained, work, device=device), GAPS, RESTING),
        (exact_needs(profile, body, trained, work, checkpointing=False), EXACT_GAPS, EXACT_RESTING),
        (exact_needs(profile, body, trained, work, checkpointing=True), EXACT_GAPS, EXACT_RESTING),
    )
    return Estimate(*(_in_process(*each) if device == "cpu" else each[0] for each in found))


def _in_process(needs: Needs, share: float, resting: tuple[str, ...]) -> Needs:
    moving = sum(size for name, size in needs.items() if name not in resting)
    return Needs({**needs, "gaps in the heap": round(share * moving), "process": PROCESS_BYTES})
