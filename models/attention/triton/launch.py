"""From tensors to launches: allocates results and starts kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.attention.triton.bias_gradient import TIME_COLUMNS
from models.attention.triton.kinds import Launchers, launchers
from models.attention.triton.problem import Problem
from models.attention.triton.sight import RICH
from models.attention.triton.start import Numbers, Tensors


def forward(problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[tokens, heads, v_dim]."""
    tokens, heads, _ = q.shape
    out = problem.new(v, tokens)
    ready = problem.launchers
    tiles = problem.query_tiles[ready.shapes.forward.tile]
    if tokens:
        tensors = problem.tensors() | {"q": q, "k": k, "v": v, "out": out, "tiles": tiles}
        numbers = problem.numbers() | {"num_tiles": tiles.shape[1]}
        ready.forward((heads, tiles.shape[1]), tensors, numbers)
    return out


class Backward(NamedTuple):
    """What the kernels of one backward pass share."""

    problem: Problem
    launchers: Launchers
    tensors: Tensors
    numbers: Numbers


def backward(problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor) -> Backward:
    """Get ready for gradients, given that of the result; `given` has contiguous rows, as q, k and v have."""
    strides = q.stride(), k.stride(), v.stride(), given.stride()
    tensors = problem.tensors() | {"q": q, "k": k, "v": v, "given": given}
    return Backward(problem, launchers(problem.launchers.kind, strides), tensors, problem.numbers())


def key_gradients(shared: Backward, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of k and v."""
    problem, ready, tensors, numbers = shared
    tokens, heads, _ = k.shape
    dk, dv = problem.new(k, tokens), problem.new(v, tokens)
    tiles = problem.tiles[ready.shapes.keys.tile]
    if tokens:
        count = tiles.shape[1]
        numbers = numbers | {"qk_scale": problem.qk_scale, "num_tiles": count}
        ready.keys((heads, count), tensors | {"dk": dk, "dv": dv, "tiles": tiles}, numbers)
    return dk, dv


def query_gradients(shared: Backward, q: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, and of amount and rate of a decay."""
    problem, ready, tensors, numbers = shared
    tokens, heads, _ = q.shape
    dq = problem.new(q, tokens)
    tiles = problem.query_tiles[ready.shapes.queries.tile]
    count = tiles.shape[1]
    amount = problem.amount
    # Zeros: tiles of length 0 write nothing.
    rows = None if amount is None else amount.new_zeros((count, heads, 2))
    if tokens:
        numbers = numbers | {"qk_scale": problem.qk_scale, "num_tiles": count}
        ready.queries((heads, count), tensors | {"dq": dq, "decay_rows": rows, "tiles": tiles}, numbers)
    if rows is None or amount is None:
        return dq, None, None
    sums = rows.sum(0) if amount.shape[0] == heads else rows.sum((0, 1))[None]
    return dq, sums[:, 0], sums[:, 1]


def table_gradients(shared: Backward) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the position and time tables that there are."""
    problem, ready, tensors, numbers = shared
    position, time = (_gradient_rows(table, ready.tables) for table in (problem.position, problem.time))
    if position is None and time is None:
        return None, None
    shape, shares = ready.shapes.diagonals, ready.shapes.shares
    tiles = problem.tiles[shape.tile]
    count = tiles.shape[1]
    programs = shape.tile // shape.stream * shares
    crowded = None
    if position is not None and ready.kind.mask == RICH:
        crowded = torch.zeros_like(position)
    position_rows = time_rows = None
    if position is not None:
        columns = shape.tile + shape.stream
        position_rows = position.new_empty((ready.tables * count * programs, columns))
    if time is not None:
        time_rows = time.new_empty((ready.tables * count * programs, TIME_COLUMNS))
    rows = {"position_rows": position_rows, "time_rows": time_rows, "tiles": tiles}
    if count:
        given = tensors | rows | {"crowded": crowded}
        ready.diagonals((programs * ready.tables, count), given, numbers | {"num_tiles": count})
    sums = {"output_scale": problem.output_scale, "num_tiles": count}
    blocks = ready.position_blocks + ready.time_blocks
    ready.reduce((blocks, ready.tables), rows | {"dposition": position, "dtime": time}, sums)
    if position is not None and crowded is not None:
        position += crowded
    return _like(position, problem.position), _like(time, problem.time)


def _gradient_rows(table: Tensor | None, rows: int) -> Tensor | None:
    return None if table is None else table.new_empty((rows, table.shape[-1]))


def _like(rows: Tensor | None, table: Tensor | None) -> Tensor | None:
    """A gradient of the table's own shape; one of many heads is summed where they share one row."""
    if rows is None or table is None:
        return None
    shared = table.ndim == 1 or table.shape[0] == 1
    return (rows.sum(0, keepdim=True) if shared and len(rows) > 1 else rows).view(table.shape)
