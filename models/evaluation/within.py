"""Rankings within a domain: only items of the target's domain are candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from behavior.shards.folder import ShardFolder
from models.data.columns import Columns
from models.data.declared import event_column
from models.data.item_domains import ItemDomains, check_domains
from models.data.sequences import SequenceData
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.votes import VoteScores
from models.evaluation.scores import Scores
from models.evaluation.transfer import to_device


def columns_of_candidates(config: EvaluationConfig, shards: ShardFolder) -> Columns:
    """Columns that sequences must have been read with, for the candidates that the settings ask for.

    Raises:
        UserError: those of a domain, and the data set has one domain only.
    """
    if config.candidates == "all":
        return Columns()
    check_domains(shards, f"evaluation.candidates = {config.candidates}")
    return Columns((event_column(shards, "domain", of_target=True),))


@dataclass(frozen=True)
class DomainScores(Scores):
    """Scores of which only those of items of a query's domain count."""

    scores: Scores
    """Of all items."""
    member: Tensor
    """[domain ids, items] bool, on the device of the scores."""
    domain: Tensor
    """[queries] int64 domain ids, likewise."""

    @property
    def device(self) -> torch.device:
        return self.scores.device

    def columns(self, first: int, stop: int) -> Tensor:
        outside = ~self.member[:, first:stop][self.domain]
        return self.scores.columns(first, stop).masked_fill(outside, float("-inf"))


class Catalogs:
    """The catalogs of domains, to rank within.

    Args:
        domains: of all items.
    """

    def __init__(self, domains: ItemDomains) -> None:
        self.member = domains.member

    @classmethod
    def resolve(
        cls, parts: Iterable[SequenceData], config: EvaluationConfig, domains: ItemDomains | None = None
    ) -> Catalogs | None:
        """None where all items are candidates.

        Args:
            parts: gone through where the catalogs are not known and needed.
            config: which candidates there are.
            domains: the catalogs, where they are known.
        """
        if config.candidates == "all":
            return None
        return cls(ItemDomains.of_sequences(parts) if domains is None else domains)

    def within(self, scores: Scores, domain: npt.NDArray) -> Scores:
        """Scores that only count for items of each query's domain.

        Args:
            scores: of all items.
            domain: [queries] domain ids.
        """
        if isinstance(scores, VoteScores):  # which have no table of all items
            return scores.within(self.member.numpy(), domain.astype(np.int64))
        self.member = self.member.to(scores.device)
        return DomainScores(scores, self.member, to_device(domain.astype(np.int64), scores.device))
