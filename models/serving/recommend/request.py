"""What is asked for: in words, as users give it, and resolved for a model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.arrow.values import shown
from behavior.errors import UsageError, UserError
from behavior.shards.folder import ShardFolder
from behavior.wording import number_of
from models.build import sequences_of
from models.config import RunConfig
from models.data.columns import Columns
from models.data.declared import CORE, event_column
from models.data.item_domains import ItemDomains
from models.data.sequences import BoolArray
from models.data.tables_only import TablesOnly
from models.evaluation.judged import judged_sequences
from models.evaluation.seen import SeenItems
from models.serving.recommend.asked import Question
from models.serving.recommend.ids import Ids
from models.serving.recommend.index import INDEXES, IndexName, ItemIndex, check_indexable
from models.serving.recommend.items import ItemColumns, having
from models.serving.recommend.told import ItemTable, item_table
from models.serving.recommend.values import as_ids, check_several
from models.serving.recommend.when import asked_seconds, notes_of_asking
from models.serving.score import asked_by_default
from models.tasks.retrieval import RetrievalModel


@dataclass(frozen=True)
class Wanted:
    """What is asked for; see `models.serving.load.TrainedModel.recommend`."""

    k: int = 10
    at: str | int | datetime | None = None
    behavior: str | None = None
    domain: str | None = None
    candidates: Sequence[Any] | pa.Array | None = None
    where: Sequence[str] = ()
    exclude_seen: bool | Sequence[str] | None = None
    exclude: Sequence[Any] | pa.Array | None = None
    columns: Sequence[str] = ()
    items: ItemTable | None = None
    index: IndexName | ItemIndex = "exact"
    """How the top items are found: by the scores of all, or by an index (`ann`: one is built)."""
    rerank: str | PathLike[str] | None = None
    """A ranking run that puts the first items in order; None: they stay."""
    rerank_depth: int = 100
    """How many."""
    rerank_label: str | None = None
    """The label that decides, where the run has several; None: the first one."""

    def __post_init__(self) -> None:
        for name in ("candidates", "where", "exclude", "columns", "exclude_seen"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, bool):
                check_several(given, name)
                if isinstance(given, Iterator):  # it is gone through more than once
                    object.__setattr__(self, name, tuple(given))


@dataclass(frozen=True)
class Request:
    """The same, for one model."""

    k: int
    question: Question
    allowed: BoolArray | None
    """[known items] whether an item may be recommended; None: all may."""
    seen: BoolArray | None
    """[behavior ids] which behaviors make an item seen, so that it is left out; None: none is."""
    columns: ItemColumns
    index: ItemIndex | None = None
    """Finds the top items; None: all are scored."""
    notes: list[str] = field(default_factory=list)
    """What was decided, in words."""
    when: list[str] = field(default_factory=list)
    """The same of the time of asking: of those who have none of their own."""


def resolve(
    wanted: Wanted,
    module: RetrievalModel,
    config: RunConfig,
    shards: ShardFolder,
    ids: Ids,
    new_items: int = 0,
) -> Request:
    """Resolve what is asked for.

    Args:
        wanted: what is.
        module: the model.
        config: its settings.
        shards: its data set.
        ids: of the data set.
        new_items: known items, the last ones, that the model has never seen.

    Raises:
        UserError: something that is asked for the data set does not have, or the model is not told.
    """
    if not 1 <= wanted.k <= shards.num_items:
        raise UserError(
            f"{number_of(wanted.k, 'item a user is', 'items a user are')} asked for, and the data set has "
            f"{shards.num_items:,}",
            where="k",
            fix=f"ask for 1 to {shards.num_items:,}",
        )
    notes: list[str] = []
    wanted = _in_domain_of_run(wanted, config, notes)
    when: list[str] = []
    question = Question(
        behavior=_behavior(wanted, module, config, shards, ids),
        domain=None if wanted.domain is None else ids.domain(wanted.domain),
        at=_at(wanted.at, module, config, shards, when),
    )
    allowed = _allowed(wanted, question, config, shards, ids, new_items)
    for name, listed in (("candidates", wanted.candidates), ("exclude", wanted.exclude)):
        if listed is not None:
            notes += _unknown(ids, as_ids(listed, name), name)
    if allowed is not None:
        if not allowed.any():
            raise UserError("no item is left to choose from", fix="allow more of them")
        notes.append(f"{int(allowed.sum()):,} of {number_of(shards.num_items, 'item')} to choose from")
    if new_items:
        ranked = "ranked by fresh vectors" if config.evaluation.new_items == "rank" else "left out"
        notes.append(
            f"a later version of the data set: {number_of(new_items, 'item')} that the model has never seen "
            f"{ranked}; to learn them: lrm train --refit RUN --all --out RUN2"
        )
    if config.evaluation.candidates == "domain" and wanted.domain is None:
        notes.append(
            "the run is evaluated among the items of a domain; here all items are ranked: --domain NAME"
        )
    seen = _seen(wanted, config, shards, ids, notes)
    more = None if wanted.items is None else item_table(wanted.items, wanted.columns, shards)
    columns = ItemColumns(ids, shards, wanted.columns, more)
    if columns.without:
        notes.append(
            f"{columns.without:,} of {number_of(shards.num_items, 'item')} have no row in the table of items"
        )
    index = _index(wanted.index, module, notes)
    return Request(wanted.k, question, allowed, seen, columns, index, notes, when)


def _in_domain_of_run(wanted: Wanted, config: RunConfig, notes: list[str]) -> Wanted:
    """Of a run of one domain, that domain: it has learned nothing of the items of others."""
    own = config.data.domain
    if own is None or wanted.domain == own:
        return wanted
    if wanted.domain is not None:
        raise UserError(
            f"the run is of the domain '{own}' alone, and has learned nothing of items of '{wanted.domain}'",
            where="domain",
            fix="leave it out, or name a run of that domain or of all (train without data.domain)",
        )
    notes.append(f"the run is of the domain '{own}' alone: items of it are ranked")
    return replace(wanted, domain=own)


def _index(wanted: IndexName | ItemIndex, module: RetrievalModel, notes: list[str]) -> ItemIndex | None:
    if isinstance(wanted, str) and wanted not in INDEXES:
        raise UsageError(f"there is no index '{wanted}'", where="--index", fix=f"one of {', '.join(INDEXES)}")
    if wanted == "exact":
        return None
    if isinstance(wanted, ItemIndex):
        check_indexable(module)
        index = wanted
    else:
        index = ItemIndex.build(module)
    notes.append(f"top items by {index.in_words}: not always exact")
    return index


def _behavior(
    wanted: Wanted, module: RetrievalModel, config: RunConfig, shards: ShardFolder, ids: Ids
) -> int:
    if wanted.behavior is None:
        return asked_by_default(config, shards)
    number = ids.behavior(wanted.behavior)
    if not module.is_told_behavior:
        raise UserError(
            "the model is not told which behavior is wanted, and scores what comes next whatever it is",
            where=f"behavior = {wanted.behavior}",
            fix="train with --set embedding.query_behavior=add, or --set embedding.layout=behavior_first",
        )
    return number


def _at(
    given: str | int | datetime | None,
    module: RetrievalModel,
    config: RunConfig,
    shards: ShardFolder,
    notes: list[str],
) -> int | None:
    """Seconds; None where the model does not look at the time of asking."""
    told = shards.manifest.timestamp_unit != "none" and config.model.time == "known"
    if not told:
        if given is not None:
            raise UserError(
                "the model is not told when it is asked",
                where=f"at = {given}",
                fix="leave the time out, or train with --set model.time=known on data with timestamps",
            )
        return None
    is_now = given is None or given == "now"
    at = int(time.time()) if is_now else asked_seconds(given, shards)
    notes += notes_of_asking(at, shards, is_now=is_now)
    return at


def _allowed(
    wanted: Wanted,
    question: Question,
    config: RunConfig,
    shards: ShardFolder,
    ids: Ids,
    new_items: int,
) -> BoolArray | None:
    masks = []
    if new_items and config.evaluation.new_items == "leave_out":
        masks.append(np.arange(shards.num_items) < shards.num_items - new_items)
    if wanted.candidates is not None:
        chosen = np.zeros(shards.num_items, bool)
        chosen[ids.known_items(as_ids(wanted.candidates, "candidates"), "candidates")] = True
        if not chosen.any():
            raise UserError(
                "the data set has none of the candidates",
                where="candidates",
                fix="name items as they are called in the log",
            )
        masks.append(chosen)
    if wanted.exclude is not None:
        left = np.ones(shards.num_items, bool)
        left[ids.known_items(as_ids(wanted.exclude, "exclude"), "exclude")] = False
        masks.append(left)
    if wanted.where:
        masks.append(having(ids, shards, wanted.where))
    if question.domain is not None:
        masks.append(_of_domain(question.domain, config, shards, ids))
    return np.logical_and.reduce(masks) if masks else None


def _unknown(ids: Ids, listed: pa.Array, name: str) -> list[str]:
    """That some of the ids of a list are passed over, if so."""
    unknown = ids.unknown_items(listed, name)
    if not len(unknown):
        return []
    return [
        f"{len(unknown):,} of {len(listed):,} ids of '{name}' are not in the data set, such as "
        f"{shown(unknown, 0)}"
    ]


def _of_domain(domain: int, config: RunConfig, shards: ShardFolder, ids: Ids) -> BoolArray:
    if ids.separate_items:
        name = shards.manifest.domains[domain - 1]
        return np.array([one == name for one in ids.items["domain"].to_pylist()])
    columns = Columns.merged(CORE, (event_column(shards, "domain"),))
    whole = config.model_copy(update={"data": config.data.model_copy(update={"domain": None})})
    return ItemDomains.of_sequences(sequences_of(shards, whole, columns)).member[domain].numpy()


def _seen(
    wanted: Wanted, config: RunConfig, shards: ShardFolder, ids: Ids, notes: list[str]
) -> BoolArray | None:
    given, manifest = wanted.exclude_seen, shards.manifest
    found = np.zeros(len(manifest.behaviors) + 1, bool)
    if given is not None and not isinstance(given, bool):
        found[[ids.behavior(name, f"--seen-by {name}") for name in given]] = True
        notes.append(f"items left out that a user has had by {', '.join(given)}")
        return found
    judged = config.evaluation.target_behavior
    if given is None and isinstance(shards, TablesOnly):
        protocol = shards.about_serving()["protocol"]
        given = bool(protocol["exclude_seen"])
        notes.append(
            f"seen items {'left out' if given else 'kept'} ({protocol['exclude_seen_reason']}; at training)"
        )
    if given is None:
        source = judged_sequences(sequences_of(shards, config, CORE), judged)
        seen = SeenItems.resolve(source, config.evaluation.exclude_seen)
        notes.append(f"seen items {'left out' if seen.excluded else 'kept'} ({seen.reason})")
        given = seen.excluded
    if not given:
        return None
    found[manifest.target_ids if judged is None else [ids.behavior(judged)]] = True
    return found
