"""Judges how well a model predicts the behavior of what comes next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data.batch import PackedBatch
from models.data.kept import KeptEvents
from models.data.sequences import Int64Array, SequenceData
from models.data.windows import Windows, gather
from models.distributed.processes import SINGLE, Processes, share_of
from models.evaluation.targets import Split
from models.tasks.config import ModelConfig
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring


def judge_behaviors(
    model: RetrievalModel,
    shown: ModelConfig,
    parts: Iterable[SequenceData],
    split: Split,
    batch_size: int,
    processes: Processes = SINGLE,
) -> dict[str, Any]:
    """Predict the behavior of every event of a split's part, whatever it is, given all before it.

    Events count alike, and those that are no inputs are left out, as are those that nothing stands before. Of
    a part with more than `max_length` events the last ones are judged.

    Args:
        model: has a head for the next behavior.
        shown: what the model is shown of a history.
        parts: the sequences.
        split: valid or test.
        batch_size: users at a time.
        processes: those among which users are divided.

    Returns:
        `next_behavior_accuracy` (share of events whose behavior is the likeliest), `next_behavior_log_loss`
        (mean, in nats), `next_behavior_majority` (the accuracy of always saying the most frequent one) and
        `next_behavior_events`; nothing where there are no events.
    """
    inputs, behaviors = KeptEvents(shown.input_behaviors), model.embedding.num_behaviors
    totals = torch.zeros(2 + behaviors, dtype=torch.float64, device=model.device)
    for data in parts:
        windows, judged = part_windows(data, split, shown.max_length, inputs.of(data))
        share = share_of(len(windows), processes.rank, processes.count)
        # As many batches in every process: where items are divided, all look them up together.
        most = -(-len(windows) // processes.count)
        for start in range(share.start, share.start + most, batch_size):
            rows = np.arange(start, max(start, min(start + batch_size, share.stop)))
            batch = gather(data, windows.take(rows), time=shown.time)
            chosen = _last(batch, judged[rows]).to(model.device)
            totals += _judged(model, batch.to(model.device), chosen)
    hits, log_loss, *counts = processes.sum(totals.tolist())
    events = sum(counts)
    if not events:
        return {}
    return {
        "next_behavior_accuracy": hits / events,
        "next_behavior_log_loss": log_loss / events,
        "next_behavior_majority": max(counts) / events,
        "next_behavior_events": int(events),
    }


def part_windows(
    data: SequenceData, split: Split, max_length: int, kept: Int64Array | None
) -> tuple[Windows, Int64Array]:
    """Of each sequence the newest inputs before the last event of its part, and how many of the last of these
    predict an event of the part, [windows]."""
    begin = data.offsets[:-1]
    cut, end = (data.train_end, data.valid_end) if split == "valid" else (data.valid_end, data.lengths)
    first, cut, end = begin, begin + cut, begin + end
    if kept is not None:
        first, cut, end = (np.searchsorted(kept, places) for places in (first, cut, end))
    sequence = np.flatnonzero(end > np.maximum(cut, first + 1))
    first, cut, last = first[sequence], cut[sequence], end[sequence] - 1
    start = np.maximum(first, last - max_length)
    target = last if kept is None else kept[last]
    judged = np.minimum(last + 1 - np.maximum(cut, first + 1), last - start)
    return Windows(sequence, start, last, target, kept), judged


def _last(batch: PackedBatch, count: Int64Array) -> Tensor:
    """Indices of the last `count` events of each sequence of a batch on the host."""
    end = batch.offsets[1:].numpy()
    ends, number = np.repeat(end, count), np.arange(int(count.sum()))
    return torch.from_numpy(ends - 1 - (number - np.repeat(np.cumsum(count) - count, count)))


def _judged(model: RetrievalModel, batch: PackedBatch, chosen: Tensor) -> Tensor:
    """[2 + behaviors] float64: hits, the sum of losses, and how often each behavior came."""
    assert model.next_behavior is not None
    with scoring(model):
        logs = model.next_behavior(model.encoded(batch)[1][chosen]).double()
    came = batch.target_behavior[chosen] - 1
    hits = (logs.argmax(1) == came).double().sum()
    log_loss = -logs.gather(1, came[:, None]).sum()
    return torch.cat([torch.stack([hits, log_loss]), _counts(came, logs.shape[1])])


def _counts(came: Tensor, behaviors: int) -> Tensor:
    return (came[:, None] == torch.arange(behaviors, device=came.device)).double().sum(0)
