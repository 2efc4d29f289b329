"""What a cache keeps of each event, and which of it is told by the event after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import MISSING
from models.data.collate import QueryTime
from models.data.columns import Columns
from models.data.origins import Next, Own, Position, QueryTimestamp, TargetItem
from models.serving.cache.ragged import Ints

Question = Mapping[str, Tensor]
"""What is known of the event that is asked about, of each user or event, by the name in the sequence files:
`timestamp`, `behavior`, `domain`."""

Users = Sequence[int] | Ints
"""[users] integers: ids, all different, or something of each user."""


def question_of(users: int, **parts: Users | int | None) -> dict[str, Ints]:
    """What is given of it, [users] each, on the host.

    Args:
        users: how many.
        parts: of each user, or one for all; None: it is not given.
    """
    return {
        name: np.broadcast_to(np.asarray(part, np.int64), users).copy()
        for name, part in parts.items()
        if part is not None
    }


@dataclass(frozen=True)
class EventColumns:
    """The columns of events that a model reads."""

    kept: Columns
    """All but positions, which move with the window, and targets."""
    asked: dict[str, str]
    """Of the kept ones, those that the event after tells: by which of its own values."""
    derived: Columns
    """`position`, and `target` where it is read: nothing is to be learned here, and it is 0."""

    @classmethod
    def of(cls, columns: Columns, time: QueryTime) -> EventColumns:
        """Of the columns that a model reads.

        Raises:
            UserError: one of them is made in a way that is not known here.
        """
        kept, derived, asked = [], [], {}
        for column in columns:
            origin = column.origin
            if isinstance(origin, Position | TargetItem):
                derived.append(column)
                continue
            kept.append(column)
            if isinstance(origin, Next):
                asked[column.name] = origin.stored
            elif isinstance(origin, QueryTimestamp):
                if time == "known":
                    asked[column.name] = "timestamp"
            elif not isinstance(origin, Own):
                raise UserError(
                    f"the model reads '{column.name}', and which events that is made of is not known: "
                    "histories of this model cannot be cached"
                )
        return cls(Columns(tuple(kept)), asked, Columns(tuple(derived)))

    @property
    def all(self) -> Columns:
        """Of the batches that the model gets."""
        return Columns.merged(self.kept, self.derived)

    def own(self, batch: PackedBatch, stored: str) -> Tensor:
        """[events] the column of a batch that holds a value of the events themselves.

        Raises:
            UserError: the batch has none.
        """
        for column in batch.columns:
            if column.origin == Own(stored):
                return batch[column.name]
        raise UserError(
            f"the batch does not say the '{stored}' of its events, which is what the events before are asked "
            "about",
            fix=f"read the data set with a column of origin Own('{stored}')",
        )

    def given(self, batch: PackedBatch) -> dict[str, Tensor]:
        """[events] the kept columns of a batch. Those that the event after tells need not be there: the last
        event of a sequence is then asked about one like itself.

        Raises:
            UserError: it has neither, or no other column.
        """
        found = {}
        for column in self.kept:
            if column.name in batch.columns:
                found[column.name] = batch[column.name]
            elif column.name in self.asked:
                own = self.own(batch, self.asked[column.name])
                number = torch.arange(len(own), device=own.device)
                after = torch.where(torch.isin(number + 1, batch.offsets), number, number + 1)
                found[column.name] = own[after].to(column.torch_dtype)
            else:
                raise UserError(
                    f"the batch has no '{column.name}', which the model reads of its events",
                    fix="read the data set with the columns of the run's task (`task.columns`)",
                )
        return found

    def told(self, values: dict[str, Tensor], which: Tensor, question: Question) -> dict[str, Tensor]:
        """Values of events, some of which are told what comes next.

        Args:
            values: [events] the kept columns.
            which: [events] bool, those that are told.
            question: [events] each; what it does not say stays.
        """
        told = dict(values)
        for name, stored in self.asked.items():
            if stored in question:
                told[name] = torch.where(which, question[stored].to(told[name].dtype), told[name])
        return told

    def candidates(self, items: Tensor, question: Question, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """[candidates] the kept columns of events that have not happened.

        Args:
            items: [candidates] ids.
            question: [candidates] when they would happen, and of which behavior and domain they would be.
            like: [candidates] columns of the events before, which say what the question does not.
        """
        found = {}
        partner = {stored: name for name, stored in self.asked.items()}
        for column in self.kept:
            stored = column.reads[0] if column.reads else column.name
            if isinstance(column.origin, Own) and stored == "item":
                found[column.name] = items.to(column.torch_dtype)
            elif stored in question:
                found[column.name] = question[stored].to(column.torch_dtype)
            elif stored in partner:  # as the last event is asked
                found[column.name] = like[partner[stored]].to(column.torch_dtype)
            elif stored in ("timestamp", "behavior", "domain"):
                found[column.name] = like[column.name]
            else:  # a feature of an event that nobody knows yet
                missing = np.nan if column.torch_dtype.is_floating_point else MISSING
                found[column.name] = torch.full_like(items, missing, dtype=column.torch_dtype)
        return found
