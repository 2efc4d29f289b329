"""Where what competes with candidates starts."""

from __future__ import annotations

import math

import pytest
import torch

from models.data.item_domains import ItemDomains
from models.losses.config import LossConfig
from models.losses.full_softmax import full_softmax
from models.losses.level import candidates_level


@pytest.mark.parametrize(
    ("loss", "candidates"),
    [
        ({"kind": "full_softmax"}, 50),
        ({"kind": "sampled_softmax", "negatives": {"count": 7}}, 7),
        ({"kind": "sampled_softmax", "negatives": {"count": 7, "logq": True}}, 50),
        ({"kind": "bce", "negatives": {"count": 7}}, 1),
    ],
)
def test_the_level_is_that_of_all_candidates(loss: dict[str, object], candidates: int) -> None:
    assert candidates_level(LossConfig(**loss), 50) == pytest.approx(math.log(candidates))  # type: ignore[arg-type]


def test_it_is_what_the_full_softmax_sums_up_where_all_score_zero() -> None:
    loss = full_softmax(torch.zeros(1, 3), torch.randn(50, 3), torch.tensor([4]), 1.0)
    assert float(loss) == pytest.approx(candidates_level(LossConfig(kind="full_softmax"), 50))


@pytest.mark.parametrize(
    ("loss", "level"),
    [
        ({"kind": "full_softmax"}, math.log(6)),  # sizes 4 and 9
        ({"kind": "sampled_softmax", "negatives": {"count": 7, "logq": True}}, math.log(6)),
        ({"kind": "sampled_softmax", "negatives": {"count": 7}}, math.log(7)),
        ({"kind": "full_softmax", "item_bias": "popularity"}, math.log(6 / 12)),
        ({"kind": "bce", "negatives": {"count": 7}}, 0.0),
    ],
)
def test_within_domains_it_is_that_of_a_domain_s_items(loss: dict[str, object], level: float) -> None:
    member = torch.zeros(4, 12, dtype=torch.bool)
    member[0], member[1, :4], member[2, 3:] = True, True, True  # one item in both, a domain without any
    found = candidates_level(LossConfig(**loss), 12, ItemDomains(member))  # type: ignore[arg-type]
    assert found == pytest.approx(level)
