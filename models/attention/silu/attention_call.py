"""What the kernels are to compute: everything of a call of attention but q, k and v."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.attention.bias import RelativeTime
from models.attention.inputs import AttentionInputs
from models.attention.sequences import Sequences
from models.attention.silu.masking import CAUSAL, RICH, WINDOW
from models.attention.silu.specialization import KernelSet, Specialization, kernel_set
from models.attention.silu.tail import with_zeros_after
from models.attention.silu.tiles import tile_lists
from models.attention.silu.times import Times, times_of

Tables = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""What has gradients of a bias: position, time, amount and rate of a decay."""

NO_TABLES: Tables = (None, None, None, None)
_TABLES = ("position", "time", "amount", "rate")
_TIMES = ("query_time", "timestamp", "seconds", "bounds", "boundaries", "wide_boundaries")
"""Names of kernel arguments, of `Times` those of its fields."""
_FAR = 1 << 30
"""A window that hides nothing."""
_SHORT = 256
"""Tokens of the longest sequence that is cut like short ones."""


class AttentionCall(NamedTuple):
    """Everything but q, k and v."""

    kernel_set: KernelSet
    """For the strides of q, k and v."""
    tiles: dict[int, Tensor]
    """`tile_list` of the keys by size of tile."""
    query_tiles: dict[int, Tensor]
    """The same of the queries."""
    rules: Tensor | None
    """[3, sequences] int64: tokens before the candidates, row of q at which the sequence's place 0 would be,
    and place of the first query; None where the mask is plain and all tokens are queries."""
    position: Tensor | None
    time: Tensor | None
    amount: Tensor | None
    rate: Tensor | None
    times: Times | None
    qk_scale: float
    output_scale: float
    pairs: int
    """At most so many pairs of a query and a key, of all heads."""
    longest: int
    """No sequence has more tokens."""
    end: Tensor | None
    """[1] int64 the first token that belongs to no sequence: from there on results and gradients are zero.
    None: there is no such token."""

    @property
    def tables(self) -> Tables:
        """What of the bias has gradients."""
        return self.position, self.time, self.amount, self.rate

    @property
    def padded(self) -> bool:
        """Whether there may be tokens that belong to no sequence."""
        return self.end is not None

    def new(self, like: Tensor, rows: int) -> Tensor:
        """[rows, *like.shape[1:]] a result that kernels write, but for tokens that belong to no sequence."""
        if self.end is not None:
            if self.of_last:  # which end elsewhere
                return like.new_zeros((rows, *like.shape[1:]))
            return with_zeros_after(like.new_empty((rows, *like.shape[1:])), self.end)
        if rows == like.shape[0]:
            return torch.empty_like(like, memory_format=torch.contiguous_format)
        return like.new_empty((rows, *like.shape[1:]))

    @property
    def of_last(self) -> bool:
        """Whether queries are only the last tokens of sequences."""
        return self.query_tiles is not self.tiles

    def tensors(self) -> dict[str, Tensor | None]:
        """Kernel arguments that describe the mask and the bias: tensors, those that there are."""
        tables = zip(_TABLES, self.tables, strict=True)
        named: dict[str, Tensor | None] = {name: table for name, table in tables if table is not None}
        if self.rules is not None:
            named["rules"] = self.rules
        if self.times is not None:
            named |= {name: getattr(self.times, name) for name in _TIMES}
            if self.time is not None:
                named["bucket_table"] = self.times.bucket_table()
        return named

    def numbers(self) -> dict[str, int | float]:
        """Kernel arguments that differ by the batch: numbers, those that are not 0."""
        numbers: dict[str, int | float] = {
            "half_scale": 0.5 * self.qk_scale, "output_scale": self.output_scale
        }  # fmt: skip
        if self.rules is not None:
            numbers["num_sequences"] = self.rules.shape[1]
        if self.times is not None:
            numbers["tokens"] = self.times.seconds.shape[1]
            numbers["num_blocks"] = self.times.bounds.shape[1]
        return numbers


def attention_call(
    inputs: AttentionInputs,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tables: Tables,
    precompile: Callable[[KernelSet], None] | None = None,
) -> AttentionCall:
    """What is to be computed, for q, k and v with contiguous rows and the `tables` of the bias.

    `precompile` is told which kernels there will be, before the first of them is launched.

    Raises:
        ValueError: tensors are on several devices.
    """
    mask, bias, sequences, queries = inputs.mask, inputs.bias, inputs.sequences, inputs.queries
    position, time, amount, rate = tables = _contiguous(tables)
    relative_time = None
    if bias is not None and (time is not None or amount is not None):
        relative_time = bias.relative_time
    rich = not mask.is_plain or queries is not None
    kind = _kind(inputs, q, k, v, tables, relative_time, rich)
    ready = kernel_set(kind, (q.stride(), k.stride(), v.stride()))
    if precompile is not None and not ready.precompiled:
        precompile(ready)
    times = None if relative_time is None else times_of(relative_time)
    tiles = tile_lists(sequences, ready.sizes)
    return AttentionCall(
        kernel_set=ready,
        tiles=tiles,
        query_tiles=tiles if queries is None else tile_lists(sequences, ready.sizes, queries),
        rules=_rules(mask.history(sequences), sequences.offsets, queries) if rich else None,
        position=position,
        time=time,
        amount=amount,
        rate=rate,
        times=times,
        # Whole numbers would be compiled into a kernel.
        qk_scale=float(inputs.qk_scale),
        output_scale=float(inputs.output_scale),
        pairs=q.shape[0] * q.shape[1] * sequences.max_length,
        longest=sequences.max_length,
        end=None if sequences.room is None else sequences.offsets[-1:],
    )


def _contiguous(tables: Tables) -> Tables:
    position, time, amount, rate = tables
    return (
        None if position is None else position.contiguous(),
        None if time is None else time.contiguous(),
        None if amount is None else amount.contiguous(),
        None if rate is None else rate.contiguous(),
    )


def _kind(
    inputs: AttentionInputs,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tables: Tables,
    times: RelativeTime | None,
    rich: bool,
) -> Specialization:
    mask, bias = inputs.mask, inputs.bias
    position, time, amount, _ = tables
    _, heads, qk_dim = q.shape
    parts = [table.get_device() for table in tables if table is not None]
    if times is not None:
        parts.append(times.timestamp.get_device())
    plain = CAUSAL if mask.window is None else WINDOW
    dtype = q.dtype
    return Specialization(
        devices=(
            q.get_device(), k.get_device(), v.get_device(), inputs.sequences.offsets.get_device(), *parts
        ),
        dtype=dtype,
        heads=heads,
        qk_dim=qk_dim,
        v_dim=v.shape[2],
        mask=RICH if rich else plain,
        of_last=inputs.queries is not None,
        window=_FAR if mask.window is None else mask.window,
        front=mask.front,
        context=mask.context,
        position=None if position is None else position.shape,
        time=None if time is None else time.shape,
        decay=None if amount is None else amount.shape,
        times=None if times is None else (times.query_time.dtype, times.timestamp.dtype),
        power=bool(bias and bias.decay and bias.decay.kind == "power"),
        identity=inputs.activation == "identity",
        short=inputs.sequences.max_length <= _SHORT,
        precise=dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest",
    )  # fmt: skip


def _rules(history: Tensor, offsets: Tensor, queries: Sequences | None) -> Tensor:
    """[3, sequences] int64, see `AttentionCall.rules`."""
    if queries is None:
        return torch.stack([history, offsets[:-1], torch.zeros_like(history)])
    skip = offsets.diff() - queries.offsets.diff()
    return torch.stack([history, queries.offsets[:-1] - skip, skip])
