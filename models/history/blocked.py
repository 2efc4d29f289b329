"""History masses in plain torch, a block of pairs at a time: no tensor of all pairs, on any device.

Sequences of like length are put together, and their queries taken some at a time, so that a block has few
more pairs than there are. Blocks are computed once forward and once more backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention.bias import time_bucket
from models.attention.sequences import Sequences
from models.history.inputs import HistoryBias, HistoryInputs
from models.history.recency import recency_bucket
from models.history.reference import log_sum

_CELLS = {"cpu": 1 << 18}
"""Pairs of a block: few enough for a CPU's cache."""
_MORE_CELLS = 1 << 24
_NONE = float("-inf")


def unavailable() -> list[str]:
    """It runs wherever torch does."""
    return []


def reasons_against(inputs: HistoryInputs) -> list[str]:
    """It fits every input."""
    return []


def run(inputs: HistoryInputs) -> tuple[Tensor, Tensor]:
    """See `models.history.dispatch.history_masses`; float64 where anything has it."""
    bias = inputs.bias
    tensors = (inputs.query, inputs.key, bias.constant, bias.states, bias.time, bias.recency)
    masses: tuple[Tensor, Tensor] = _BlockedMasses.apply(inputs, *tensors)
    return masses


class _Block(NamedTuple):
    """Queries and keys of some sequences, and what is known of their pairs; [rows, queries, keys] or less."""

    query: Tensor  # [rows, queries] events
    key: Tensor  # [rows, keys] events
    competes: Tensor
    same: Tensor
    state: Tensor | None  # row of the table of states, flattened
    time: Tensor | None  # bucket
    recency: Tensor | None  # [queries, keys] bucket


class _BlockedMasses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: HistoryInputs, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        ctx.inputs = _without_gradients(inputs)
        ctx.save_for_backward(*tensors)
        events, precision = inputs.sequences.num_tokens, inputs.precision
        # One more than there are: where places without an event write to.
        found = torch.full((2, events + 1), _NONE, dtype=precision, device=inputs.device)
        for block, present in _blocks(ctx.inputs):
            logits = _logits(block, tensors, precision)
            place = block.query.masked_fill(~present, events)
            for mass, those in zip(found, (block.same, ~block.same), strict=True):
                mass[place] = log_sum(logits, block.competes & those)
        on_target, on_rest = found[:, :events]
        ctx.masses = on_target, on_rest
        return on_target.clone(), on_rest.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        tensors, inputs = ctx.saved_tensors, ctx.inputs
        gradients = [
            None if one is None else torch.zeros_like(one, dtype=inputs.precision) for one in tensors
        ]
        query, key, constant, *tables = gradients
        for block, _ in _blocks(inputs):
            logits = _logits(block, tensors, inputs.precision)
            of_logits = torch.zeros_like(logits)
            for mass, gradient, those in zip(ctx.masses, given, (block.same, ~block.same), strict=True):
                level, factor = mass[block.query], gradient[block.query]
                # Where a mass is minus infinity nothing counts, and the difference has to be a number.
                none = level == _NONE
                level, factor = (one.masked_fill(none, 0.0)[..., None] for one in (level, factor))
                share = (logits - level).masked_fill(~(block.competes & those), _NONE).exp()
                of_logits += share * factor
            if query is not None and key is not None:
                of_query, of_key = (tensors[n].to(logits.dtype) for n in range(2))
                query.index_add_(0, block.query.flatten(), (of_logits @ of_key[block.key]).flatten(0, 1))
                transposed = of_logits.transpose(1, 2) @ of_query[block.query]
                key.index_add_(0, block.key.flatten(), transposed.flatten(0, 1))
            assert constant is not None
            constant += of_logits.sum()
            for table, place in zip(tables, (block.state, block.time, block.recency), strict=True):
                if table is not None and place is not None:
                    values = of_logits if place.ndim == 3 else of_logits.sum(0)
                    table.view(-1).index_add_(0, place.flatten(), values.flatten())
        typed = [
            None if one is None else one.to(like.dtype) for one, like in zip(gradients, tensors, strict=True)
        ]
        return None, *typed


def _logits(block: _Block, tensors: tuple[Tensor | None, ...], precision: torch.dtype) -> Tensor:
    """[rows, queries, keys]."""
    query, key, constant, *tables = tensors
    assert constant is not None
    logits = constant.to(precision).expand(block.competes.shape)
    if query is not None and key is not None:
        logits = logits + query[block.query].to(precision) @ key[block.key].to(precision).transpose(1, 2)
    for table, place in zip(tables, (block.state, block.time, block.recency), strict=True):
        if table is not None and place is not None:
            logits = logits + table.flatten().to(precision)[place]
    return logits


def _blocks(inputs: HistoryInputs) -> Iterator[tuple[_Block, Tensor]]:
    """All pairs of a query and an earlier key, in blocks, and which queries of a block there are."""
    columns, bias, sequences = inputs.columns, inputs.bias, inputs.sequences
    cells = _CELLS.get(inputs.device.type, _MORE_CELLS)
    for rows, longest in _groups(sequences, cells):
        step = max(1, cells // (longest * len(rows)))
        place = torch.arange(longest, device=inputs.device)
        index = sequences.offsets[rows][:, None] + place
        present = index < sequences.offsets[rows + 1][:, None]
        index = index.masked_fill(~present, 0)
        for first in range(0, longest, step):
            stop = min(first + step, longest)
            query, key = index[:, first:stop], index[:, :stop]
            i, j = query[:, :, None], key[:, None, :]
            item, target = columns.item[key][:, None, :], columns.target[query][:, :, None]
            before = place[:stop] <= place[first:stop, None]
            competes = before & (present[:, :stop] & (item[:, 0] != 0))[:, None, :]
            competes = competes & (present[:, first:stop, None] & (target != 0))
            yield (
                _Block(
                    query,
                    key,
                    competes,
                    item == target,
                    _states(inputs, query, key),
                    None if bias.time is None else time_bucket(columns.query_time[i] - columns.timestamp[j]),
                    None
                    if bias.recency is None
                    else recency_bucket((place[first:stop, None] - place[:stop]).clamp(min=0)),
                ),
                present[:, first:stop],
            )


def _states(inputs: HistoryInputs, query: Tensor, key: Tensor) -> Tensor | None:
    """[rows, queries, keys] places in `HistoryBias.states`, flattened; None: there is no such table."""
    columns, bias = inputs.columns, inputs.bias
    tables = [table for table in (bias.behavior, bias.latest, bias.closed) if table is not None]
    if not tables:
        return None
    size = len(tables[0])
    place = columns.behavior[key][:, None, :] * size + columns.wanted[query][:, :, None]
    for factor, table, since in ((1, bias.latest, columns.again), (2, bias.closed, columns.closed)):
        if table is not None and since is not None:
            place = place + factor * size**2 * (since[key][:, None, :] <= query[:, :, None])
    return place


def _groups(sequences: Sequences, cells: int) -> Iterator[tuple[Tensor, int]]:
    """Numbers of sequences that are taken together, and the length of the longest of them.

    Where lengths are known, neighbors by length; otherwise as many in order as have room.
    """
    lengths, device = sequences.lengths, sequences.offsets.device
    if sequences.room is not None:
        # Nothing is copied from the host: the step may be recorded.
        longest, number = sequences.max_length, torch.arange(sequences.num_sequences, device=device)
        for some in number.split(max(1, cells // max(1, longest**2))) if longest else ():
            yield some, longest
        return
    order = sorted((n for n in range(len(lengths)) if lengths[n]), key=lambda n: -lengths[n])
    while order:
        longest = lengths[order[0]]
        count = max(1, cells // longest**2)
        yield torch.tensor(order[:count], device=device), longest
        order = order[count:]


def _without_gradients(inputs: HistoryInputs) -> HistoryInputs:
    """The same for a context that outlives the call: it must not hold the graph that it is part of."""
    names = [field.name for field in fields(HistoryBias)]
    tables = [getattr(inputs.bias, name) for name in names] + [inputs.query, inputs.key]
    *tables, query, key = (None if one is None else one.detach() for one in tables)
    bias = replace(inputs.bias, **dict(zip(names, tables, strict=True)))
    return replace(inputs, query=query, key=key, bias=bias)
