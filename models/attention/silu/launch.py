"""From tensors to launches: allocates results and launches kernels."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.attention.silu.attention_call import AttentionCall
from models.attention.silu.specialization import KernelSet, kernel_set
from models.attention.silu.wide import of_kept, room_for_scores, write_bias
from models.gpu.launcher import Numbers, Tensors


def forward(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[tokens, heads, v_dim]."""
    tokens, heads, _ = q.shape
    ready = call.kernel_set
    tiles = call.query_tiles[ready.shapes.forward.tile]
    if call.of_last and tokens:
        parts = parts_of_keys(heads * tiles.shape[1], call.longest // ready.shapes.forward.stream, q.device)
        if parts > 1:
            return _forward_in_parts(call, parts, q, k, v)
    out = call.new(v, tokens)
    if tokens:
        tensors = call.tensors() | {"q": q, "k": k, "v": v, "out": out, "tiles": tiles}
        tensors |= _boundary_counts(call, ready, "keys_beyond")
        numbers = call.numbers() | {"num_tiles": tiles.shape[1]}
        ready.forward((heads, tiles.shape[1]), tensors, numbers)
    return out


def _forward_in_parts(call: AttentionCall, parts: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same, of which each program finds the part of some keys; their sum is always in one order."""
    ready, (tokens, heads, _) = call.kernel_set, q.shape
    tiles, numbers = call.query_tiles[ready.shapes.forward.tile], tokens * heads * v.shape[2]
    # Tokens that belong to no sequence are never written.
    make = torch.zeros if call.padded else torch.empty
    out = make(parts, numbers + -numbers % _ALIGNED, dtype=torch.float32, device=q.device)
    tensors = call.tensors() | {"q": q, "k": k, "v": v, "out": out, "tiles": tiles}
    sizes = {"num_tiles": tiles.shape[1], "parts": parts, "part_size": out.shape[1]}
    ready.forward_parts((heads, tiles.shape[1] * parts), tensors, call.numbers() | sizes)
    return out.sum(0)[:numbers].view(tokens, heads, -1).to(v.dtype)


def parts_of_keys(programs: int, tiles: int, device: torch.device) -> int:
    """How many programs share the keys of a tile of queries, so that a GPU is busy with few queries.

    Args:
        programs: that there are without.
        tiles: of keys of the longest sequence.
        device: where.

    Returns:
        A power of two.
    """
    if device.type != "cuda":
        return 1
    wanted = min(-(-2 * _processors(device) // programs), tiles // LEAST_TILES)
    return 1 << max(wanted, 1).bit_length() - 1


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _boundary_counts(
    call: AttentionCall, ready: KernelSet, name: Literal["keys_beyond", "queries_before"]
) -> Tensors:
    """Counts of tokens beyond bucket boundaries, for kernels with simple tiles, by the name of their
    argument."""
    if call.times is None or not ready.counts_boundaries:
        return {}
    return {name: getattr(call.times, name)()}


_ALIGNED = 16
"""Numbers of which parts are multiples: of any other distance, the kernel would write numbers one by one."""
LEAST_TILES = 4
"""Of keys, below which a part of them is not worth a program."""


class Sums(NamedTuple):
    """Accumulators of the tables' gradients; see `table_gradient`."""

    position_sums: Tensor | None
    """[rows, numbers] int64 in fixed point, for a table of as many rows."""
    time_sums: Tensor | None
    """[rows, numbers] int64: of each stripe of a tile, see `time_gradient`."""
    max_norms: Tensor
    """[2] int32: the bits of the largest squared norms of a row of the output's gradient and of a value."""
    limit: float
    """Fixed-point units of the largest score gradient there can be; a power of two."""


class Backward(NamedTuple):
    """What the kernels of one backward pass share."""

    call: AttentionCall
    kernel_set: KernelSet
    tensors: Tensors
    numbers: Numbers
    sums: Sums | None
    kept: Tensor | None
    """[heads, tokens, places] gradients of scores, where they are kept (`kept_scores`)."""


def backward(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, dout: Tensor, tables: bool) -> Backward:
    """Get ready for gradients, given that of the result; `dout` has contiguous rows, as q, k and v have.

    `tables` says whether position and time tables want theirs.
    """
    strides = q.stride(), k.stride(), v.stride(), dout.stride()
    ready = kernel_set(call.kernel_set.kind, strides, tables)
    tensors = call.tensors() | {"q": q, "k": k, "v": v, "dout": dout}
    sums = _sums(call, ready, k) if tables else None
    return Backward(call, ready, tensors, call.numbers(), sums, room_for_scores(call, ready, q))


def _sums(call: AttentionCall, ready: KernelSet, k: Tensor) -> Sums:
    rows, times = ready.position_sums, ready.time_sums
    position, time = rows[0] * rows[1], times[0] * times[1]
    zeros = k.new_zeros(position + time + 1, dtype=torch.int64)
    return Sums(
        zeros[:position].view(rows) if position else None,
        zeros[position:-1].view(times) if time else None,
        zeros[-1:].view(torch.int32),
        2.0 ** (62 - call.pairs.bit_length()),
    )


def key_gradients(shared: Backward, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of k and v; first, since they find out how large the gradients of tables may be."""
    call, ready, tensors, numbers, sums, _ = shared
    tokens, heads, _ = k.shape
    dk, dv = call.new(k, tokens), call.new(v, tokens)
    tiles = call.tiles[ready.shapes.keys.tile]
    if tokens:
        count = tiles.shape[1]
        written = write_bias(call, ready, k)
        if written is not None:
            tensors = written.tensors | {name: tensors[name] for name in ("q", "k", "v", "dout")}
            numbers = written.numbers
        else:
            tensors = tensors | _boundary_counts(call, ready, "queries_before")
        numbers = numbers | {"qk_scale": call.qk_scale, "num_tiles": count}
        tensors = tensors | {"dk": dk, "dv": dv, "tiles": tiles}
        if sums is not None:
            tensors["max_norms"] = sums.max_norms
        if shared.kept is not None:
            tensors, numbers = tensors | {"kept": shared.kept}, numbers | of_kept(shared.kept)
        ready.keys(shared.kept is not None, written is not None)((heads, count), tensors, numbers)
    return dk, dv


def query_gradients(shared: Backward, q: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of q, and of amount and rate of a decay; and the sums for those of tables."""
    call, ready, tensors, numbers, sums, kept = shared
    if kept is not None and sums is None:
        return _query_gradients_of_kept(shared, kept, q), None, None
    tokens, heads, _ = q.shape
    dq = call.new(q, tokens)
    shape = ready.shapes.queries if kept is None else ready.shapes.kept_summed
    tiles = call.query_tiles[shape.tile]
    count = tiles.shape[1]
    amount = call.amount
    # Zeros: tiles of length 0 write nothing.
    rows = None if amount is None else amount.new_zeros((count, heads, 2))
    if tokens:
        numbers = numbers | {"qk_scale": call.qk_scale, "num_tiles": count}
        tensors = tensors | {"dq": dq, "decay_rows": rows, "tiles": tiles}
        if sums is not None:
            tensors |= {
                "position_sums": sums.position_sums, "time_sums": sums.time_sums,
                "max_norms": sums.max_norms,
            }  # fmt: skip
            numbers["limit"] = sums.limit
        tensors |= _boundary_counts(call, ready, "keys_beyond")
        if kept is None:
            ready.queries((heads, count), tensors, numbers)
        else:
            tensors, numbers = tensors | {"kept": kept}, numbers | of_kept(kept)
            ready.queries_of_kept((heads, count), tensors, numbers)
    if rows is None or amount is None:
        return dq, None, None
    decays = rows.sum(0) if amount.shape[0] == heads else rows.sum((0, 1))[None]
    # Results of an operator must not share memory.
    return dq, decays[:, 0].clone(), decays[:, 1].clone()


def _query_gradients_of_kept(shared: Backward, kept: Tensor, q: Tensor) -> Tensor:
    call, ready = shared.call, shared.kernel_set
    dq = call.new(q, q.shape[0])
    tiles = call.query_tiles[ready.shapes.kept.tile]
    count = tiles.shape[1]
    if q.shape[0]:
        tensors: Tensors = {"k": shared.tensors["k"], "kept": kept, "dq": dq, "tiles": tiles}
        scales: Numbers = {"qk_scale": call.qk_scale, "output_scale": call.output_scale, "num_tiles": count}
        ready.queries_of_kept((q.shape[1], count), tensors, scales | of_kept(kept))
    return dq


def table_gradients(shared: Backward) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the position and time tables that there are, from sums of `query_gradients`."""
    call, ready, _, _, sums, _ = shared
    if sums is None:
        return None, None
    dposition, dtime = (
        # Not `empty_like`: without memory, as kernels are precompiled, it is Python, and imports for seconds.
        None if table is None else table.new_empty(table.shape)
        for table in (call.position, call.time)
    )
    tensors = {
        "position_sums": sums.position_sums, "time_sums": sums.time_sums, "max_norms": sums.max_norms,
        "dposition": dposition, "dtime": dtime,
    }  # fmt: skip
    numbers: Numbers = {"limit": sums.limit, "output_scale": call.output_scale}
    ready.finalize((ready.finalizing, 1), tensors, numbers)
    return dposition, dtime
