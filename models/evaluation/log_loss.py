"""The loss of a retrieval model on held-out targets: what scaling laws are fitted to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from models.data.sequences import SequenceData
from models.distributed.processes import SINGLE, Processes, share_of
from models.evaluation.ranking import Scorer
from models.evaluation.scores import CELLS, Cells, Scores, item_ranges
from models.evaluation.targets import Split, find_targets


def mean_log_loss(
    parts: Iterable[SequenceData],
    scorer: Scorer,
    split: Split,
    batch_size: int,
    processes: Processes = SINGLE,
) -> dict[str, float]:
    """Mean over targets of `-log softmax(scores)[target]`, in nats; targets count alike.

    Every known item is in the softmax, seen ones too: what a model learned is judged, not a protocol of
    ranking. Targets without a history and unknown items are left out.

    Args:
        parts: the sequences.
        scorer: gives logits.
        split: valid or test.
        batch_size: targets at a time.
        processes: those among which targets are divided.

    Returns:
        `log_loss`, and `log_loss_targets`, how many it is a mean over; nothing where there are none.
    """
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for data in parts:
        targets = find_targets(data, split)
        known = data.item[targets.event] >= data.about.first_item
        targets = targets.take(np.flatnonzero(known & (targets.stop > data.offsets[targets.sequence])))
        share = share_of(len(targets), processes.rank, processes.count)
        for start in range(share.start, share.stop, batch_size):
            batch = targets.take(slice(start, min(start + batch_size, share.stop)))
            item = data.item[batch.event].astype(np.int64) - data.about.first_item
            losses = log_losses(scorer(data, batch), item, data.about.num_items)
            total = total.to(losses.device) + losses.sum()
            count += len(batch)
    loss, targets_of_all = processes.sum([float(total), float(count)])
    if not targets_of_all:
        return {}
    return {"log_loss": loss / targets_of_all, "log_loss_targets": int(targets_of_all)}


def log_losses(scores: Scores, target: np.ndarray, num_items: int, *, cells: int = CELLS) -> torch.Tensor:
    """[targets] float64 of logits, a range of items at a time.

    Args:
        scores: of each target with every item, logits.
        target: [targets] known items, numbered from the first.
        num_items: known items.
        cells: scores made at once, at most.
    """
    device, number = scores.device, len(target)
    own = torch.zeros(number, dtype=torch.float64, device=device)
    total = torch.full((number,), float("-inf"), dtype=torch.float64, device=device)
    ranges = item_ranges(num_items, cells // max(1, number))
    asked = Cells(np.arange(number), target, device, len(ranges) > 1)
    for first, stop, fresh in ranges:
        found = scores.columns(first, stop).double()
        rows, columns = asked.between(fresh, stop, first)
        own[rows] = found[rows, columns]
        total = torch.logaddexp(total, found[:, fresh - first :].logsumexp(1))
    return total - own
