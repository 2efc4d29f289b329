"""Votes by tables without the user's own pairs, against tables that are counted of all others alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from behavior.cooccurrence import PairWeights
from models.data.batch import PackedBatch
from models.history.jumps import ExactJumpLogits
from models.history.jumps.kinds import JUMP_TERMS
from models.history.jumps.tables import count_exact_tables
from tests.behavior.cooccurrence.exact_oracle import counted
from tests.models.history.jumps.jump_oracle import Table, votes_by_hand
from tests.models.history.jumps.test_jumps import (
    FIRST,
    ITEMS,
    LAST,
    SIZES,
    as_batch,
    as_data,
    events_of,
    logs,
    parameters_of,
    sequences,
)
from tests.models.training.test_captured_step import NothingRead

NAMES = ("forward", "backward", "session")
SECONDS = 20_000
WEIGHTS = PairWeights(NAMES, window=4, session_seconds=SECONDS)
Rows = list[dict[str, list[int]]]


def jumps(rows: Rows, terms: tuple[Any, ...] = tuple(JUMP_TERMS), **changed: Any) -> ExactJumpLogits:
    torch.manual_seed(0)
    tables = count_exact_tables([as_data(rows)], WEIGHTS)
    module = ExactJumpLogits(tables, NAMES, terms, SIZES, **({"dropout": 0.0} | changed)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def tables_by_hand(rows: Rows, without: int | None) -> list[Table]:
    """Of all users but one: rows that sum to one, by table."""
    log = [
        ([item - FIRST if item >= FIRST else -1 for item in row["item"]], row["timestamp"])
        for number, row in enumerate(rows)
        if number != without
    ]
    found = []
    for name in NAMES:
        counts = counted(log, name, 4, 0.5, SECONDS)
        totals = {item: 0.0 for item, _ in counts}
        for (item, _), count in counts.items():
            totals[item] += count
        found.append(
            {(item + FIRST, other + FIRST): count / totals[item] for (item, other), count in counts.items()}
        )
    return found


def votes(
    module: ExactJumpLogits, batch: PackedBatch, outputs: torch.Tensor, sequence: int, query: int, rows: Rows
) -> dict[int, float]:
    own = slice(int(batch.offsets[sequence]), int(batch.offsets[sequence + 1]))
    user = int(batch.sequence[sequence])
    found: dict[int, float] = {}
    tables = tables_by_hand(rows, user if user >= 0 else None)
    for terms, table in zip(module.votes_of, tables, strict=True):
        of = parameters_of(terms, outputs[own])
        mass = votes_by_hand(of, events_of(batch, sequence), query, LAST, table, FIRST)
        for item, value in mass.items():
            found[item] = found.get(item, 0.0) + value
    return found


@pytest.mark.parametrize("training", [True, False])
def test_masses_are_those_of_the_formula_without_each_users_own_pairs(training: bool) -> None:
    rows = sequences(1)
    module, batch = jumps(rows).train(training), as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    by_hand: tuple[list[float], list[float]] = [], []
    for sequence in range(batch.num_sequences):
        begin, stop = batch.offsets[sequence : sequence + 2].tolist()
        for query, target in enumerate(batch.target[begin:stop].tolist()):
            mass = votes(module, batch, outputs, sequence, query, rows) if target else {}
            by_hand[0].append(mass.pop(target, 0.0))
            by_hand[1].append(sum(mass.values()))
    for ours, theirs in zip(module(outputs, batch), by_hand, strict=True):
        torch.testing.assert_close(ours, logs(theirs), rtol=1e-5, atol=1e-5)
        assert ours.isfinite().any()


@pytest.mark.parametrize("ranges", [[(0, ITEMS)], [(0, 5), (5, 6), (6, ITEMS)]])
@pytest.mark.parametrize("known", [True, False])
def test_ranking_adds_the_mass_of_every_follower(known: bool, ranges: list[tuple[int, int]]) -> None:
    """Of a history whose user is in the data set, and of one that is not: then nothing is subtracted."""
    rows = sequences(5)
    module, batch = jumps(rows).eval(), as_batch(rows)
    if not known:
        batch.sequence.fill_(-1)
    outputs = torch.randn(batch.num_events, 6).double()
    scores = torch.randn(len(rows), ITEMS).double()
    with torch.no_grad():
        mass = module.mass(outputs, batch)
        found = torch.cat([mass.add_to(scores[:, a:b].clone(), a, b) for a, b in ranges], 1)
    total = 0
    for sequence in range(len(rows)):
        last = len(rows[sequence]["item"]) - 1
        more = votes(module, batch, outputs, sequence, last, rows)
        total += len(more)
        dense = torch.tensor([more.get(FIRST + item, 0.0) for item in range(ITEMS)]).double()
        expected = (scores[sequence].exp() + dense).log()
        torch.testing.assert_close(found[sequence], expected, rtol=1e-5, atol=1e-5)
    assert total > 3 * len(rows)


def test_who_is_unknown_reads_other_tables_than_who_is_in_them() -> None:
    rows = sequences(5)
    module, batch = jumps(rows).eval(), as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    known = module(outputs, batch)[0]
    batch.sequence.fill_(-1)
    unknown = module(outputs, batch)[0]
    assert not torch.equal(known, unknown)
    # Who counted a pair alone has no mass on it, and everybody else has.
    assert int(unknown.isfinite().sum()) > int(known.isfinite().sum()) > 0


def test_a_users_own_events_change_nothing_for_them() -> None:
    rows = sequences(4)
    before, batch = jumps(rows), as_batch(rows)
    changed = [*rows]
    changed[5] = {"item": [3, 5, 3, 9], "behavior": [1] * 4, "timestamp": [1, 2, 3, 4]}
    after = jumps(changed)  # counted with other events of user 5, asked for the old ones
    outputs = torch.randn(batch.num_events, 6).double()
    own = (torch.arange(len(rows)) == 5).repeat_interleave(batch.offsets.diff())
    for ours, theirs in zip(before(outputs, batch), after(outputs, batch), strict=True):
        assert own.sum() > 1
        torch.testing.assert_close(ours[own], theirs[own], rtol=1e-6, atol=1e-6)
        assert not torch.equal(ours[~own], theirs[~own])


def test_gradients_are_those_of_finite_differences() -> None:
    rows = sequences(3)
    module, batch = jumps(rows), as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double().requires_grad_()

    def loss(outputs: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        on_target, on_rest = module(outputs, batch)
        return on_target[on_target.isfinite()].sum() - 2.0 * on_rest[on_rest.isfinite()].sum()

    some = [module.terms["session_"].get_parameter(name) for name in ("constant", "recency", "latest")]
    assert torch.autograd.gradcheck(loss, (outputs, *some))
    on_target, on_rest = module(outputs, batch)
    (torch.logaddexp(on_target, torch.zeros(1)) + torch.logaddexp(on_rest, torch.zeros(1))).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_padded_batches_have_the_same_masses_and_nothing_is_read_back() -> None:
    rows = sequences(6)
    module, batch = jumps(rows), as_batch(rows)
    outputs = torch.randn(batch.num_events + 7, 6).double()
    padded = batch.padded(batch.num_events + 7, batch.num_sequences + 3, 20)
    for ours, theirs in zip(module(outputs, padded), module(outputs[:-7], batch), strict=True):
        torch.testing.assert_close(ours[:-7], theirs)
        assert (ours[-7:] == -math.inf).all()
    quiet = jumps(rows, dropout=0.2)
    with NothingRead():
        on_target, on_rest = quiet(outputs, padded)
        (on_target.exp() + on_rest.exp()).sum().backward()


def test_dropout_silences_votes_and_keeps_the_mass_on_average() -> None:
    rows = sequences(7)
    module, plain, batch = jumps(rows, (), dropout=0.4), jumps(rows, ()), as_batch(rows)
    outputs = torch.zeros(batch.num_events, 6).double()
    drawn = torch.stack([torch.stack(module(outputs, batch)).exp() for _ in range(1000)])
    expected = torch.stack(plain(outputs, batch)).exp()
    torch.testing.assert_close(drawn.mean(0), expected, rtol=0.15, atol=0.02)
    assert drawn.std(0).max() > 0


def test_the_state_holds_no_tables() -> None:
    module = jumps(sequences(8))
    assert all(name.startswith("terms.") for name in module.state_dict())
    assert {name.split(".")[1].rstrip("_") for name in module.state_dict()} == set(NAMES)
    assert np.isfinite(sum(value.sum().item() for value in module.state_dict().values()))
