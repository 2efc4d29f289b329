"""Which known items belong to which domains of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.sequences import SequenceData

TARGET_DOMAIN = "target_domain"
"""The column of a batch with the domain of the event to predict (`event_column(..., of_target=True)`)."""


@dataclass(frozen=True, eq=False)
class ItemDomains:
    """The catalogs of all domains.

    An item is of each domain that has an event with it, anywhere in the log: that is what a shop offers, and
    known to it beforehand, as the vocabulary of items is. Where domains number their items apart
    (`domain_ids: {items: separate}`), every item is of one domain.
    """

    member: Tensor
    """[domain ids, known items] bool; row 0, of padding, has all items."""

    @property
    def num_domains(self) -> int:
        """Ids 1..num_domains."""
        return len(self.member) - 1

    @classmethod
    def of_sequences(cls, parts: Iterable[SequenceData]) -> ItemDomains:
        """Go through all events once.

        Args:
            parts: of a data set with domains; at least one, with the column `domain`.
        """
        member: np.ndarray | None = None
        for data in parts:
            about = data.about
            if member is None:
                member = np.zeros((about.num_domains + 1, about.num_items), dtype=bool)
                member[0] = True
            known = data.item >= about.first_item
            member[data.events["domain"][known], data.item[known] - about.first_item] = True
        if member is None:
            raise ValueError("there are no sequences")
        return cls(torch.from_numpy(member))


def check_domains(shards: ShardFolder, setting: str) -> None:
    """Refuse a data set that has one domain only.

    Args:
        shards: the data set.
        setting: what asks for domains, `section.key = value`.

    Raises:
        UserError: it has.
    """
    if not shards.manifest.domains:
        raise UserError(
            "the data set has one domain only",
            where=setting,
            fix="leave the setting out, or prepare the data with domains (docs/spec.md)",
        )
