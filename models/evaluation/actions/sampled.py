"""Sampled negatives among labelled rows: the same ones for models, floors and rankers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.sampling.negatives import event_keys, item_chances, sample_negatives
from behavior.shards.folder import ShardFolder
from models.data.loading.part import end_of
from models.data.sequences import Int64Array, SequenceData
from models.evaluation.actions.config import NegativesConfig
from models.evaluation.actions.labels import SAMPLED, Label
from models.evaluation.actions.rows import LabelledRows, Part

Had = tuple[Int64Array, Int64Array]
"""Offsets [users + 1], and rising items of each user."""


@dataclass(frozen=True)
class Negatives:
    """Draws negatives for rows.

    Args:
        config: how many, and of what.
        chances: [known items] of a draw.
        first_item: id of the first of them.
    """

    config: NegativesConfig
    chances: npt.NDArray[np.float64]
    first_item: int

    @classmethod
    def of(
        cls, config: NegativesConfig, shards: ShardFolder, labels: list[Label] | tuple[Label, ...]
    ) -> Negatives | None:
        """What the settings ask for; None where no negatives are.

        Raises:
            UserError: a label is a number, or no item was trained on.
        """
        if not config.ratio:
            return None
        where = f"task.negatives.ratio = {config.ratio}"
        for label in labels:
            if not label.is_binary:
                fix = "predict an action, or set task.negatives.ratio=0"
                message = f"'{label.name}' is a number: nobody knows that of a drawn item"
                raise UserError(message, where=where, fix=fix)
        counts = shards.items()["train_count"].to_numpy().astype(np.int64)
        if config.drawn == "popularity" and not counts.any():
            raise UserError("no item has an event in the training part to draw by", where=where)
        return cls(config, item_chances(counts, config.drawn, config.power), shards.first_item)

    @property
    def correction(self) -> float:
        """What is added to logits that were trained at `ratio`, where there are `judged` negatives a row: the
        odds of an action are those of training times `ratio / judged` (He et al., 2014, section 6.3)."""
        return math.log(self.config.ratio / self.config.judged)

    @property
    def about(self) -> dict[str, Any]:
        """The settings, for reports."""
        return self.config.model_dump()

    def draw(
        self, own: npt.NDArray, keys: npt.NDArray[np.uint64], ratio: float, seed: int, had: Had | None
    ) -> tuple[Int64Array, Int64Array]:
        """Negatives for rows.

        Args:
            own: [rows] item ids.
            keys: [rows] what the draws follow from (`event_keys`).
            ratio: negatives a row, in expectation.
            seed: of the draws.
            had: offsets [rows + 1] and items from 0 that each row's user has had; None: only its own item is
                left out.

        Returns:
            [negatives] number of the row that each is for, rising; [negatives] item id.
        """
        ranks = np.asarray(own, np.int64) - self.first_item
        if had is None:
            had = (np.arange(len(own) + 1), ranks)
        rows = np.arange(len(own))
        number, item = sample_negatives(rows, self.chances, had, ratio=ratio, seed=seed, keys=keys)
        return number, item + self.first_item

    def among(self, data: SequenceData, rows: LabelledRows, part: Part) -> LabelledRows:
        """Rows, and behind each its negatives: of the same history and moment, with labels 0.

        They follow from the user's number and the event's place alone, whatever rows are asked for beside.

        Args:
            data: the sequences.
            rows: of a part of them.
            part: which.
        """
        ratio = self.config.ratio if part in ("train", "train+valid") else self.config.judged
        place = np.searchsorted(data.row, rows.sequence)
        had = None
        if self.config.left_out == "user":
            end = end_of(data, {"valid": "train+valid", "test": "all"}.get(part, part))  # type: ignore[arg-type]
            offsets, items = items_had(data, end, self.first_item)
            counts = np.diff(offsets)[place]
            starts = np.concatenate(([0], np.cumsum(counts)))
            flat = np.arange(int(starts[-1])) + np.repeat(offsets[place] - starts[:-1], counts)
            had = (starts, items[flat])
        keys = event_keys(rows.sequence, rows.position)
        number, item = self.draw(rows.item, keys, ratio, 0, had)
        drawn = rows.take(number)
        columns = {field.name: getattr(drawn, field.name) for field in fields(drawn)}
        columns |= {
            "item": item.astype(rows.item.dtype),
            "behavior": np.full(len(number), SAMPLED, rows.behavior.dtype),
            "label": np.zeros_like(drawn.label),
        }
        every = LabelledRows.concatenated([rows, LabelledRows(**columns)])
        return every.take(np.argsort(np.concatenate([np.arange(len(rows)), number]), kind="stable"))


def items_had(data: SequenceData, end: Int64Array, first_item: int) -> Had:
    """The known items of the first events of each sequence, each once.

    Args:
        data: the sequences.
        end: [sequences] how many events.
        first_item: id of the first known item.

    Returns:
        Offsets [sequences + 1], and rising items from 0 of each.
    """
    owner = np.repeat(np.arange(data.num_sequences), data.lengths)
    place = np.arange(len(owner)) - data.offsets[owner]
    chosen = (place < end[owner]) & (data.item >= first_item)
    width = data.about.num_item_ids
    pairs = np.unique(owner[chosen] * width + (data.item[chosen].astype(np.int64) - first_item))
    offsets = np.searchsorted(pairs, np.arange(data.num_sequences + 1) * width)
    return offsets.astype(np.int64), pairs % width
