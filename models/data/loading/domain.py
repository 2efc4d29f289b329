"""The sequences of one domain: what they would be, had nothing happened elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.columns import Columns
from models.data.item_domains import check_domains
from models.data.judged import judged_events
from models.data.loading.changed import ChangedSource
from models.data.loading.source import SequenceSource
from models.data.sequences import Excerpt, SequenceData


def domain_of(source: SequenceSource, domain: int, columns: Columns) -> SequenceSource:
    """The sequences of a source, with the events of one domain alone.

    Every sequence stays, if without events, and ids stay as they are; so users, targets and candidates are
    those of a model of all domains, for comparison. A target is what the whole sequence has for a target, if
    it is of the domain.

    Args:
        source: the sequences, with their domains.
        domain: number of the domain.
        columns: of the batches that are to be made.
    """

    def here(data: SequenceData) -> SequenceData:
        return replace(of_domain(data, domain), columns=columns)

    return ChangedSource(source, here, mark=f"domain {domain}", columns=columns)


def of_domain(data: SequenceData, domain: int) -> SequenceData:
    """Sequences with the events of one domain alone.

    Args:
        data: with the column `domain`.
        domain: number of the domain.
    """
    here = data.events["domain"] == domain
    before = np.concatenate(([0], np.cumsum(here)))  # events of the domain before each event
    starts = data.offsets[:-1]
    judged = np.zeros(len(here), dtype=bool)
    for split in ("valid", "test"):
        judged[judged_events(data, split)[1]] = True
    place = np.arange(len(here)) - np.repeat(starts, data.lengths)
    return replace(
        data,
        events={name: values[here] for name, values in data.events.items()},
        offsets=before[data.offsets],
        train_end=before[starts + data.train_end] - before[starts],
        valid_end=before[starts + data.valid_end] - before[starts],
        excerpt=Excerpt(place[here], judged[here]),
    )


def domain_number(shards: ShardFolder, name: str) -> int:
    """The id of a domain.

    Raises:
        UserError: the data set has one domain only, or none of this name.
    """
    where = f"data.domain = {name}"
    check_domains(shards, where)
    names = shards.manifest.domains
    if name not in names:
        raise UserError(f"the data set has no domain '{name}'", where=where, fix=did_you_mean(name, names))
    return names.index(name) + 1
