"""The evaluation protocol of retrieval: full ranking, of all known items for every target, by any scorer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from behavior.errors import UserError
from models.data.about import About
from models.data.item_domains import ItemDomains
from models.data.sequences import Int8Array, Int32Array, Int64Array, SequenceData
from models.distributed.processes import SINGLE, Processes, share_of
from models.evaluation.config import EvaluationConfig
from models.evaluation.metrics import Float64Array
from models.evaluation.rankings import Rankings
from models.evaluation.scores import Scores
from models.evaluation.seen import SeenItems
from models.evaluation.targets import Split, Targets, earlier_behavior, find_targets, seen_items
from models.evaluation.within import Catalogs

Scorer = Callable[[SequenceData, Targets], Scores]
"""Scores for targets that have a history in the data. They may depend on the events before `stop` and on the
time and behavior of the target, and on nothing else. One of several processes may have no targets."""


def evaluate_scorer(
    parts: Iterable[SequenceData],
    scorer: Scorer,
    *,
    split: Split,
    config: EvaluationConfig,
    seen: SeenItems | None = None,
    domains: ItemDomains | None = None,
    processes: Processes = SINGLE,
) -> dict[str, Any]:
    """Rank a split and report means.

    Args:
        parts: as for `rank_split`.
        scorer: what is evaluated.
        split: valid or test.
        config: cutoffs, exclusion, batch size.
        seen: `config.exclude_seen` already resolved, where that is known.
        domains: as for `rank_split`.
        processes: those among which targets are divided.

    Returns:
        `hr@k`, `ndcg@k`, `mrr@k` for each cutoff, means over users of the means over their targets (none of
        them where nobody is evaluated); `split`,
        `users` and `targets` (evaluated), `users_without_history` (users left out: none of their targets has
        a history) and `targets_without_history` (left out), `oov_targets` and `excluded_targets` (misses
        among the targets), `candidates`, `exclude_seen`; `repeats`, as
        `models.evaluation.rankings.Rankings.repeats`.
    """
    rankings = rank_split(
        parts, scorer, split=split, config=config, seen=seen, domains=domains, processes=processes
    )
    return rankings.summary(config.cutoffs)


def rank_split(
    parts: Iterable[SequenceData],
    scorer: Scorer,
    *,
    split: Split,
    config: EvaluationConfig,
    seen: SeenItems | None = None,
    candidates: int | None = None,
    domains: ItemDomains | None = None,
    processes: Processes = SINGLE,
) -> Rankings:
    """Rank every target of a split among all known items; the others of its basket are candidates like any.

    Or among the items of its domain, where the settings say so (`evaluation.candidates`).

    Targets that nothing stands before are left out and counted. Memory follows the largest part, and takes 38
    bytes a target besides. Ranks stay on the scorer's device to the end, so that the next batch is made
    while one is ranked. Of several processes each goes through all parts, ranks its share of the targets of
    each, and gets the rankings of all.

    Args:
        parts: the sequences; gone through once, and once before where `exclude_seen` is to be found out.
        scorer: what ranks.
        split: valid or test.
        config: exclusion, batch size.
        seen: `config.exclude_seen` already resolved, where that is known.
        candidates: how many known items are ranked, the first ones; None: all. Targets beyond are misses.
        domains: catalogs of the domains, where they are known; else they are found, if they are needed.
        processes: those among which targets are divided.

    Raises:
        UserError: there are no sequences.
    """
    seen = seen or SeenItems.resolve(parts, config.exclude_seen)
    catalogs = Catalogs.resolve(parts, config, domains)
    rank = partial(
        _rank_batch, scorer=scorer, exclude_seen=seen.excluded, candidates=candidates, catalogs=catalogs
    )
    ranked = [_rank_part(data, split, processes, rank=rank, batch_size=config.batch_size) for data in parts]
    if not ranked:
        raise UserError("there are no sequences to evaluate")

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in ranked])

    return Rankings(
        user=joined("user"),
        position=joined("position"),
        history=joined("history"),
        item=joined("item"),
        behavior=joined("behavior"),
        earlier=joined("earlier"),
        rank=_all_ranks(ranked, processes),
        split=split,
        seen=seen,
        users_without_history=sum(part.users_without_history for part in ranked),
        targets_without_history=sum(part.targets_without_history for part in ranked),
        about=ranked[0].about,
        candidates=ranked[0].about.num_items if candidates is None else candidates,
        within_domain=catalogs is not None,
    )


@dataclass(frozen=True)
class _Part:
    """What one part of the data adds to the rankings."""

    user: Int64Array
    position: Int32Array
    history: Int32Array
    item: Int32Array
    behavior: Int8Array
    earlier: Int8Array
    ranks: list[torch.Tensor]  # one a batch, on the scorer's device; of this process's share of the targets
    users_without_history: int
    targets_without_history: int
    about: About


def _rank_part(
    data: SequenceData,
    split: Split,
    processes: Processes,
    *,
    rank: Callable[[SequenceData, Targets], torch.Tensor],
    batch_size: int,
) -> _Part:
    found = find_targets(data, split)
    begin = data.offsets[found.sequence]
    kept = np.flatnonzero(found.stop > begin)
    targets, begin = found.take(kept), begin[kept]
    share = share_of(len(targets), processes.rank, processes.count)
    # As many batches in every process: some have to rank theirs together.
    most = -(-len(targets) // processes.count)
    starts = [share.start + done for done in range(0, most, batch_size)]
    batches = [targets.take(slice(start, min(start + batch_size, share.stop))) for start in starts]
    return _Part(
        user=data.row[targets.sequence],
        position=_places(data, targets, begin).astype(np.int32),
        history=(targets.stop - begin).astype(np.int32),
        item=data.item[targets.event],
        behavior=data.behavior[targets.event],
        earlier=earlier_behavior(data, targets),
        ranks=[rank(data, batch) for batch in batches],
        users_without_history=len(np.unique(found.sequence)) - len(np.unique(targets.sequence)),
        targets_without_history=len(found) - len(targets),
        about=data.about,
    )


def _places(data: SequenceData, targets: Targets, begin: Int64Array) -> Int64Array:
    """[targets] place of each in its whole sequence."""
    return targets.event - begin if data.excerpt is None else data.excerpt.place[targets.event]


def _all_ranks(ranked: list[_Part], processes: Processes) -> Float64Array:
    """[targets] in the order of parts, of what each process found for its share of each part."""
    batches = [ranks for part in ranked for ranks in part.ranks]
    own = torch.cat(batches).cpu().numpy() if batches else np.empty(0)
    whose = np.concatenate([_whose(len(part.item), processes.count) for part in ranked])
    ranks = np.empty(len(whose))
    for rank, found in enumerate(processes.all_gather_object(own)):
        ranks[whose == rank] = found
    return ranks


def _whose(targets: int, count: int) -> Int64Array:
    """[targets] the process that each target of a part is with."""
    shares = [share_of(targets, rank, count) for rank in range(count)]
    return np.repeat(np.arange(count), [share.stop - share.start for share in shares])


def _rank_batch(
    data: SequenceData,
    targets: Targets,
    *,
    scorer: Scorer,
    exclude_seen: bool,
    candidates: int | None,
    catalogs: Catalogs | None,
) -> torch.Tensor:
    item = data.item[targets.event].astype(np.int64) - data.about.first_item
    seen = seen_items(data, targets) if exclude_seen else None
    if candidates is None:
        candidates = data.about.num_items
    else:  # what is no candidate is ranked as little as an unknown item
        item = np.where(item < candidates, item, -1)
        seen = None if seen is None else (seen[0][seen[1] < candidates], seen[1][seen[1] < candidates])
    first, inverse = _unique_queries(data, targets)
    once = len(first) == len(targets)
    asked = targets if once else targets.take(first)
    scores = scorer(data, asked)
    if catalogs is not None:
        scores = catalogs.within(scores, data.events["domain"][asked.event])
    return scores.rank(None if once else inverse, item, candidates, seen)


def _unique_queries(data: SequenceData, targets: Targets) -> tuple[Int64Array, Int64Array]:
    """The first target of each unique query (those of a basket share one), and the inverse index."""
    about = [data.events[name] for name in ("timestamp", "behavior", "domain") if name in data.events]
    asked = [targets.sequence, targets.stop, *(values[targets.event] for values in about)]
    _, first, inverse = np.unique(np.stack(asked), axis=1, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)
