"""A new method is one file in `zo/strategies`, and one line with its import in `zo/methods.py`."""

import json
from pathlib import Path

from tests.seams.copied import add_line, copied_package, run_in

METHOD = '''
"""The best of a pool, as it is: pool forward passes a step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from steerzo_edge.zo.direction import Direction
from steerzo_edge.zo.method import Method, PoolSize
from steerzo_edge.zo.strategy import Carry, Dialogue, Estimate, Probe, Strategy, usable


@dataclass(frozen=True, slots=True)
class BestOf:
    """A step towards the best candidate."""

    epsilon: float
    pool: int = 3

    @property
    def cost(self) -> int:
        """Forward passes a step."""
        return self.pool

    @property
    def seeds(self) -> int:
        """Seeds that a step draws."""
        return self.pool

    def propose(self, seeds: Iterator[int], carry: Carry) -> Dialogue:
        """See `Strategy.propose`."""
        directions = [Direction.seeded(next(seeds)) for _ in range(self.pool)]
        losses = yield [Probe(z, self.epsilon) for z in directions]
        pool = usable(directions, losses)
        best = min(range(len(pool.losses)), key=pool.losses.__getitem__)
        return Estimate(-1.0 * pool.directions[best], pool.losses[best], 1.0, spread=pool.spread)


class BestOfConfig(Method):
    """The best of a pool: pool forwards a step."""

    kind: Literal["best-of"] = "best-of"
    pool: PoolSize = 3

    def strategy(self, epsilon: float) -> Strategy:
        """See `Method.strategy`."""
        return BestOf(epsilon, self.pool)
'''

PROGRAM = """
import json, sys
from pathlib import Path
from steerzo_edge.model.load import load_base
from steerzo_edge.run import Run
from steerzo_edge.settings.profile import resolve
from tests.conftest import completion_rows

base = load_base(sys.argv[1], quantization="none", device="cpu")
profile = resolve(
    {"method": {"kind": "best-of", "epsilon": 0.01}, "rule": {"learning_rate": 0.01},
     "batch": {"examples": 2, "max_tokens": 64}, "steps": 3, "evaluate": {"holdout": 0}}
)
run = Run(Path(sys.argv[2]), base, profile, completion_rows())
records = list(run.records())
print(json.dumps({"forwards": records[-1].forwards, "cost": profile.method.cost, "seeds": profile.method.seeds}))
run.close()
"""


def test_a_method_is_one_file_and_one_line(tmp_path: Path, tiny_path: Path) -> None:
    root = copied_package(tmp_path)
    (root / "steerzo_edge/zo/strategies/best_of.py").write_text(METHOD)
    union = root / "steerzo_edge/zo/methods.py"
    add_line(union, "import AllLossesConfig", "from steerzo_edge.zo.strategies.best_of import BestOfConfig")
    add_line(union, "    | AllLossesConfig", "    | BestOfConfig")
    said = json.loads(run_in(root, PROGRAM, str(tiny_path), str(tmp_path / "run")))
    assert said == {"forwards": 9, "cost": 3, "seeds": 3}
