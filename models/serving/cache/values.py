"""The columns of the events of a pass: out of pages, as they are given, and as they are asked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.serving.cache.call import Numbers, Shape
from models.serving.cache.events import EventColumns
from models.serving.cache.pages import Pages
from models.serving.cache.parcel import Arrays
from models.serving.cache.ragged import Spread

Values = Mapping[str, Tensor]


class Columns:
    """Makes them.

    Args:
        events: the columns that are read.
        pages: what is remembered.
    """

    def __init__(self, events: EventColumns, pages: Pages) -> None:
        self.events, self.pages = events, pages

    def values(self, shape: Shape, arrays: Arrays, numbers: Numbers, events: Spread) -> dict[str, Tensor]:
        """[events] kept columns of each user's remembered events, then given ones; of all others, any."""
        remembered = numbers.remembered[events.row]
        old = events.place < remembered
        rows = self.pages.rows(arrays["table"], events.row, numbers.first[events.row] + events.place)
        values = {name: column[rows] for name, column in self.pages.columns.items()}
        if not shape.given:
            return values
        answer = {name: arrays[f"answer.{name}"][events.row] for name in shape.answered}
        goes_on = (events.place == remembered - 1) & (numbers.given[events.row] > 0)
        values = self.events.told(values, goes_on, answer)
        place = numbers.begin[events.row] + events.place - remembered
        place = place.clamp(0, shape.given - 1)
        return {
            name: torch.where(old, column, arrays[f"given.{name}"][place]) for name, column in values.items()
        }

    def keep(
        self,
        shape: Shape,
        table: Tensor,
        events: Spread,
        place: Tensor,
        history: Tensor,
        values: Values,
    ) -> Tensor | None:
        """Write events to the pages, candidates nowhere; [events] rows that they are written to."""
        if not shape.kept:
            return None
        happened = events.inside & (events.place < history[events.row])
        rows = self.pages.rows(table, events.row, place)
        kept = torch.where(happened, rows, self.pages.count * self.pages.size)
        for name, column in values.items():
            self.pages.columns[name].index_copy_(0, kept, column)
        return kept

    def asked(
        self,
        shape: Shape,
        arrays: Arrays,
        numbers: Numbers,
        events: Spread,
        newest: Tensor,
        values: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """[events] kept columns, where the newest event of each user is asked; and candidates after it."""
        question = {name: arrays[f"question.{name}"][events.row] for name in shape.asked}
        happened = (numbers.remembered + numbers.given)[events.row]
        values = self.events.told(values, events.place == happened - 1, question)
        if shape.candidates:
            begin = numbers.candidates.cumsum(0) - numbers.candidates
            number = (begin[events.row] + events.place - happened).clamp(0, shape.candidates - 1)
            like = {name: column[newest][events.row] for name, column in values.items()}
            told = {name: arrays[f"candidate.{name}"][number] for name in shape.told}
            old = events.place < happened
            if self.pages.tokens.asks_item:
                next_one = self.events.told(like, ~old, told)
            else:
                next_one = self.events.candidates(told["item"], question, like)
            values = {name: torch.where(old, column, next_one[name]) for name, column in values.items()}
        return {
            column.name: values[column.name].masked_fill(~events.inside, column.fill)
            for column in self.events.kept
        }

    def batch(self, values: Values, sequences: Sequences, position: Tensor, whose: Tensor) -> PackedBatch:
        """As the model gets it.

        Args:
            values: [events] kept columns.
            sequences: of them.
            position: [events] in their windows.
            whose: [sequences] row number in the data set.
        """
        derived = {
            column.name: position if column.name == "position" else torch.zeros_like(position)
            for column in self.events.derived
        }
        batch = PackedBatch(self.events.all, {**values, **derived}, sequences.offsets, whose, has_time=True)
        batch.__dict__["sequences"] = sequences  # read from `offsets`, lengths would wait for the device
        return batch
