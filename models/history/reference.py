"""The oracle of history masses: dense, in plain torch, on any device, quadratic in the longest sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from models.history.inputs import HistoryInputs, pair_bias


def unavailable() -> list[str]:
    """It runs wherever torch does."""
    return []


def reasons_against(inputs: HistoryInputs) -> list[str]:
    """It fits every input."""
    return []


def run(inputs: HistoryInputs) -> tuple[Tensor, Tensor]:
    """See `models.history.dispatch.history_masses`; float64 where anything has it."""
    index, present = inputs.sequences.padded_index()  # [sequences, longest]
    query, key = index[:, :, None], index[:, None, :]
    logits = pair_bias(inputs.bias, inputs.columns, query, key).to(inputs.precision)
    if inputs.query is not None and inputs.key is not None:
        of_query, of_key = (vectors.to(inputs.precision)[index] for vectors in (inputs.query, inputs.key))
        logits = logits + of_query @ of_key.transpose(1, 2)
    item, target = inputs.columns.item[key], inputs.columns.target[query]
    competes = present[:, None, :] & present[:, :, None] & (key <= query) & (item != 0) & (target != 0)
    same = item == target
    return tuple(_of_events(log_sum(logits, competes & those), inputs) for those in (same, ~same))  # type: ignore[return-value]


def log_sum(logits: Tensor, counts: Tensor) -> Tensor:
    """`log sum exp` over the last dimension of the logits that count; minus infinity, with gradients of zero,
    where none does."""
    some = counts.any(-1)
    logits = logits.masked_fill(~counts, float("-inf")).masked_fill(~some[..., None], 0.0)
    return logits.logsumexp(-1).masked_fill(~some, float("-inf"))


def _of_events(padded: Tensor, inputs: HistoryInputs) -> Tensor:
    """[events] of [sequences, longest]; minus infinity for events after the last sequence."""
    offsets, longest = inputs.sequences.offsets, inputs.sequences.max_length
    event = torch.arange(inputs.sequences.num_tokens, device=offsets.device)
    if padded.numel() == 0:
        return padded.new_full(event.shape, float("-inf"))
    row = (torch.searchsorted(offsets, event, right=True) - 1).clamp(max=len(offsets) - 2)
    place = (event - offsets[row]).clamp(max=longest - 1)
    return padded[row, place].masked_fill(event >= offsets[-1], float("-inf"))
