from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from behavior.cooccurrence import CooccurrenceConfig, fold_of
from models.data.about import About
from models.data.batch import PackedBatch
from models.data.sequences import SequenceData
from models.history.jumps import JumpLogits, VoteSizes
from models.history.jumps.kinds import JUMP_TERMS
from models.history.jumps.recent import recent_products
from models.history.jumps.select import select, summed_by_products
from models.history.jumps.terms import VoteTerms
from tests.behavior.cooccurrence.oracle import count_by_hand
from tests.models.history.jumps.jump_oracle import Events, Parameters, Table, votes_by_hand
from tests.models.training.test_captured_step import NothingRead

FIRST, ITEMS, FOLDS, LAST = 2, 12, 3, 4
"""Ids 2 to 13 are known; 1 is not."""
SIZES = VoteSizes(
    width=6,
    dim=4,
    events=LAST,
    level=0.0,
    num_behaviors=2,
    first_item=FIRST,
    target_behaviors=(2,),
    item_count=torch.arange(FIRST + ITEMS) ** 2,
)
CONFIG = CooccurrenceConfig(window=4, backward=0.5, neighbors=3, stochastic=True, repeats=False)


def sequences(seed: int, users: int = 14) -> list[dict[str, list[int]]]:
    """Whole sequences of a data set; all of their events are of the training part."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        length = int(draw.integers(1, 9))
        rows.append(
            {
                "item": draw.integers(1, FIRST + ITEMS, length).tolist(),
                "behavior": draw.integers(1, 3, length).tolist(),
                "timestamp": np.sort(draw.integers(0, 100_000, length)).tolist(),
            }
        )
    return rows


def as_data(rows: list[dict[str, list[int]]]) -> SequenceData:
    lengths = np.array([len(row["item"]) for row in rows])
    types = {"item": np.int32, "behavior": np.int8, "timestamp": np.int64}
    about = About(
        first_item=FIRST, num_item_ids=FIRST + ITEMS, num_behaviors=2, target_behaviors=(2,), has_time=True
    )
    return SequenceData(
        events={
            name: np.concatenate([np.array(row[name]) for row in rows]).astype(dtype)
            for name, dtype in types.items()
        },
        offsets=np.cumsum([0, *lengths]),
        train_end=lengths,
        valid_end=lengths,
        row=np.arange(len(rows)),
        about=about,
    )


def as_batch(rows: list[dict[str, list[int]]]) -> PackedBatch:
    """Each event predicts the next one; unknown items are never predicted."""
    targets = [[max(item, 1) * (item >= FIRST) for item in [*row["item"][1:], 0]] for row in rows]
    return PackedBatch.from_lists(
        [row["item"] for row in rows],
        behaviors=[row["behavior"] for row in rows],
        timestamps=[row["timestamp"] for row in rows],
        targets=targets,
    )


def jumps(terms: tuple[Any, ...] = tuple(JUMP_TERMS), **changed: Any) -> JumpLogits:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"num_items": ITEMS, "folds": FOLDS, "dropout": 0.0}
    module = JumpLogits(terms, CONFIG, SIZES, **(settings | changed)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def parameters_of(
    module: VoteTerms, outputs: torch.Tensor, counts: torch.Tensor | None = SIZES.item_count
) -> Parameters:
    def listed(name: str) -> Any:
        value = getattr(module, name)
        return () if value is None else value.detach().tolist()

    query: Any = () if module.query is None else module.query(outputs).tolist()
    key: Any = () if module.key is None else module.key(outputs).tolist()
    table = () if module.behavior is None else module.behavior.detach().view(3, 3).tolist()
    assert module.constant is not None
    switched = [
        () if one is None else one.detach().view(3, 3).tolist() for one in (module.latest, module.closed)
    ]
    assert counts is not None
    frequency = listed("frequency")
    return Parameters(
        module.constant.item(),
        table,
        listed("time"),
        listed("recency"),
        listed("gap"),
        query,
        key,
        latest=switched[0],
        closed=switched[1],
        count=[frequency[int(math.log2(count + 1))] for count in counts.tolist()] if frequency else (),
    )


def events_of(batch: PackedBatch, sequence: int) -> Events:
    own = slice(int(batch.offsets[sequence]), int(batch.offsets[sequence + 1]))
    columns = (batch.item, batch.behavior, batch.target_behavior, batch.timestamp, batch.query_time)
    return Events(*(column[own].tolist() for column in columns))


def table_by_hand(rows: list[dict[str, list[int]]], without: int | None = None) -> Table:
    users = [
        [(item - FIRST if item >= FIRST else -1, 1) for item in row["item"]]
        for number, row in enumerate(rows)
        if without is None or fold_of(number, FOLDS) != without
    ]
    found = count_by_hand(
        users, window=4, backward=Fraction(1, 2), neighbors=3, stochastic=True, repeats=False
    )
    return {(item + FIRST, other + FIRST): share for (item, other), share in found.items()}


def masses_by_hand(
    module: JumpLogits, batch: PackedBatch, outputs: torch.Tensor, tables: list[Table]
) -> tuple[list[float], list[float]]:
    on_target, on_rest = [], []
    for sequence in range(batch.num_sequences):
        own = slice(int(batch.offsets[sequence]), int(batch.offsets[sequence + 1]))
        of, events = parameters_of(module, outputs[own]), events_of(batch, sequence)
        for query, target in enumerate(batch.target[own].tolist()):
            votes = votes_by_hand(of, events, query, LAST, tables[sequence], FIRST) if target else {}
            on_target.append(votes.pop(target, 0.0))
            on_rest.append(sum(votes.values()))
    return on_target, on_rest


def logs(values: list[float]) -> torch.Tensor:
    return torch.tensor([math.log(value) if value else -math.inf for value in values]).double()


@pytest.mark.parametrize("terms", [(), *((term,) for term in JUMP_TERMS), tuple(JUMP_TERMS)])
def test_masses_are_those_of_the_formula_with_each_users_own_table(terms: tuple[Any, ...]) -> None:
    rows, module = sequences(1), jumps(terms)
    batch = as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    module.count([as_data(rows)])
    tables = [table_by_hand(rows, without=fold_of(row, FOLDS)) for row in range(len(rows))]
    found = module(outputs, batch)
    for ours, theirs in zip(found, masses_by_hand(module, batch, outputs, tables), strict=True):
        torch.testing.assert_close(ours, logs(theirs), rtol=1e-5, atol=1e-6)
    assert all(mass.isfinite().any() for mass in found)


def test_masses_in_evaluation_are_of_the_table_of_everybody() -> None:
    rows, module = sequences(2), jumps()
    batch = as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    module.count([as_data(rows)])
    tables = [table_by_hand(rows)] * len(rows)
    for ours, theirs in zip(
        module.eval()(outputs, batch), masses_by_hand(module, batch, outputs, tables), strict=True
    ):
        torch.testing.assert_close(ours, logs(theirs), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    rows, module = sequences(3), jumps()
    batch = as_batch(rows)
    module.count([as_data(rows)])
    outputs = torch.randn(batch.num_events, 6).double().requires_grad_()
    parameters = list(module.parameters())

    def loss(outputs: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        on_target, on_rest = module(outputs, batch)
        some = on_target.isfinite(), on_rest.isfinite()
        return on_target[some[0]].sum() - 2.0 * on_rest[some[1]].sum()

    assert torch.autograd.gradcheck(loss, (outputs, *parameters))
    # Whatever comes from positions without mass is no gradient, and not infinite.
    on_target, on_rest = module(outputs, batch)
    (torch.logaddexp(on_target, torch.zeros(1)) + torch.logaddexp(on_rest, torch.zeros(1))).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in parameters)
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_a_users_own_events_are_not_in_the_table_that_is_used_for_them() -> None:
    rows, module = sequences(4), jumps()
    batch = as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    module.count([as_data(rows)])
    before = module(outputs, batch)
    changed = [*rows]
    changed[5] = {"item": [3, 5, 3, 9], "behavior": [1] * 4, "timestamp": [1, 2, 3, 4]}
    module.count([as_data(changed)])  # counted with other events of user 5, asked for the old ones
    after = module(outputs, batch)
    own = torch.tensor([fold_of(row, FOLDS) == fold_of(5, FOLDS) for row in range(len(rows))])
    own = own.repeat_interleave(batch.offsets.diff())
    for ours, theirs in zip(before, after, strict=True):
        assert torch.equal(ours[own], theirs[own])
        assert not torch.equal(ours[~own], theirs[~own])


def test_votes_of_the_last_events_are_those_of_the_formula() -> None:
    rows, module = sequences(5), jumps()
    batch = as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    module.count([as_data(rows)])
    votes = module.votes(outputs, batch, batch.item.numpy(), batch.sequences.lengths)
    dense = torch.zeros(len(rows), ITEMS).double()
    cells = torch.from_numpy(votes.row), torch.from_numpy(votes.item)
    dense.index_put_(cells, votes.mass[votes.place].exp(), accumulate=True)
    table = table_by_hand(rows)
    for sequence in range(len(rows)):
        own = slice(int(batch.offsets[sequence]), int(batch.offsets[sequence + 1]))
        events = events_of(batch, sequence)
        last = len(events.item) - 1
        found = votes_by_hand(parameters_of(module, outputs[own]), events, last, LAST, table, FIRST)
        by_hand = [found.get(FIRST + item, 0.0) for item in range(ITEMS)]
        torch.testing.assert_close(dense[sequence], torch.tensor(by_hand).double(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2])
def test_a_batch_of_fewer_events_than_may_vote(length: int) -> None:
    rows, module = sequences(5), jumps()
    module.count([as_data(rows)])
    short = {name: values[:length] for name, values in rows[0].items()}

    def votes_of(chosen: list[dict[str, list[int]]]) -> list[tuple[int, float]]:
        batch = as_batch(chosen)
        outputs = torch.ones(batch.num_events, 6).double()
        votes = module.votes(outputs, batch, batch.item.numpy(), batch.sequences.lengths)
        found = zip(votes.row, votes.item, votes.mass[votes.place].tolist(), strict=True)
        return [(item, round(mass, 9)) for row, item, mass in found if row == 0]

    assert length < LAST
    assert votes_of([short]) == votes_of([short, *rows])


def test_padded_batches_have_the_same_masses() -> None:
    rows, module = sequences(6), jumps()
    batch = as_batch(rows)
    module.count([as_data(rows)])
    outputs = torch.randn(batch.num_events + 7, 6).double()
    padded = batch.padded(batch.num_events + 7, batch.num_sequences + 3, 20)
    for ours, theirs in zip(module(outputs, padded), module(outputs[:-7], batch), strict=True):
        assert torch.equal(ours[:-7], theirs)
        assert (ours[-7:] == -math.inf).all()


def test_nothing_is_read_back_from_the_device() -> None:
    rows, module = sequences(6), jumps(dropout=0.2)
    batch = as_batch(rows)
    module.count([as_data(rows)])
    module(torch.zeros(batch.num_events, 6).double(), batch)  # what is made once a device
    padded = batch.padded(batch.num_events + 7, batch.num_sequences + 3, 20)
    outputs = torch.randn(batch.num_events + 7, 6).double()
    with NothingRead():
        on_target, on_rest = module(outputs, padded)
        (on_target.exp() + on_rest.exp()).sum().backward()


def test_dropout_silences_events_and_keeps_the_mass_on_average() -> None:
    rows = sequences(7)
    module, plain = jumps((), dropout=0.4), jumps(())
    batch = as_batch(rows)
    outputs = torch.zeros(batch.num_events, 6).double()
    for one in (module, plain):
        one.count([as_data(rows)])
    drawn = torch.stack([torch.stack(module(outputs, batch)).exp() for _ in range(1000)])
    expected = torch.stack(plain(outputs, batch)).exp()
    torch.testing.assert_close(drawn.mean(0), expected, rtol=0.15, atol=0.02)
    assert drawn.std(0).max() > 0
    module.eval(), plain.eval()
    for ours, theirs in zip(module(outputs, batch), plain(outputs, batch), strict=True):
        assert torch.equal(ours, theirs)


def test_training_without_tables_is_refused() -> None:
    with pytest.raises(RuntimeError, match="count"):
        jumps()(torch.zeros(0, 6).double(), as_batch(sequences(1, users=1)))


def test_the_state_has_the_table_of_everybody_and_no_more() -> None:
    rows, module = sequences(8), jumps()
    module.count([as_data(rows)])
    other = jumps()
    other.load_state_dict(module.state_dict())
    batch = as_batch(rows)
    outputs = torch.randn(batch.num_events, 6).double()
    of = outputs, batch, batch.item.numpy(), batch.sequences.lengths
    for ours, theirs in zip(module.votes(*of), other.votes(*of), strict=True):
        assert ours.tolist() == theirs.tolist()
    # One that has counted its own data set keeps to it.
    third = jumps()
    third.count([as_data(sequences(9))])
    counted = third.followers.clone()
    third.load_state_dict(module.state_dict())
    assert torch.equal(third.followers, counted)
    assert torch.equal(third.constant, module.constant)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 200])
def test_products_with_recent_keys(length: int) -> None:
    query, key = torch.randn(2, length, 5).double()
    found = recent_products(query, key, 12)
    assert found.shape == (length, 12)
    for lag in range(12):
        by_hand = (query[lag:] * key[: max(length - lag, 0)]).sum(1)
        torch.testing.assert_close(found[lag:, lag], by_hand)
        assert (found[:lag, lag] == 0).all()


@pytest.mark.parametrize("columns", [(), (3,)])
@pytest.mark.parametrize("cells", [1, 40, 1000])
def test_gradients_of_small_tables(cells: int, columns: tuple[int, ...]) -> None:
    """On the CPU one by one, elsewhere by products: both against a loop."""
    table = torch.randn(7, *columns).double().requires_grad_()
    index, gradient = torch.randint(7, (5, 9)), torch.randn(5, 9, *columns).double()
    by_hand = torch.zeros(7, *columns).double()
    for step in range(5):
        for place in range(9):
            by_hand[index[step, place]] += gradient[step, place]
    found = select(table, index)
    assert torch.equal(found, table[index])
    found.backward(gradient)
    assert table.grad is not None
    torch.testing.assert_close(table.grad, by_hand)
    other = summed_by_products(gradient.flatten(0, 1), index.flatten(), 7, cells)
    torch.testing.assert_close(other, by_hand)
