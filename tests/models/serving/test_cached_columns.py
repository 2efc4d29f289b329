"""Domains and features of events in cached histories, and Triton's kernel under them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.shards.manifest import FeatureEntry
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.columns import Column, Columns
from models.data.origins import Next, Own
from models.data.side import Domains, EventFeature, SideInformation
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.serving.cache import HistoryCache
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring
from tests.models.interpreted import DEVICE
from tests.models.serving.cached import ITEMS, Log, N, assert_close, batch_of, make_model, padded

OWN = Column("domain", "int32", origin=Own("domain"))
TARGET = Column("target_domain", "int32", origin=Next("domain"))
PRICE = Column("price", "float32", origin=Own("price"))
GADGET = Column("gadget", "int32", origin=Own("device"))
ENTRIES = [
    (FeatureEntry(name="price", kind="numeric"), PRICE),
    (FeatureEntry(name="gadget", kind="categorical", vocabulary_size=5), GADGET),
]


def model_of_columns() -> RetrievalModel:
    torch.manual_seed(0)
    side = SideInformation(
        events=tuple(EventFeature(entry, column) for entry, column in ENTRIES),
        domains=Domains(3, OWN, TARGET),
    )
    config = EmbeddingConfig(domains="add", query_domain="add", event_features="all")
    catalog = ItemCatalog(ITEMS, 2, torch.ones(ITEMS, dtype=torch.int64))
    embedding = InputEmbedding(config, catalog, 1, 8, N, 0.0, side=side)
    backbone = build_backbone(BackboneConfig(kind="hstu", blocks=2, dim=8, heads=2), max_length=N)
    model = RetrievalModel(embedding, backbone, first_item=2, num_items=ITEMS - 2, normalize=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


EVENTS: dict[str, list[float]] = {
    "item": [3, 5, 2, 1, 7],
    "time": [100, 105, 300, 900, 10_000],
    "domain": [1, 3, 3, 2, 1],
    "price": [0.5, float("nan"), -1.0, 2.0, 0.0],
    "gadget": [2, 4, 1, 3, 3],
}


def rows(events: dict[str, list[float]], at: int, domain: int) -> PackedBatch:
    domains, times = events["domain"], [int(time) for time in events["time"]]
    more = {
        OWN: [domains],
        TARGET: [[*domains[1:], domain]],
        PRICE: [events["price"]],
        GADGET: [events["gadget"]],
    }
    return PackedBatch.from_lists(
        [[int(item) for item in events["item"]]],
        timestamps=[times],
        query_times=[[*times[1:], at]],
        more=more,
    )


def part(begin: int, end: int) -> dict[str, list[float]]:
    return {name: values[begin:end] for name, values in EVENTS.items()}


def after(model: RetrievalModel, events: dict[str, list[float]], at: int, domain: int) -> Tensor:
    with scoring(model):
        return model(rows(events, at, domain))[-1:]


def test_domains_and_features_of_events() -> None:
    """A question is answered by the next event; candidates are of the domain asked for, without features."""
    model = model_of_columns()
    cache = HistoryCache(model, 1 << 20, time="known", window=N - 1, page_events=2)
    found = cache.append([0], rows(part(0, 3), at=500, domain=1))
    assert_close(found, after(model, part(0, 3), 500, 1))
    assert_close(cache.queries([0], 700, domain=2), after(model, part(0, 3), 700, 2))
    found = cache.append([0], rows(part(3, 5), at=20_000, domain=3))
    assert_close(found, after(model, part(0, 5), 20_000, 3))
    unknown = {"time": 30_000, "domain": 2, "price": float("nan"), "gadget": 1}
    whole = {name: [*values, {"item": 9, **unknown}[name]] for name, values in EVENTS.items()}
    assert_close(cache.candidates([0], [9], [1], 30_000, domain=2), after(model, whole, 30_000, 2))


def test_what_events_are_asked_about_has_to_be_told() -> None:
    cache = HistoryCache(model_of_columns(), 1 << 20, time="known")
    batch = rows(part(0, 2), at=500, domain=1)
    kept = Columns(tuple(column for column in batch.columns if column != OWN))
    values = {column.name: batch[column.name] for column in kept}
    with pytest.raises(UserError, match="does not say the 'domain'"):
        cache.append([0], replace(batch, columns=kept, values={**values, "domain": batch["domain"]}))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    "config",
    [{"kind": "hstu"}, {"kind": "fuxi"}, {"kind": "hstu", "attention_window": 2, "attention_global": 1}],
    ids=lambda config: " ".join(map(str, config.values())),
)
def test_the_triton_kernel_of_cached_histories(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    model, logs = make_model(config).to(DEVICE), [Log(), Log()]
    generator = torch.Generator().manual_seed(0)
    for log, length in zip(logs, (6, 3), strict=True):
        log.grow(length, generator)
    results = []
    for kernel, fixed in (("triton", False), ("triton", True), ("reference", False)):
        monkeypatch.setenv("LRM_ATTENTION", kernel)
        cache = HistoryCache(model, 1 << 20, time="known", window=N - 1, page_events=2, graphs=False)
        if fixed:
            padded(cache)
        before = [Log(log.items[:2], log.behaviors[:2], log.times[:2], log.times[2]) for log in logs]
        cache.append([0, 1], batch_of(before, "known"))
        queries = cache.append([0, 1], batch_of([log.after(2) for log in logs], "known"))
        results.append((queries, cache.candidates([0, 1], [3, 4, 5, 6, 7], [2, 3])))
        assert cache.counts.replayed == 3 * fixed
    for ours, of_padded, truth in zip(*results, strict=True):
        assert_close(ours, truth)
        assert_close(of_padded, truth)
