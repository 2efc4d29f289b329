"""Targets that are looked up with the items of a batch."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.distributed.tables import WholeTable, places_of_targets


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=12))
def test_every_target_is_found_at_a_place_of_its_own(events: list[tuple[int, int]]) -> None:
    item = torch.tensor([item for item, _ in events], dtype=torch.int64)
    target = torch.tensor([target for _, target in events], dtype=torch.int64)
    positions = target.nonzero().squeeze(1)
    place, others = places_of_targets(item, positions, target[positions])
    assert torch.cat([item, others])[place].tolist() == target[positions].tolist()
    assert len(set(place.tolist())) == len(positions)
    next_ones = [target == after for (_, target), (after, _) in pairwise(events)]
    assert len(others) == len(positions) - sum(next_ones)


def test_vectors_and_gradients_are_those_of_two_look_ups() -> None:
    torch.manual_seed(0)
    table = WholeTable(9, 4)
    ids, target = torch.tensor([2, 5, 5, 3, 0]), torch.tensor([5, 5, 3, 8, 0])
    positions = torch.arange(4)
    factors = torch.rand(2, 5, 4)
    places = places_of_targets(ids, positions, target[:4])
    found = []
    for at_once in (True, False):
        table.weight.grad = None
        targets = table.look_up_targets(ids, places) if at_once else table(target[:4])
        inputs = table(ids)
        (inputs * factors[0] * inputs).sum().backward(retain_graph=True)
        (targets * factors[1, :4]).sum().backward()
        table.finish_gradients()
        found.append((inputs.detach(), targets.detach(), table.weight.grad))
        assert table._known(ids) is None  # until targets are looked up again
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
