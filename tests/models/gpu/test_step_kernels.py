"""Kernels around the blocks of a training step, at a step's size on a GPU, against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.distributed.tables.row_gradient import sum_by_row
from models.layers.dropout import Dropout
from models.layers.token_rows import add_rows, take_rows
from models.layers.unit import unit_rows
from models.losses import kernels
from models.losses.columns import Columns, merged_columns
from tests.models.interpreted import DEVICE, on_gpu

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = [
    pytest.mark.usefixtures("interpreted"),
    pytest.mark.gpu,
    pytest.mark.skipif(not on_gpu, reason="no CUDA device: tests of layers, losses and sums interpret them"),
]

ROWS, DIM = 65_539, 256
"""One past a full tile, and a step's width."""
Function = Callable[..., Tensor]


def zipf(count: int, items: int) -> Tensor:
    """[count] item ranks, of which the most popular are there a thousand times."""
    sums = np.cumsum((np.arange(items) + 10.0) ** -1.05)
    drawn = np.searchsorted(sums, np.random.default_rng(0).random(count) * sums[-1])
    return torch.from_numpy(drawn).clamp(max=items - 1).to(DEVICE)


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def differentiate(run: Function, leaves: list[Tensor], slope: Tensor) -> list[Tensor]:
    """What comes out, and gradients of the leaves."""
    out = run(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, slope.to(out.dtype))]


def check(own: Function, exact: Function, leaves: list[Tensor], within: float = 1e-6) -> None:
    """Values and gradients, again with the same bits, and in a recording that is given other numbers."""
    leaves = [leaf.requires_grad_() for leaf in leaves]
    with torch.no_grad():
        slope = torch.randn_like(exact(*leaves), dtype=torch.float32)
    found, again = (differentiate(own, leaves, slope) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = differentiate(own, leaves, slope)
    for changed in (False, True):
        if changed:
            with torch.no_grad():
                for tensor in (*leaves, slope):
                    tensor.normal_()
            graph.replay()
        truth = differentiate(exact, [leaf.detach().double().requires_grad_() for leaf in leaves], slope)
        for one, other in zip(recorded if changed else found, truth, strict=True):
            assert relative(one, other) < within


@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3), (torch.float16, 5e-4)]
)
def test_rows_of_length_1(dtype: torch.dtype, within: float) -> None:
    x = torch.randn(ROWS, DIM, device=DEVICE).to(dtype)
    check(unit_rows, lambda x: F.normalize(x, dim=-1), [x], within)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_a_bias(dtype: torch.dtype) -> None:
    """Summed in float32, of whatever is summed."""
    from models.layers.kernels.bias_function import column_sums

    given = torch.randn(ROWS, DIM, device=DEVICE).to(dtype)
    found = column_sums(given)
    assert torch.equal(found, column_sums(given))
    assert relative(found, given.double().sum(0)) < 1e-6


def test_scores_of_pairs() -> None:
    leaves = [torch.randn(ROWS, DIM, device=DEVICE) for _ in range(2)]
    check(lambda a, b: kernels.pair_scores(a, b, 20.0), lambda a, b: (a * b).sum(-1) * 20.0, leaves)


def test_rows_of_a_table_are_added() -> None:
    place = zipf(ROWS, 512)
    leaves = [torch.randn(rows, DIM, device=DEVICE) for rows in (ROWS, 512)]
    check(
        lambda x, table: add_rows(x, table, place, 16.0, Dropout(0.0)),
        lambda x, table: x * 16.0 + table[place],
        leaves,
    )


def test_what_dropout_keeps_is_kept_in_gradients() -> None:
    x, table = (torch.randn(rows, DIM, device=DEVICE, requires_grad=True) for rows in (ROWS, 512))
    place = zipf(ROWS, 512)
    out = add_rows(x, table, place, 16.0, Dropout(0.2))
    of_x, of_table = torch.autograd.grad(out, (x, table), torch.ones_like(out))
    kept = out != 0
    assert abs(float(kept.float().mean()) - 0.8) < 1e-3
    total = x.detach().double() * 16.0 + table.detach().double()[place]
    assert relative(out.detach(), total * kept / 0.8) < 1e-6
    assert relative(of_x, kept.double() * (16.0 / 0.8)) < 1e-6
    counted = torch.zeros_like(table, dtype=torch.float64).index_add_(0, place, kept.double() / 0.8)
    assert relative(of_table, counted) < 1e-6


def test_rows_are_taken() -> None:
    rows = torch.randperm(ROWS, device=DEVICE)[: ROWS - 1000]
    check(lambda x: take_rows(x, rows), lambda x: x[rows], [torch.randn(ROWS, DIM, device=DEVICE)])


def test_rows_that_do_not_count_get_no_gradient() -> None:
    x = torch.randn(ROWS, DIM, device=DEVICE, requires_grad=True)
    taken, count = torch.randperm(ROWS, device=DEVICE)[:60_000], 60_000
    rows = torch.cat([taken, torch.arange(count, ROWS, device=DEVICE)])
    counts = torch.arange(ROWS, device=DEVICE) < count
    slope = torch.randn_like(x) * counts[:, None]
    (found,) = torch.autograd.grad(take_rows(x, rows, counts), x, slope)
    expected = torch.zeros_like(x)
    expected[taken] = slope[:count]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dim", [256, 200, 50])
def test_half_precision(dim: int) -> None:
    """Of some rows, scaled, cut off, and with zeros up to a power of two."""
    from models.losses.kernels.pair_function import narrowed

    x = torch.randn(ROWS, dim, device=DEVICE)
    x[7, 3], x[11, 0] = 1e6, -1e6
    place = torch.randperm(ROWS, device=DEVICE)
    number = torch.tensor([ROWS - 100], device=DEVICE, dtype=torch.int32)
    found = narrowed(x, ROWS + 9, 256, torch.float16, 1.0, place, number)
    expected = F.pad(x.clamp(-65504.0, 65504.0).half(), (0, 256 - dim))[place]
    assert torch.equal(found[: ROWS - 100], expected[: ROWS - 100])
    assert not found[ROWS - 100 :].any()
    whole = narrowed(x, ROWS, 256, torch.float16, 20.0)
    assert torch.equal(whole, F.pad((x * 20.0).clamp(-65504.0, 65504.0).half(), (0, 256 - dim)))


@pytest.mark.parametrize("items", [200_000, 10_000_000])
def test_sums_by_row(items: int) -> None:
    """A popular row's are summed in pieces. The table is as long as it says, and takes no memory."""
    rows = zipf(2 * ROWS, items) if items == 200_000 else items - 1 - zipf(2 * ROWS, items)
    gradients = torch.randn(len(rows), DIM, device=DEVICE)
    like = torch.zeros(1, DIM, device=DEVICE).expand(items, DIM)
    found, again = (sum_by_row([(rows, gradients)], like) for _ in range(2))
    assert torch.equal(found.values, again.values)
    unique, group = rows.unique(return_inverse=True)
    truth = torch.zeros(len(unique), DIM, dtype=torch.float64, device=DEVICE)
    truth.index_add_(0, group, gradients.double())
    truth[unique == 0] = 0.0
    assert torch.equal(found.rows[: len(unique)], unique)
    assert relative(found.values[: len(unique)], truth) < 1e-6
    assert not found.values[len(unique) :].any()


def exact_losses(
    query: Tensor, positive: Tensor, table: Tensor, ranks: Tensor, target: Tensor, scale: float
) -> Tensor:
    """From the formula, all scores at once."""
    scores = scale * query @ table[ranks].T
    hidden = scores.masked_fill(ranks == target[:, None], -torch.inf)
    return torch.cat([positive[:, None], hidden], 1).logsumexp(1) - positive


@pytest.mark.parametrize("ascending", [False, True])
def test_a_softmax_among_the_batch(ascending: bool) -> None:
    """Among targets of Zipf's law; ascending: each tile of columns has higher scores than those before."""
    positions, items, scale = 8_195, 20_000, 20.0
    query = F.normalize(torch.randn(positions, DIM, device=DEVICE), dim=-1)
    table = F.normalize(torch.randn(items, DIM, device=DEVICE), dim=-1)
    if ascending:
        toward = F.normalize(torch.randn(DIM, device=DEVICE), dim=-1)
        query = F.normalize(query + toward, dim=-1)
        table = F.normalize(table + torch.linspace(-3, 3, items, device=DEVICE)[:, None] * toward, dim=-1)
    target = zipf(positions, items)
    slope = torch.rand(positions, device=DEVICE) / positions
    columns: Columns = merged_columns(target, None, None)
    leaves = [query.requires_grad_(), table.requires_grad_()]
    positive = ((query * table[target]).sum(-1) * scale).detach().requires_grad_()

    def own() -> list[Tensor]:
        out = kernels.shared_softmax(query, positive, table[target], target, columns, scale=scale)
        return [out, *torch.autograd.grad(out, (*leaves, positive), slope)]

    doubles = [one.detach().double().requires_grad_() for one in (query, positive, table)]
    value = exact_losses(*doubles, target, target, scale)
    of_query, of_positive, of_table = torch.autograd.grad(value, doubles, slope.double())
    found, again = own(), own()
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    limits = (1e-4, 1e-3, 1e-3, 1e-3)
    for one, other, limit in zip(found, (value, of_query, of_table, of_positive), limits, strict=True):
        assert relative(one.detach(), other.detach()) < limit
