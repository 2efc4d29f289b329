"""From tensors to launches: allocates results, rounds dimensions up, chooses tiles, and starts kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.triton.backward import key_kernel, query_kernel
from models.attention.triton.bias_gradient import TIME_COLUMNS, diagonal_kernel, reduce_kernel
from models.attention.triton.forward import forward_kernel
from models.attention.triton.sight import CAUSAL, RICH, WINDOW
from models.attention.triton.start import start
from models.attention.triton.step import INTERPRETED
from models.attention.triton.times import Times
from models.attention.triton.tuning import Shapes, shapes

_REDUCED_ROWS = 16
_REDUCED_COLUMNS = 16
_FAR = 1 << 30


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything but q, k and v."""

    tiles: dict[int, Tensor]
    """`tile_list` of the keys by size of tile."""
    query_tiles: dict[int, Tensor]
    """The same of the queries."""
    window: int | None
    front: int
    context: int
    rules: Tensor | None
    """[3, sequences] int64: tokens before the candidates, row of q at which the sequence's place 0 would be,
    and place of the first query; None where the mask is plain and all tokens are queries."""
    position: Tensor | None
    time: Tensor | None
    amount: Tensor | None
    rate: Tensor | None
    power: bool
    times: Times | None
    identity: bool
    qk_scale: float
    output_scale: float
    shapes: Shapes
    padded: bool = False
    """Whether there may be tokens that belong to no sequence: their results and gradients are zero."""

    @property
    def mask(self) -> int:
        """How much of a mask the kernels have to do with."""
        if self.rules is not None:
            return RICH
        return CAUSAL if self.window is None else WINDOW

    @property
    def split(self) -> bool:
        """Whether tiles that need no mask have a loop of their own."""
        return self.shapes.split and self.mask != RICH

    def new(self, shape: tuple[int, int, int], like: Tensor) -> Tensor:
        """A result that kernels write, but for tokens that belong to no sequence."""
        make = torch.zeros if self.padded else torch.empty
        return make(shape, dtype=like.dtype, device=like.device)

    def arguments(self) -> dict[str, object]:
        """Kernel arguments that describe the mask and the bias."""
        times = self.times
        return {
            "rules": self.rules, "num_sequences": 0 if self.rules is None else self.rules.shape[1],
            "window": _FAR if self.window is None else self.window, "front": self.front,
            "context": self.context, "MASK": self.mask,
            "position": self.position, "position_head": _head_stride(self.position, 2),
            "time": self.time, "time_head": _head_stride(self.time, 2),
            "amount": self.amount, "rate": self.rate, "decay_head": _head_stride(self.amount, 1),
            "POWER": self.power, "IDENTITY": self.identity,
            "query_time": times and times.query_time, "timestamp": times and times.timestamp,
            "seconds": times and times.seconds, "bounds": times and times.bounds,
            "borders": times and times.borders, "wide_borders": times and times.wide_borders,
            "tokens": times.seconds.shape[1] if times else 0,
            "num_blocks": times.bounds.shape[1] if times else 0,
        }  # fmt: skip


def _head_stride(table: Tensor | None, dims: int) -> int:
    """Numbers from a head's row of a table to the next; 0 where all share one."""
    return 0 if table is None or table.ndim < dims or table.shape[0] == 1 else table.stride(0)


def choose_shapes(q: Tensor, v: Tensor, timed: bool, longest: int) -> Shapes:
    """The tiles for these head dimensions and type, and sequences of up to `longest` tokens."""
    return shapes(width(q.shape[2]), width(v.shape[2]), q.element_size(), timed, longest <= 256)


def width(dim: int) -> int:
    """A head dimension rounded up to what a kernel can hold: a power of two, 16 at least."""
    return max(16, 1 << (dim - 1).bit_length())


def forward(problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[tokens, heads, v_dim]."""
    (tokens, heads, _), v_dim = q.shape, v.shape[2]
    out = problem.new((tokens, heads, v_dim), v)
    shape = problem.shapes.forward
    tiles = problem.query_tiles[shape.tile]
    if tokens:
        arguments = problem.arguments() | _constants(problem, q, k, v) | {
            "out": out, "tiles": tiles, "num_tiles": tiles.shape[1], "out_stride": heads * v_dim,
            "QUERIES": shape.tile, "KEYS": shape.stream, "SPLIT": problem.split,
        }  # fmt: skip
        start(forward_kernel, (heads, tiles.shape[1]), shape, arguments)
    return out


def key_gradients(problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of k and v, given that of the result."""
    (tokens, heads, qk_dim), v_dim = k.shape, v.shape[2]
    dk, dv = problem.new((tokens, heads, qk_dim), k), problem.new((tokens, heads, v_dim), v)
    shape = problem.shapes.keys
    tiles = problem.tiles[shape.tile]
    if tokens:
        arguments = _backward_arguments(problem, q, k, v, given) | {
            "dk": dk, "dv": dv, "dk_stride": heads * qk_dim, "dv_stride": heads * v_dim,
            "tiles": tiles, "num_tiles": tiles.shape[1],
            "KEYS": shape.tile, "QUERIES": shape.stream, "SPLIT": problem.split,
        }  # fmt: skip
        start(key_kernel, (heads, tiles.shape[1]), shape, arguments)
    return dk, dv


def query_gradients(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, and of amount and rate of a decay, given that of the result."""
    tokens, heads, qk_dim = q.shape
    dq = problem.new((tokens, heads, qk_dim), q)
    shape = problem.shapes.queries
    tiles = problem.query_tiles[shape.tile]
    amount = problem.amount
    # Zeros: tiles of length 0 write nothing.
    rows = None if amount is None else torch.zeros((tiles.shape[1], heads, 2), device=q.device)
    if tokens:
        arguments = _backward_arguments(problem, q, k, v, given) | {
            "dq": dq, "dq_stride": heads * qk_dim, "decay_rows": rows,
            "tiles": tiles, "num_tiles": tiles.shape[1],
            "QUERIES": shape.tile, "KEYS": shape.stream, "SPLIT": problem.split,
        }  # fmt: skip
        start(query_kernel, (heads, tiles.shape[1]), shape, arguments)
    if rows is None or amount is None:
        return dq, None, None
    sums = rows.sum(0) if amount.shape[0] == heads else rows.sum((0, 1))[None]
    return dq, sums[:, 0], sums[:, 1]


def table_gradients(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the position and time tables that there are, given that of the result."""
    shape, shares, heads = problem.shapes.diagonals, problem.shapes.shares, q.shape[1]
    tiles = problem.tiles[shape.tile]
    count = tiles.shape[1]
    programs = shape.tile // shape.stream * shares
    given_tables = (problem.position, problem.time)
    # Tables of one row for all heads are summed over heads in the kernel.
    tables = 1 if all(_head_stride(table, 2) == 0 for table in given_tables) else heads
    position, time = (_gradient_rows(table, tables) for table in given_tables)
    if position is None and time is None:
        return None, None
    crowded = torch.zeros_like(position) if position is not None and problem.mask == RICH else None
    position_rows = time_rows = None
    position_blocks = time_blocks = 0
    if position is not None:
        position_rows = position.new_empty((tables * count * programs, shape.tile + shape.stream))
        position_blocks = -(-position.shape[1] // shape.tile)
    if time is not None:
        time_rows = time.new_empty((tables * count * programs, TIME_COLUMNS))
        time_blocks = -(-time.shape[1] // _REDUCED_COLUMNS)
    rows: dict[str, object] = {
        "position_rows": position_rows, "crowded": crowded, "time_rows": time_rows, "tiles": tiles,
        "num_tiles": count, "position_size": 0 if position is None else position.shape[1],
        "QUERIES": shape.tile, "KEYS": shape.stream, "SHARES": shares,
    }  # fmt: skip
    if count:
        arguments = _backward_arguments(problem, q, k, v, given) | rows | {"HEADS": heads // tables}
        start(diagonal_kernel, (programs * tables, count), shape, arguments)
    sums: dict[str, object] = {
        "dposition": position, "dtime": time, "position_blocks": position_blocks,
        "time_size": 0 if time is None else time.shape[1], "output_scale": problem.output_scale,
        "ROWS": _REDUCED_ROWS, "COLUMNS": _REDUCED_COLUMNS,
    }  # fmt: skip
    start(reduce_kernel, (position_blocks + time_blocks, tables), None, rows | sums)
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


def _backward_arguments(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor
) -> dict[str, object]:
    """What all kernels of backward are given."""
    return problem.arguments() | _constants(problem, q, k, v) | {
        "given": given, "given_stride": given.stride(0), "given_head": given.stride(1),
        "qk_scale": problem.qk_scale,
    }  # fmt: skip


def _constants(problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> dict[str, object]:
    """What all kernels but the last are given."""
    # Three products of TF32 halves are float32 to its last bits or two, on the matrix units.
    precise = q.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return {
        "q": q, "q_stride": q.stride(0), "q_head": q.stride(1),
        "k": k, "k_stride": k.stride(0), "k_head": k.stride(1),
        "v": v, "v_stride": v.stride(0), "v_head": v.stride(1),
        "QK_DIM": q.shape[2], "QK_WIDTH": width(q.shape[2]),
        "V_DIM": v.shape[2], "V_WIDTH": width(v.shape[2]),
        "half_scale": 0.5 * problem.qk_scale, "output_scale": problem.output_scale,
        "FAST": q.element_size() == 2 and not INTERPRETED, "PRECISION": "tf32x3" if precise else "tf32",
    }  # fmt: skip
