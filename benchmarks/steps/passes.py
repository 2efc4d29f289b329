"""Errors of the single passes around embeddings and losses, and of sums by row, relative to float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.steps.measured import WIDTH, Results, Row, zipf
from models.distributed.tables.row_gradient import sum_by_row
from models.layers.dropout import Dropout
from models.layers.look_up import look_up
from models.layers.token_rows import add_rows, take_rows
from models.layers.unit import unit_rows
from models.losses import kernels

_ROWS, _PLACES, _SCALE = 4_099, 512, 20.0


def passes(results: Results, device: str = "cuda") -> None:
    """Each on random numbers."""
    from models.layers.kernels.bias_function import column_sums

    torch.manual_seed(0)
    x, other, table = (torch.randn(n, WIDTH, device=device) for n in (_ROWS, _ROWS, _PLACES))
    place = torch.randint(_PLACES, (_ROWS,), device=device)
    rows = torch.randperm(_ROWS, device=device)[: _ROWS - 7]
    kept = Dropout(0.0)
    cases: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], Sequence[Tensor]]] = {
        "unit": (unit_rows, partial(F.normalize, dim=-1), [x]),
        "pair": (
            lambda a, b: kernels.pair_scores(a, b, _SCALE),
            lambda a, b: (a * b).sum(1) * _SCALE,
            [x, other],
        ),
        "add": (
            lambda a, b: add_rows(a, b, place, _SCALE, kept),
            lambda a, b: a * _SCALE + b[place],
            [x, table],
        ),
        "take": (lambda a: take_rows(a, rows), lambda a: a[rows], [x]),
        "few rows": (lambda a: look_up(place, a), lambda a: a[place], [table]),
    }
    for name, (own, exact, tensors) in cases.items():
        found, truth = _results(own, tensors), _results(exact, [one.double() for one in tensors])
        errors = [_error(a, b) for a, b in zip(found, truth, strict=True)]
        results.add("errors of passes", {"pass": name, "errors": errors})
    given = x.bfloat16()
    error = _error(column_sums(given), given.double().sum(0))
    results.add("errors of passes", {"pass": "bias", "errors": [error]})
    _sums(results, device)


def _sums(results: Results, device: str) -> None:
    """Those of Zipf rows, of which one is there hundreds of times."""
    rows = zipf(16_384, 20_000).to(device)
    gradients = torch.randn(len(rows), WIDTH, device=device)
    table = torch.zeros(20_000, WIDTH, device=device)
    found, again = (sum_by_row([(rows, gradients)], table) for _ in range(2))
    truth = table.double().index_add_(0, rows, gradients.double())
    truth[0] = 0.0
    whole = table.double().index_add_(0, found.rows, found.values.double())
    row: Row = {"pass": "sums by row", "errors": [_error(whole, truth)]}
    results.add("errors of passes", row | {"same bits again": torch.equal(found.values, again.values)})


def _results(run: Callable[..., Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """What comes out, and the gradients of a sum of it with changing weights."""
    leaves = [one.detach().clone().requires_grad_() for one in tensors]
    out = run(*leaves)
    weights = torch.linspace(-1.0, 1.0, out.numel(), dtype=out.dtype, device=out.device).view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, leaves, weights)]


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())
