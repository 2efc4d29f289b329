"""Models of any layout with parameters far from their initial values, and events for them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.side import SideInformation
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import NO_SIDE, InputEmbedding
from models.tasks.retrieval import RetrievalModel
from tests.models.backbones.backbone_oracle import N
from tests.models.inputs.layout_oracle import Event

DIM, FIRST, ITEMS, BEHAVIORS = 8, 2, 6, 2
LENGTHS = [4, 1, 0, 7]


def make_events(lengths: list[int], seed: int = 0) -> list[list[Event]]:
    """Irregular times; what is asked for is the next event, that of the last one is of any behavior."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    sequences = []
    for length in lengths:
        time, events = draw(0, 10**6), []
        for _ in range(length):
            ahead = time + 4 ** draw(0, 9)
            events.append(Event(draw(1, FIRST + ITEMS), draw(1, BEHAVIORS + 1), time, ahead))
            events[-1].asked_behavior = draw(1, BEHAVIORS + 1)
            time = ahead
        for event, following in pairwise(events):
            event.asked_behavior = following.behavior
        sequences.append(events)
    return sequences


def batch_of(sequences: list[list[Event]]) -> PackedBatch:
    batch = PackedBatch.from_lists(
        [[event.item for event in events] for events in sequences],
        behaviors=[[event.behavior for event in events] for events in sequences],
        timestamps=[[event.time for event in events] for events in sequences],
        query_times=[[event.asked_at for event in events] for events in sequences],
    )
    wanted = [event.asked_behavior for events in sequences for event in events]
    return batch.with_values(target_behavior=torch.tensor(wanted, dtype=torch.int64))


def make_model(
    layout: str, config: BackboneConfig, *, side: SideInformation = NO_SIDE, **embedded: Any
) -> RetrievalModel:
    """A model whose parameters are all far from their initial values."""
    torch.manual_seed(0)
    catalog = ItemCatalog(FIRST + ITEMS, FIRST, torch.ones(FIRST + ITEMS, dtype=torch.int64))
    embedding = InputEmbedding(
        EmbeddingConfig(layout=layout, **embedded),
        catalog,
        num_behaviors=BEHAVIORS,
        dim=DIM,
        max_length=N,
        dropout=0.0,
        learned_positions=config.has_learned_positions,
        scale_items=config.scales_input,
        side=side,
    )
    backbone = build_backbone(config, max_length=N, max_tokens=embedding.layout.max_tokens(N))
    model = RetrievalModel(embedding, backbone, first_item=FIRST, num_items=ITEMS, normalize=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


def exact(model: RetrievalModel) -> dict[str, Tensor]:
    return {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}


def config_of(kind: str, **settings_: Any) -> BackboneConfig:
    return BackboneConfig(kind=kind, blocks=2, dim=DIM, heads=2, dropout=0.0, **settings_)  # type: ignore[arg-type]
