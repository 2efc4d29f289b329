"""Scores of items for histories that are not part of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.wording import number_of
from models.config import RunConfig
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.decode import SequenceDecoder
from models.data.kept import KeptEvents, kept_behaviors
from models.data.sequences import SequenceData
from models.data.windows import gather, history_windows
from models.evaluation.targets import Targets
from models.serving.event_values import event_values
from models.serving.event_values import wrong_history as _wrong
from models.tasks.retrieval import RetrievalModel, model_scorer
from models.tasks.retrieval.scoring import scoring


@dataclass(frozen=True)
class History:
    """What one user did, oldest event first, and what is asked about the next event.

    All as a shard stores it: item ids are indices of `items.parquet` (1 is an unknown item), behaviors are
    numbered from 1 in the order of the spec, times are in the data set's unit.
    """

    items: Sequence[int]
    """[events]."""
    behaviors: Sequence[int] | None = None
    """[events]; None where all are target behaviors (the first one)."""
    timestamps: Sequence[int] | None = None
    """[events], never falling; may be None where the data set has no times."""
    next_behavior: int | None = None
    """The behavior to predict, for models that are told; None for the one that the run is evaluated on
    (`evaluation.target_behavior`, or the first target behavior)."""
    next_timestamp: int | None = None
    """When it happens, for models with `model.time=known`; None for the time of the last event."""
    features: Mapping[str, Sequence[float]] | None = None
    """[events] values of features of events, by name, for models that are told; left out: missing. Domains
    are among them, by the name `domain`: numbered from 1 in the order of the spec."""
    next_domain: int | None = None
    """The domain to predict in, for models that are told; None for that of the last event."""
    user: int | None = None
    """Row number of the user's sequence in the data set, for models that are told features of users; None:
    all are missing."""


def asked_by_default(config: RunConfig, shards: ShardFolder) -> int:
    """The behavior that is wanted where nobody says: the one that the run is evaluated on."""
    judged = config.evaluation.target_behavior
    manifest = shards.manifest
    return manifest.target_ids[0] if judged is None else manifest.behaviors.index(judged) + 1


def asking_for(
    behavior: str, histories: Sequence[History], shards: ShardFolder, *, told: bool
) -> list[History]:
    """The histories, each followed by the question for one behavior, by its name.

    Raises:
        UserError: the data set has no such behavior, or the model is not `told` which one is wanted.
    """
    names = shards.manifest.behaviors
    if behavior not in names:
        raise UserError(f"the data set has no behavior '{behavior}'", fix=did_you_mean(behavior, names))
    if not told:
        raise UserError(
            "the model is not told which behavior is wanted, and scores what comes next whatever it is",
            fix="train with --set embedding.query_behavior=add, or --set embedding.layout=behavior_first",
        )
    return [replace(history, next_behavior=names.index(behavior) + 1) for history in histories]


def behaviors_after(
    module: RetrievalModel, config: RunConfig, shards: ShardFolder, histories: Sequence[History]
) -> Tensor:
    """[histories, behaviors] float32, on the CPU; see `models.serving.load.TrainedModel.next_behaviors`."""
    assert module.next_behavior is not None
    if not histories:
        return torch.empty(0, len(shards.manifest.behaviors))
    data = _as_sequences(histories, shards, module.embedding.columns)
    _check_inputs(data, config, shards)
    kept, size = KeptEvents(config.model.input_behaviors).of(data), config.evaluation.batch_size
    number, stop = np.arange(len(histories)), data.offsets[1:] - 1
    windows = history_windows(data, number, stop, stop, config.model.max_length, kept)
    found = []
    for first in range(0, len(histories), size):
        batch = gather(data, windows.take(number[first : first + size]), time=config.model.time)
        with scoring(module):
            known = module.encoded(batch.to(module.device))[1][batch.offsets[1:] - 1]
            found.append(module.next_behavior(known).exp().cpu())
    return torch.cat(found)


def score_histories(
    module: RetrievalModel, config: RunConfig, shards: ShardFolder, histories: Sequence[History]
) -> Tensor:
    """[histories, known items] float32, on the CPU; see `models.serving.load.TrainedModel.score`."""
    if not histories:
        return torch.empty(0, shards.num_items)
    asked = asked_by_default(config, shards)
    asking = [replace(history, next_behavior=history.next_behavior or asked) for history in histories]
    data = _as_sequences(asking, shards, module.embedding.columns)
    _check_inputs(data, config, shards)
    score, size = model_scorer(module, config.model), config.evaluation.batch_size
    targets = Targets(np.arange(len(histories)), data.offsets[1:] - 1, data.offsets[1:] - 1)
    rows = []
    for first in range(0, len(histories), size):
        scores = score(data, targets.take(slice(first, first + size)))
        rows.append(scores.columns(0, shards.num_items).float().cpu())
    return torch.cat(rows)


def _check_inputs(data: SequenceData, config: RunConfig, shards: ShardFolder) -> None:
    kept = kept_behaviors(config.model.input_behaviors, data.about)
    if kept is None:
        return
    for number, (begin, end) in enumerate(pairwise(data.offsets.tolist())):
        if not kept[data.behavior[begin : end - 1]].any():
            names = ", ".join(shards.manifest.behaviors[one - 1] for one in np.flatnonzero(kept))
            raise _wrong(number, f"has no event that is an input: {names}", "rank by popularity instead")


def _as_sequences(histories: Sequence[History], shards: ShardFolder, columns: Columns) -> SequenceData:
    """The histories as rows of a sequence file, each with one more event: the one that is to be predicted."""
    target = shards.manifest.target_ids[0]
    rows = [_row(number, history, target, shards) for number, history in enumerate(histories)]
    rows_of = {name: [row[name] for row in rows] for name in rows[0]}
    lengths = [len(items) for items in rows_of["item"]]
    types = {"item": pa.int32(), "behavior": pa.int8(), "timestamp": pa.int64()}
    lists = {name: pa.array(values, pa.list_(types[name])) for name, values in rows_of.items()}
    ends = pa.array(lengths, pa.int32())
    decoder = SequenceDecoder(shards, Columns.merged(CORE, columns))
    more = event_values(histories, decoder, shards)
    table = pa.table({**lists, **more, "train_end": ends, "valid_end": ends})
    row = np.array([-1 if history.user is None else history.user for history in histories], np.int64)
    return replace(decoder.decode(table, 0), row=row)


def _row(number: int, history: History, target: int, shards: ShardFolder) -> dict[str, list[int]]:
    items = list(history.items)
    behaviors = list(history.behaviors) if history.behaviors is not None else [target] * len(items)
    # Which item stands at the target is never looked at.
    row = {"item": [*items, 1], "behavior": [*behaviors, history.next_behavior or target]}
    if not items:
        raise _wrong(number, "is empty", "a model needs an event to start from: rank by popularity instead")
    if shards.manifest.timestamp_unit != "none":
        if history.timestamps is None:
            raise _wrong(number, "has no timestamps", "the model was trained on a data set with times")
        times = list(history.timestamps)
        last = times[-1] if times else 0
        after = last if history.next_timestamp is None else history.next_timestamp
        row["timestamp"] = [*times, after]
        if any(later < earlier for earlier, later in pairwise(row["timestamp"])):
            raise _wrong(number, "has a time before that of the event before it", "the oldest event first")
    for name, values in row.items():
        if len(values) != len(items) + 1:
            raise _wrong(
                number,
                f"has {number_of(len(items), 'item')} and {len(values) - 1} of '{name}'",
                "one an event",
            )
    if history.user is not None and not 0 <= history.user < shards.manifest.counts.users:
        raise _wrong(
            number, f"is of user {history.user}, and there are {shards.manifest.counts.users}", _USERS
        )
    for name, end in (("item", shards.num_item_ids), ("behavior", len(shards.manifest.behaviors) + 1)):
        if not all(1 <= value < end for value in row[name]):
            raise _wrong(number, f"has a value of '{name}' outside 1 to {end - 1}", "see items.parquet")
    return row


_USERS = "name the row of the user's sequence, from 0, or None for a user that is not in the data set"
