"""Updates of single rows, a program a row."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _gradient(values, place, dim, inside, WIDTH: tl.constexpr):
    """[DIM] the gradient at a place, and the mean of its squares."""
    found = tl.load(values + place.to(tl.int64) * WIDTH + dim, mask=inside, other=0.0)
    return found, tl.sum(found * found) / WIDTH


@triton.jit
def rowwise_adagrad_kernel(
    table, rows, values, sums, rate, decay, eps, WIDTH: tl.constexpr, DIM: tl.constexpr
):
    """See `models.optim.by_rows.SparseRowwiseAdagrad`."""
    dim = tl.arange(0, DIM)
    inside = dim < WIDTH
    row = tl.load(rows + tl.program_id(0))
    gradient, square = _gradient(values, tl.program_id(0), dim, inside, WIDTH)
    if (row > 0) & (square > 0.0):
        lr = tl.load(rate)
        total = tl.load(sums + row) + square
        place = table + row * WIDTH + dim
        weight = tl.load(place, mask=inside) * (1.0 - lr * decay)
        tl.store(place, weight - lr / (tl.sqrt_rn(total) + eps) * gradient, mask=inside)
        tl.store(sums + row, total)


@triton.jit
def adam_kernel(
    table, rows, values, steps, last, exp_avg, exp_avg_sq, rate, decay, eps,
    log_beta_1, log_beta_2, WIDTH: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """See `models.optim.by_rows.SparseAdam`."""
    dim = tl.arange(0, DIM)
    inside = dim < WIDTH
    row = tl.load(rows + tl.program_id(0))
    gradient, square = _gradient(values, tl.program_id(0), dim, inside, WIDTH)
    if (row > 0) & (square > 0.0):
        lr, step = tl.load(rate), tl.load(steps)
        age = step - tl.load(last + row)
        place = row * WIDTH + dim
        first = tl.load(exp_avg + place, mask=inside, other=0.0) * tl.exp(age * log_beta_1)
        second = tl.load(exp_avg_sq + place, mask=inside, other=0.0) * tl.exp(age * log_beta_2)
        first += (1.0 - tl.exp(log_beta_1)) * gradient
        second += (1.0 - tl.exp(log_beta_2)) * gradient * gradient
        tl.store(exp_avg + place, first, mask=inside)
        tl.store(exp_avg_sq + place, second, mask=inside)
        tl.store(last + row, step)
        mean = first / (1.0 - tl.exp(step * log_beta_1))
        spread = tl.sqrt_rn(second / (1.0 - tl.exp(step * log_beta_2))) + eps
        weight = tl.load(table + place, mask=inside) * (1.0 - lr * decay)
        tl.store(table + place, weight - lr * (mean / spread), mask=inside)
