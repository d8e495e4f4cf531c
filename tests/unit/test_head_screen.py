"""The likeliest token is the one that the whole head gives, and a bound that is too small is seen."""

import pytest
import torch
from torch import Tensor, nn

from steerzo_edge.model import head_screen
from steerzo_edge.model.head_screen import SMALLEST_BYTES, HeadScreen, gains
from steerzo_edge.model.int8_copy import Int8Copy, is_exact, quantized
from tests.families import seeded

VOCABULARY, WIDTH, STATES = 20_000, 576, 64

pytestmark = pytest.mark.skipif(not is_exact(), reason="this machine's int8 kernel saturates")


def head(seed: int = 0) -> Tensor:
    """Rows of unequal length, some of them nearly equal: their logits often round to the same bf16 number."""
    rows = torch.randn(VOCABULARY, WIDTH, generator=seeded(seed), dtype=torch.float32)
    rows *= torch.rand(VOCABULARY, 1, generator=seeded(seed + 1), dtype=torch.float32) * 0.1
    rows[1::50] = rows[::50] * 1.001
    return rows.bfloat16()


def states(weight: Tensor, count: int = STATES) -> Tensor:
    """Each points roughly at a row, as the states of a trained model do, and some columns are large."""
    rows = torch.randint(0, VOCABULARY // 50, (count,), generator=seeded(5)) * 50
    noise = torch.randn(count, WIDTH, generator=seeded(6), dtype=torch.float32)
    found = 300 * weight[rows].float() + noise
    found[:, 7] *= 20
    return found.bfloat16()


def of_whole_head(hidden: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.linear(hidden, weight).argmax(-1)


@torch.inference_mode()
def test_the_likeliest_token_is_that_of_the_whole_head() -> None:
    weight = head()
    screen, hidden = HeadScreen(weight), states(weight)
    examined = []
    for count in (1, 2, 5, 16):
        for start in range(0, STATES - count + 1, count):
            part = hidden[start : start + count]
            assert torch.equal(screen.likeliest(part), of_whole_head(part, weight))
            examined.append(screen.examined / count)
    assert sum(examined) / len(examined) < VOCABULARY / 100
    # Ties were among them: another order of equal logits would have been seen.
    logits = nn.functional.linear(hidden, weight)
    assert ((logits == logits.amax(-1, keepdim=True)).sum(-1) > 1).sum() > 5


@torch.inference_mode()
def test_a_bound_that_is_too_small_gives_another_token(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = head()
    screen, hidden = HeadScreen(weight), states(weight)
    screen._copy.errors.zero_()
    screen._largest = 0.0
    monkeypatch.setattr(head_screen, "_just_below", lambda logits: logits)
    found = torch.cat([screen.likeliest(state) for state in hidden.split(1)])
    assert not torch.equal(found, of_whole_head(hidden, weight))


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["ordinary", "one large column", "tiny", "zero", "large"])
def test_no_product_is_further_off_than_its_bound(kind: str) -> None:
    """The worst case too: a state that points along the error of a row."""
    weight = head()
    copy = Int8Copy(weight)
    hidden = states(weight, 8).float()
    if kind == "one large column":
        hidden[:, 3] = 1e4
    hidden *= {"tiny": 1e-20, "zero": 0.0, "large": 1e20}.get(kind, 1.0)
    exact = hidden.double() @ weight.double().T
    bounds = copy.errors.double() * hidden.double().norm(dim=1, keepdim=True)
    assert ((copy(hidden) - exact).abs() <= bounds).all()
    codes, scales = quantized(weight[:50].float())
    along = weight[:50].float() - codes * scales.unsqueeze(1)
    off = (copy(along) - along.double() @ weight.double().T).abs().diagonal()
    lengths = along.double().norm(dim=1)
    assert (off <= copy.errors[:50].double() * lengths).all()
    assert (off >= 0.9 * copy.errors[:50].double() * lengths).all()  # the bound is not loose there


@torch.inference_mode()
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_states_that_are_not_finite(value: float) -> None:
    weight = head()
    screen, hidden = HeadScreen(weight), states(weight, 2)
    hidden[1, 4] = value
    assert torch.equal(screen.likeliest(hidden), of_whole_head(hidden, weight))
    assert screen.examined == VOCABULARY


@torch.inference_mode()
def test_a_row_of_the_head_gives_the_same_bits_whichever_rows_are_with_it() -> None:
    """What the screen relies on; if a kernel breaks this, greedy answers may differ in tokens of equal score."""
    weight = head()
    for count in (1, 2, 3, 8, 16):
        hidden = states(weight, count)
        whole = nn.functional.linear(hidden, weight)
        for rows in (1, 2, 3, 7, 16, 33, 100, 3000):
            chosen = torch.randperm(VOCABULARY, generator=seeded(rows))[:rows].sort().values
            assert torch.equal(nn.functional.linear(hidden, weight[chosen]), whole[:, chosen]), (count, rows)


def test_small_heads_and_other_types_are_not_copied() -> None:
    large = torch.empty(SMALLEST_BYTES // 2 // 64, 64, dtype=torch.bfloat16)
    assert gains(large)
    assert not gains(large[:-1])
    assert not gains(large.to(torch.float32))
