"""History logits at ranking time: of one query a sequence, the logits of its past events themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention.sequences import Sequences
from models.history.inputs import HistoryBias, HistoryColumns, pair_bias


def event_logits(
    query: Tensor | None, key: Tensor | None, bias: HistoryBias, columns: HistoryColumns, sequences: Sequences
) -> Tensor:
    """[events] float32 logit g_ij of each event j, i the last event of its sequence; linear in events.

    Args:
        query, key, bias, columns, sequences: see `models.history.dispatch.history_masses`. Targets are not
            looked at, and logits of unknown items mean nothing.
    """
    event = torch.arange(columns.item.shape[0], device=columns.item.device)
    sequence = torch.searchsorted(sequences.offsets, event, right=True).clamp(max=sequences.num_sequences)
    last = sequences.offsets[sequence] - 1
    logits = pair_bias(bias, columns, last, event).float()
    if query is not None and key is not None:
        logits = logits + (query[last].float() * key.float()).sum(-1)
    return logits
