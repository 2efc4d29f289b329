"""History masses against plain Python, with all gradients."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from models.history import HistoryBias, HistoryInputs, blocked, history_masses
from models.history.recency import NUM_RECENCY, RECENCY_STARTS, recency_bucket
from models.history.switches import switches
from tests.models.history import history_oracle as oracle
from tests.models.history.history_problems import ALL, BEHAVIORS, ITEMS, parameters, problem
from tests.models.largest import LargestTensor

KERNELS = ["blocked", "reference"]
LENGTHS = (5, 1, 0, 23, 3)
TERMS = [
    ALL,
    (),
    *((term,) for term in ALL),
    ("product", "behavior", "time", "recency"),
    ("latest", "closed"),
]


def called(inputs: HistoryInputs, kernel: str | None) -> tuple[Tensor, Tensor]:
    return history_masses(
        inputs.query, inputs.key, inputs.bias, inputs.columns, inputs.sequences, kernel=kernel
    )


def expected(inputs: HistoryInputs) -> tuple[Tensor, Tensor]:
    return oracle.masses(inputs.query, inputs.key, inputs.bias, inputs.columns, inputs.sequences)


def weighted(masses: tuple[Tensor, Tensor]) -> Tensor:
    """A scalar that each finite mass counts in by a weight of its own."""
    total = torch.zeros((), dtype=masses[0].dtype)
    for number, mass in enumerate(masses, 1):
        weight = torch.arange(1, len(mass) + 1, dtype=mass.dtype).sin() * number
        total = total + (weight * mass.masked_fill(mass == float("-inf"), 0.0)).sum()
    return total


def check(inputs: HistoryInputs, kernel: str, tolerance: float = 1e-10) -> None:
    """Masses and gradients, and that gradients are numbers where masses are minus infinity."""
    found, wanted = called(inputs, kernel), expected(inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    named = parameters(inputs)
    gradients = torch.autograd.grad(weighted(found), list(named.values()), allow_unused=True)
    theirs = torch.autograd.grad(weighted(wanted), list(named.values()), allow_unused=True)
    for name, one, other in zip(named, gradients, theirs, strict=True):
        zero = torch.zeros_like(named[name])
        one, other = (zero if gradient is None else gradient for gradient in (one, other))
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance), name
    again = called(inputs, kernel)
    ones = [torch.ones_like(mass) for mass in again]
    for gradient in torch.autograd.grad(again, list(named.values()), ones, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("terms", TERMS, ids=lambda terms: "+".join(terms) or "constant")
def test_masses_are_their_formula(terms: tuple[str, ...], kernel: str) -> None:
    check(problem(LENGTHS, terms), kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lengths", [(), (0, 0), (1,)])
def test_nothing_and_next_to_nothing(lengths: tuple[int, ...], kernel: str) -> None:
    """Of one event the only item is the target, or the rest."""
    inputs = problem(lengths)
    inputs.columns.item.fill_(1)
    for target in (0, 1, 2):
        inputs.columns.target.fill_(target)
        finite = [[target == 1] * sum(lengths), [target == 2] * sum(lengths)]
        assert [mass.isfinite().tolist() for mass in called(inputs, kernel)] == finite


@pytest.mark.parametrize("kernel", KERNELS)
def test_lengths_that_only_the_device_knows(kernel: str) -> None:
    """Events after the last sequence are no one's."""
    inputs = problem(LENGTHS, room=(sum(LENGTHS) + 9, len(LENGTHS) + 3, 30))
    check(inputs, kernel)
    for mass in called(inputs, kernel):
        assert mass[sum(LENGTHS) :].eq(float("-inf")).all()


def test_recency_buckets_begin_where_they_should() -> None:
    assert len(RECENCY_STARTS) == NUM_RECENCY
    distances = [*range(600), 5_000, 55_108, 55_109, 10**6]
    found = recency_bucket(torch.tensor(distances)).tolist()
    assert found == [oracle.recency_bucket(distance) for distance in distances]


@pytest.mark.parametrize("cells", [1, 40, 700])
@pytest.mark.parametrize("room", [None, (40, 6, 25)])
def test_blocks_of_any_size(
    cells: int, room: tuple[int, int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked, "_CELLS", {"cpu": cells})
    check(problem(LENGTHS, seed=3, room=room), "blocked")


def test_a_long_sequence_takes_no_tensor_of_all_pairs() -> None:
    length = 3000
    inputs = problem([length], ("product", "behavior", "time", "recency"), dtype=torch.float32)
    with LargestTensor() as largest:
        weighted(called(inputs, "blocked")).backward()
    assert largest.numbers < length**2 / 8


def test_switches_are_those_of_a_loop() -> None:
    for seed in range(5):
        inputs = problem(LENGTHS, seed=seed, room=(40, 7, 30))
        columns, sequences = inputs.columns, inputs.sequences
        found = switches(columns.item, columns.behavior == BEHAVIORS, sequences, ITEMS + 1)
        real = sum(LENGTHS)
        for one, other in zip(found, (columns.again, columns.closed), strict=True):
            assert other is not None
            assert one[:real].tolist() == other[:real].tolist()
    nothing = torch.empty(0, dtype=torch.int64)
    assert [len(one) for one in switches(nothing, nothing > 0, problem(()).sequences, 3)] == [0, 0]


def test_half_precision_vectors_are_summed_in_single_precision() -> None:
    inputs = problem(LENGTHS, dtype=torch.bfloat16)
    bias = HistoryBias(*(getattr(inputs.bias, field.name).float() for field in fields(inputs.bias)))
    exact = replace(inputs, query=inputs.query.double(), key=inputs.key.double(), bias=bias)
    for kernel in KERNELS:
        for one, other in zip(called(replace(inputs, bias=bias), kernel), expected(exact), strict=True):
            assert one.dtype == torch.float32
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
