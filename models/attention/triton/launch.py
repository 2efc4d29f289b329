"""From tensors to launches: allocates results, rounds dimensions up, chooses tiles, and starts kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.triton.backward import key_kernel, query_kernel
from models.attention.triton.bias_gradient import TIME_COLUMNS, diagonal_kernel, reduce_kernel
from models.attention.triton.forward import forward_kernel
from models.attention.triton.start import start
from models.attention.triton.step import INTERPRETED
from models.attention.triton.times import Times
from models.attention.triton.tuning import Shapes, shapes

_REDUCED_ROWS = 16
_REDUCED_COLUMNS = 16


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything but q, k and v."""

    tiles: dict[int, Tensor]
    """`tile_list` by size of tile."""
    position: Tensor | None
    time: Tensor | None
    times: Times | None
    window: int | None
    qk_scale: float
    output_scale: float
    shapes: Shapes

    def bias_arguments(self) -> dict[str, object]:
        """Kernel arguments that describe the bias."""
        times = self.times
        if self.time is None or times is None:
            return {
                "position": self.position, "time": None, "query_time": None, "timestamp": None,
                "seconds": None, "bounds": None, "borders": None, "wide_borders": None, "tokens": 0,
                "num_blocks": 0,
            }  # fmt: skip
        return {
            "position": self.position, "time": self.time, "borders": times.borders,
            "wide_borders": times.wide_borders, "query_time": times.query_time,
            "timestamp": times.timestamp, "seconds": times.seconds, "bounds": times.bounds,
            "tokens": times.seconds.shape[1], "num_blocks": times.bounds.shape[1],
        }  # fmt: skip


def choose_shapes(q: Tensor, v: Tensor, timed: bool, longest: int) -> Shapes:
    """The tiles for these head dimensions and type, and sequences of up to `longest` tokens."""
    return shapes(width(q.shape[2]), width(v.shape[2]), q.element_size(), timed, longest <= 256)


def width(dim: int) -> int:
    """A head dimension rounded up to what a kernel can hold: a power of two, 16 at least."""
    return max(16, 1 << (dim - 1).bit_length())


def forward(problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[tokens, heads, v_dim]."""
    tokens, heads, v_dim = v.shape
    out = torch.empty((tokens, heads, v_dim), dtype=v.dtype, device=v.device)
    shape = problem.shapes.forward
    tiles = problem.tiles[shape.tile]
    if tokens:
        arguments = problem.bias_arguments() | _constants(problem, q, k, v) | {
            "out": out, "tiles": tiles, "num_tiles": tiles.shape[1], "out_stride": heads * v_dim,
            "QUERIES": shape.tile, "KEYS": shape.stream, "SPLIT": problem.shapes.split,
        }  # fmt: skip
        start(forward_kernel, (heads, tiles.shape[1]), shape, arguments)
    return out


def key_gradients(problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of k and v, given that of the result."""
    (tokens, heads, qk_dim), v_dim = k.shape, v.shape[2]
    dk = torch.empty((tokens, heads, qk_dim), dtype=k.dtype, device=k.device)
    dv = torch.empty((tokens, heads, v_dim), dtype=v.dtype, device=v.device)
    shape = problem.shapes.keys
    tiles = problem.tiles[shape.tile]
    if tokens:
        arguments = _backward_arguments(problem, q, k, v, given) | {
            "dk": dk, "dv": dv, "dk_stride": heads * qk_dim, "dv_stride": heads * v_dim,
            "tiles": tiles, "num_tiles": tiles.shape[1],
            "KEYS": shape.tile, "QUERIES": shape.stream, "SPLIT": problem.shapes.split,
        }  # fmt: skip
        start(key_kernel, (heads, tiles.shape[1]), shape, arguments)
    return dk, dv


def query_gradients(problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor) -> Tensor:
    """Gradient of q, given that of the result."""
    tokens, heads, qk_dim = q.shape
    dq = torch.empty((tokens, heads, qk_dim), dtype=q.dtype, device=q.device)
    shape = problem.shapes.queries
    tiles = problem.tiles[shape.tile]
    if tokens:
        arguments = _backward_arguments(problem, q, k, v, given) | {
            "dq": dq, "dq_stride": heads * qk_dim, "tiles": tiles, "num_tiles": tiles.shape[1],
            "QUERIES": shape.tile, "KEYS": shape.stream, "SPLIT": problem.shapes.split,
        }  # fmt: skip
        start(query_kernel, (heads, tiles.shape[1]), shape, arguments)
    return dq


def table_gradients(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the tables that there are, given that of the result."""
    shape, shares = problem.shapes.diagonals, problem.shapes.shares
    tiles = problem.tiles[shape.tile]
    count = tiles.shape[1]
    programs = shape.tile // shape.stream * shares
    position_rows = time_rows = dposition = dtime = None
    position_blocks = time_blocks = 0
    if problem.position is not None:
        dposition = torch.empty_like(problem.position)
        position_rows = torch.empty((count * programs, shape.tile + shape.stream), device=q.device)
        position_blocks = -(-dposition.shape[0] // shape.tile)
    if problem.time is not None:
        dtime = torch.empty_like(problem.time)
        time_rows = torch.empty((count * programs, TIME_COLUMNS), device=q.device)
        time_blocks = -(-dtime.shape[0] // _REDUCED_COLUMNS)
    rows: dict[str, object] = {
        "position_rows": position_rows, "time_rows": time_rows, "tiles": tiles, "num_tiles": count,
        "position_size": 0 if dposition is None else dposition.shape[0],
        "QUERIES": shape.tile, "KEYS": shape.stream, "SHARES": shares,
    }  # fmt: skip
    if count:
        arguments = _backward_arguments(problem, q, k, v, given) | rows | {"HEADS": q.shape[1]}
        start(diagonal_kernel, (programs, count), shape, arguments)
    sums: dict[str, object] = {
        "dposition": dposition, "dtime": dtime, "position_blocks": position_blocks,
        "time_size": 0 if dtime is None else dtime.shape[0], "output_scale": problem.output_scale,
        "ROWS": _REDUCED_ROWS, "COLUMNS": _REDUCED_COLUMNS,
    }  # fmt: skip
    start(reduce_kernel, (position_blocks + time_blocks, 1), None, rows | sums)
    return dposition, dtime


def _backward_arguments(
    problem: Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor
) -> dict[str, object]:
    """What all kernels of backward are given."""
    return problem.bias_arguments() | _constants(problem, q, k, v) | {
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
        "window": problem.window or 0, "HAS_WINDOW": problem.window is not None,
        "half_scale": 0.5 * problem.qk_scale, "output_scale": problem.output_scale,
        "FAST": q.element_size() == 2 and not INTERPRETED, "PRECISION": "tf32x3" if precise else "tf32",
    }  # fmt: skip
