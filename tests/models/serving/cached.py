"""Small models, logs of a few users, and what the model makes of them without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import CategoricalFeature, ItemCatalog, NumericFeature
from models.data.side import SideInformation
from models.gpu.cuda_graph import Work
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.serving.cache import HistoryCache
from models.serving.cache.replays import Replays
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring

N = 7
ITEMS = 12
BEHAVIORS = 3
USERS = (
    CategoricalFeature("gender", 4, torch.tensor([0, 1, 2, 3, 2])),
    NumericFeature("age", torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.5, 0.0], [-1.0, 0.0], [2.0, 0.0]])),
)
"""Of three users: padding and nobody come first."""


def make_model(config: dict[str, Any], seed: int = 0, users: int = 0, **embedding: Any) -> RetrievalModel:
    """With parameters far from their first values, where terms would vanish.

    Args:
        config: of the backbone.
        seed: of the parameters.
        users: how many features of users there are.
        embedding: settings of it.
    """
    torch.manual_seed(seed)
    backbone = BackboneConfig(**{"dim": 8, "heads": 2, "blocks": 3, **config})
    made = InputEmbedding(
        EmbeddingConfig(**embedding, user_features="all" if users else []),
        ItemCatalog(ITEMS, 2, torch.ones(ITEMS, dtype=torch.int64)),
        num_behaviors=BEHAVIORS,
        dim=backbone.dim,
        max_length=N,
        dropout=0.1,
        learned_positions=backbone.has_learned_positions,
        scale_items=backbone.scales_input,
        side=SideInformation(users=USERS[:users]),
    )
    tokens = made.layout.max_tokens
    built = build_backbone(
        backbone,
        max_length=N,
        max_tokens=tokens(N),
        tokens_per_event=tokens(2) - tokens(1),
        attributes=made.num_attributes,
    )
    model = RetrievalModel(made, built, first_item=2, num_items=ITEMS - 2, normalize=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(-4.0 if name.endswith("log_rate") else 0.0, 0.4)
    return model


@dataclass
class Log:
    """What a user did, and what is asked about the next event."""

    items: list[int] = field(default_factory=list)
    behaviors: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    asked_at: int = 0
    wanted: int = 1
    user: int = 0
    """Row number in the data set; -1: in none."""

    def grow(self, count: int, generator: torch.Generator) -> None:
        """Events at any distance, and then a new question."""

        def draw(low: int, high: int) -> int:
            return int(torch.randint(low, high, (1,), generator=generator))

        for _ in range(count):
            before = self.times[-1] if self.times else 10**6
            self.times.append(before + draw(0, 10 ** draw(1, 7)))
            self.items.append(draw(1, ITEMS))
            self.behaviors.append(draw(1, BEHAVIORS + 1))
        self.asked_at = self.times[-1] + draw(0, 10**5)
        self.wanted = draw(1, BEHAVIORS + 1)

    def after(self, begin: int) -> Log:
        """The events from `begin` on."""
        own = self.items[begin:], self.behaviors[begin:], self.times[begin:]
        return Log(*own, self.asked_at, self.wanted, self.user)

    def followed_by(self, item: int) -> Log:
        """With the event that is asked for, which asks for one like it at the same time."""
        return Log(
            [*self.items, item],
            [*self.behaviors, self.wanted],
            [*self.times, self.asked_at],
            self.asked_at,
            self.wanted,
            self.user,
        )


def batch_of(logs: list[Log], time: str) -> PackedBatch:
    """As `models.data.windows.gather` makes them."""
    known = [[*log.times[1:], log.asked_at] for log in logs]
    batch = PackedBatch.from_lists(
        [log.items for log in logs],
        behaviors=[log.behaviors for log in logs],
        timestamps=[log.times for log in logs],
        query_times=known if time == "known" else [log.times for log in logs],
    )
    wanted = [one for log in logs for one in (*log.behaviors[1:], log.wanted)]
    batch = batch.with_values(target_behavior=torch.tensor(wanted))
    return replace(batch, sequence=torch.tensor([log.user for log in logs]))


def recomputed(model: RetrievalModel, logs: list[Log], time: str) -> Tensor:
    """[users, dim] queries after whole histories of at most N events, one at a time."""
    rows, device = [], next(model.parameters()).device
    for log in logs:
        with scoring(model):
            rows.append(model(batch_of([log], time).to(device))[-1])
    return torch.stack(rows)


class Recorded:
    """In place of graphs: works that are done each time, in the memory of the first call of a shape."""

    def __init__(self) -> None:
        self.works = 0

    def __call__(self, work: Work) -> Work:
        self.works += 1
        return work


def padded(cache: HistoryCache, most: int = 64) -> Recorded:
    """Let a cache pad its passes as those that are recorded, and not record them."""
    recorded = Recorded()
    cache._passes.replays = Replays(cache.model.device, recorded, most)
    return recorded


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """To a share of the largest number."""
    scale = max([1.0, *expected.abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def asked_otherwise(logs: Sequence[Log]) -> None:
    """Ask at another time, and for another behavior, than when the newest event came."""
    for log in logs:
        log.asked_at, log.wanted = log.asked_at + 777, 1 + log.wanted % 3


def assert_as_one_by_one(
    model: RetrievalModel, found: Tensor, logs: Sequence[Log], counts: Sequence[int], items: Tensor, time: Any
) -> None:
    """Outputs of candidates are those of each alone as the next event of its log."""
    whose = [log for log, count in zip(logs, counts, strict=True) for _ in range(count)]
    if whose:
        one_by_one = [log.followed_by(item) for log, item in zip(whose, items.tolist(), strict=True)]
        with scoring(model):
            assert_close(model.queries(found), recomputed(model, one_by_one, time))
