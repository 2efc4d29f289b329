"""Trend logits for a data set: which events are counted, and what they do not go together with."""

from __future__ import annotations

import numpy as np

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.trends import TrendTable, count_trends
from models.data.about import About
from models.data.item_domains import ItemDomains
from models.data.loading import SequenceSource
from models.data.tables_only import TablesOnly
from models.history.trends.logits import TrendLogits
from models.losses.config import LossConfig
from models.losses.level import candidates_level
from models.tasks.config import TaskSettings
from models.tasks.parts import trained_events

_HOUR = 3600.0


def trend_logits(
    settings: TaskSettings,
    shards: ShardFolder,
    about: About,
    domains: ItemDomains | None = None,
    *,
    divided: bool,
) -> TrendLogits | None:
    """With fresh weights, counted in the events that are trained on, or None where the settings have none.

    Goes through all sequences.

    Args:
        settings: all settings.
        shards: the data set.
        about: of it.
        domains: of items, where only those of a domain compete in training.
        divided: whether item tables are divided among processes.

    Raises:
        UserError: the data set has no timestamps, or its sequences are not at hand, or item tables are
            divided.
    """
    loss = settings.loss
    if loss.trends == "none":
        return None
    if not about.has_time:
        raise UserError(
            "trends need timestamps, and this data set has none",
            where=f"loss.trends = {loss.trends}",
            fix="--set loss.trends=none",
        )
    if divided:
        raise UserError(
            "trend logits give mass to all items, and where item tables are divided each process ranks some",
            where=f"loss.trends = {loss.trends}, train.item_table = sharded",
            fix="--set train.item_table=replicated, or --set loss.trends=none",
        )
    if isinstance(shards, TablesOnly):
        raise UserError(
            "trend logits are counted in the log whenever the model is loaded, and the data set is gone: "
            + shards.missing.what,
            where=shards.missing.where,
            fix="say where its shards are now: --data DIR; or train with loss.trends=none, so that the run "
            "alone will do",
        )
    table = count_source(trained_events(settings, shards), loss)
    return TrendLogits(
        table,
        width=settings.model.dim,
        num_behaviors=about.num_behaviors,
        first_item=about.first_item,
        level=candidates_level(loss, about.num_items, domains),
        domains=None if domains is None else by_domain(table, domains),
    )


def by_domain(table: TrendTable, domains: ItemDomains) -> TrendTable:
    """Decayed counts of domains: an event counts for each domain that its item is of."""
    member = domains.member.numpy()
    domain, event = np.nonzero(member[1:, table.item])
    return count_trends(domain + 1, table.time[event], table.scales.tolist(), len(member))


def count_source(source: SequenceSource, loss: LossConfig) -> TrendTable:
    """The trends of the training parts of a source."""
    items, times = [], []
    for data in source:
        chosen = data.in_training() & (data.item >= data.about.first_item)
        if loss.trend_of == "targets":
            chosen &= data.is_target()
        items.append(data.item[chosen].astype(np.int64) - data.about.first_item)
        times.append(data.timestamp[chosen])
    scales = [_HOUR * hours for hours in loss.trend_hours]
    return count_trends(np.concatenate(items), np.concatenate(times), scales, source.about.num_items)
