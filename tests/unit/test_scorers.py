"""Scorers of the operator: what they see, what happens when they fail, and how they are registered."""

import math
import sys
from pathlib import Path

import pytest
import torch

from steerzo_edge.data.examples import Completion
from steerzo_edge.data.tokenization import Target, Targets
from steerzo_edge.errors import ProfileError
from steerzo_edge.objectives.scorers import registered_scorer
from steerzo_edge.training.loop import finetune
from steerzo_edge.zo.oracle import Round
from tests import scorers
from tests.conftest import Loader
from tests.unit.outcomes import NEW_TOKENS, PROBES, answered_rows, built, profile_of

pytestmark = pytest.mark.usefixtures("registered_scorers")


def test_a_scorer_sees_prompt_answer_and_references(tiny: Loader) -> None:
    base = tiny("none", torch.float32)
    rows = answered_rows(base)
    parts, data = built(base, profile_of({"kind": "scorer", "name": "sees", "max_new_tokens": NEW_TOKENS}), rows)
    scorers.SEEN.clear()
    assert parts.oracle.evaluate(Round(0, parts.blocks.of(0).index, tuple(PROBES[:1]))) == [0.0]
    assert isinstance(data, Targets)
    known = {(e.prompt, e.references) for e in rows.examples if isinstance(e, Completion)}
    assert len(scorers.SEEN) == 5
    assert {(prompt, references) for prompt, _, references in scorers.SEEN} <= known


def test_a_scorer_that_raises_drops_the_candidate_and_says_so(
    tiny: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny("none", torch.float32)
    profile = profile_of({"kind": "scorer", "name": "some", "max_new_tokens": NEW_TOKENS})
    parts, _ = built(base, profile, answered_rows(base))
    start = parts.subset.parameters.clone()
    found = parts.oracle.evaluate(Round(0, parts.blocks.of(0).index, tuple(PROBES)))
    assert any(math.isnan(loss) for loss in found)
    assert "scorer 'some' raised KeyError at" in caplog.text
    assert "no such answer" not in caplog.text  # what a scorer says may hold what a user wrote
    assert torch.equal(parts.subset.parameters, start)
    records = list(finetune(parts))
    assert records[0].dropped > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("prompt", ["nan", "text", "large", "none"])
def test_a_score_outside_0_to_1_counts_as_not_a_number(caplog: pytest.LogCaptureFixture, prompt: str) -> None:
    judge = registered_scorer("none")
    assert math.isnan(judge(Target((1,), (True,), prompt, ("a",)), "a"))
    assert "scorer 'none'" in caplog.text


def test_scorers_come_from_the_operators_setting_only() -> None:
    with pytest.raises(ProfileError, match="there is no scorer 'checksums'") as caught:
        registered_scorer("checksums")
    assert "checksum, none, sees, some" in caught.value.hint
    with pytest.raises(ProfileError, match=r"no scorer 'tests\.scorers:sees'"):
        registered_scorer("tests.scorers:sees")
    with pytest.raises(ProfileError, match="no scorer 'x'") as caught:
        registered_scorer("x", {})
    assert "None is registered" in caught.value.hint
    for broken in ("checksum", "=a:b", "checksum=tests.scorers", "checksum=:f", "checksum=m:"):
        with pytest.raises(ProfileError, match="is not name=module:function"):
            registered_scorer("checksum", {"STEERZO_SCORERS": broken})
    for missing in ("tests.nowhere:f", "tests.scorers:nothing"):
        with pytest.raises(ProfileError, match="cannot be loaded"):
            registered_scorer("x", {"STEERZO_SCORERS": f"x={missing}"})


def test_packages_register_scorers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "operator_scorers-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: operator-scorers\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text("[steerzo_edge.scorers]\nalways = operator_scorers:always\n")
    (tmp_path / "operator_scorers.py").write_text("def always(prompt, answer, references):\n    return 0.25\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registered_scorer("always")(Target((1,), (True,)), "a") == 0.25
    sys.modules.pop("operator_scorers", None)
