"""Recommendations for requests as they come: several at a time, histories kept for those who come again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.arrow.values import parse_text
from behavior.errors import UserError
from behavior.shards.row_groups import RowGroupReader
from models.build import sequences_of
from models.data.loading import SequenceSource
from models.data.sequences import SequenceData, concat_sequences
from models.evaluation.ranking import Scorer
from models.inputs.layouts.user_context import WithUserContext
from models.serving.cache import HistoryCache
from models.serving.cached_scorer import CachedScorer
from models.serving.load import TrainedModel
from models.serving.recommend.asked import take_sequences
from models.serving.recommend.ids import Ids
from models.serving.recommend.recommend import history_table, in_run_domain, whole_catalog
from models.serving.recommend.request import Request, Wanted, resolve
from models.serving.recommend.stream import Stream, Told
from models.serving.recommend.table import Asking
from models.serving.recommend.told import ItemTable
from models.serving.recommend.values import column_of, rows_of
from models.serving.recommend.when import asked_seconds
from models.tasks.retrieval import model_scorer

_KEPT = 256  # kinds of requests


@dataclass(frozen=True)
class Ask:
    """One request: a user of the data set, or anybody's history."""

    user: Any
    """Of the data set, where there is no history; otherwise any name, by which people are known again."""
    history: Sequence[Mapping[str, Any]] | None = None
    """All events so far as rows `item[, behavior][, timestamp][, domain]`, as in a file of histories."""
    at: str | int | datetime | None = None
    """The time of asking, of models that are told it; None: now."""
    wanted: Wanted = field(default_factory=Wanted)
    """What is asked for; `at` and `items` in it are not looked at. Sequences in it are tuples, so that equal
    requests are resolved once."""


@dataclass(frozen=True)
class Answer:
    """Recommendations for one request."""

    rows: list[dict[str, Any]]
    """`rank`, `item`, `score`, and what was asked for about items."""
    by: str
    """`model`, or `popularity` for those of whom the model is shown no event."""


class LiveRecommender:
    """Answers requests as `TrainedModel.recommend` does, several at a time.

    Keys and values of histories are kept (`HistoryCache`) where the model allows it: of a history that
    begins as the user's last one did, only what is new is computed. Not for several threads at once.

    Args:
        model: what recommends.
        cache_bytes: memory for histories; 0: nothing is kept.
        items: where further columns of items are, see `Wanted.items`.
        parts: row groups of the data set that are held in memory, for its users.

    Raises:
        UserError: the model scores no items, or `cache_bytes` is less than one history takes.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        cache_bytes: int = 0,
        items: ItemTable | None = None,
        parts: int = 16,
    ) -> None:
        self.model, self.served, self.items = model, model.served, items
        config, shards = model.config, model.shards
        self.ids, self.told = Ids(shards), Told()
        self.at_once = config.evaluation.batch_size
        """Requests that are answered together, at most."""
        self.cache: HistoryCache | None = None
        self.uncached: str | None = "no memory for histories"
        """Why nothing is kept; None: it is."""
        self._scorer: Scorer | CachedScorer = model_scorer(self.served.module, config.model)
        if cache_bytes:
            self._keep_histories(cache_bytes)
        self._table = history_table(self.served, self.ids, "history")
        self._read = lru_cache(parts)(lambda part: self._source.read(part))
        self._streams: OrderedDict[Wanted, Stream] = OrderedDict()
        self._leaves_out_seen: bool | None = None
        self._leaves_out_seen = self._resolve(Wanted(k=1)).seen is not None
        self._is_told_time = shards.manifest.timestamp_unit != "none" and config.model.time == "known"
        self._nameless = 0

    def recommend(self, asks: Sequence[Ask]) -> list[Answer | UserError]:
        """Answer requests; one that cannot be answered gets the error, and the others their answers."""
        found: list[Answer | UserError | None] = [None] * len(asks)
        groups: dict[int, tuple[Stream, list[int]]] = {}
        for number, ask in enumerate(asks):
            try:
                stream = self._stream(ask)
            except UserError as error:
                found[number] = error
                continue
            groups.setdefault(id(stream), (stream, []))[1].append(number)
        keys = [self._key(ask) for ask in asks]
        for stream, numbers in groups.values():
            # Users of the data set and others are read otherwise; a person stands in a batch once.
            for some in _batches(numbers, keys, self.at_once):
                answers = self._answers(stream, [asks[n] for n in some], [keys[n] for n in some])
                for number, answer in zip(some, answers, strict=True):
                    found[number] = answer
        return [answer for answer in found if answer is not None]

    def _answers(
        self, stream: Stream, asks: list[Ask], keys: list[tuple[bool, Hashable]]
    ) -> Sequence[Answer | UserError]:
        """Of one kind; where one stops the others, each is answered alone."""
        try:
            return self._together(stream, asks, keys)
        except UserError as error:
            if len(asks) == 1:
                return [error]
            pairs = zip(asks, keys, strict=True)
            return [answer for ask, key in pairs for answer in self._answers(stream, [ask], [key])]

    def _together(self, stream: Stream, asks: list[Ask], keys: list[tuple[bool, Hashable]]) -> list[Answer]:
        asking = self._of_users(asks) if asks[0].history is None else self._of_histories(asks)
        asking = replace(asking, users=pa.table({"user": np.arange(len(asks))}), at=self._times(asks))
        if isinstance(self._scorer, CachedScorer):
            self._scorer.keys = keys
        rows: list[list[dict[str, Any]]] = [[] for _ in asks]
        by = ["model"] * len(asks)
        for batch in stream.answer([asking]):
            for row in rows_of(batch):
                number = row.pop("user")
                by[number] = row.pop("answer")
                rows[number].append(row)
        return [Answer(*answer) for answer in zip(rows, by, strict=True)]

    def _of_users(self, asks: list[Ask]) -> Asking:
        """Whole histories of users of the data set."""
        parts: list[SequenceData] = []
        for ask in asks:
            if ask.user is None:
                raise UserError("neither a user nor a history is given", fix="give one of them")
            place = self._places.get(str(ask.user))
            if place is None:
                raise UserError(
                    f"user '{ask.user}' is not in the data set", where="user", fix="give a history with it"
                )
            parts.append(take_sequences(self._read(place[0]), np.array([place[1]])))
        return Asking(concat_sequences(parts), pa.table({}))

    def _of_histories(self, asks: list[Ask]) -> Asking:
        """One sequence a request, in their order."""
        rows: list[dict[str, Any]] = []
        for number, ask in enumerate(asks):
            rows += [{**event, "user": number} for event in ask.history or ()] or [{"user": number}]
        names = list(dict.fromkeys(name for row in rows for name in row))
        if names == ["user"]:  # nobody has an event
            names += ["item", "behavior", "timestamp", "domain"]
        table = pa.table({name: _column([row.get(name) for row in rows], name) for name in names})
        [part] = self._table.read(table.to_batches())
        return in_run_domain(part, self.served)

    def _stream(self, ask: Ask) -> Stream:
        """What answers requests for the same; the last ones are kept."""
        if ask.wanted.rerank is not None:
            raise UserError(
                "requests as they come are answered in the order of the model's own scores",
                where="rerank",
                fix="leave it out; `TrainedModel.recommend` reranks for users of the data set, and "
                "`models.serving.cache.RankingCache` has a ranking model's logits of candidates",
            )
        wanted = replace(ask.wanted, items=None, at=None)
        if ask.at is not None and not self._is_told_time:
            wanted = replace(wanted, at=ask.at)  # which is refused, with the reason
        if wanted not in self._streams:
            request = self._resolve(replace(wanted, items=self.items))
            self._streams[wanted] = Stream(request, self._scorer, self.model.config, self.ids, self.told)
            if len(self._streams) > _KEPT:
                self._streams.popitem(last=False)
        self._streams.move_to_end(wanted)
        return self._streams[wanted]

    def _resolve(self, wanted: Wanted) -> Request:
        if wanted.exclude_seen is None and self._leaves_out_seen is not None:
            wanted = replace(wanted, exclude_seen=self._leaves_out_seen)
        model = self.model
        return resolve(wanted, self.served.module, model.config, model.shards, self.ids, model.new_items)

    def _times(self, asks: list[Ask]) -> np.ndarray | None:
        if not self._is_told_time:
            return None
        now = int(time.time())
        shards = self.model.shards
        return np.array([now if ask.at in (None, "now") else asked_seconds(ask.at, shards) for ask in asks])

    @cached_property
    def _source(self) -> SequenceSource:
        """Opened only for users of the data set: histories of others do not need it."""
        return sequences_of(self.model.shards, whole_catalog(self.model.config), self.served.columns)

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """User -> row group and row in it."""
        reader, places = RowGroupReader(self.model.shards), dict[str, tuple[int, int]]()
        for part, group in enumerate(reader.groups):
            users = parse_text(reader.read(group, ["user"])["user"].combine_chunks())[0]
            places |= {user: (part, row) for row, user in enumerate(users.to_pylist())}
        return places

    def _keep_histories(self, budget: int) -> None:
        config = self.model.config
        if isinstance(self.served.module.embedding.layout, WithUserContext):
            self.uncached = "histories may bring features of their users, which a cache knows by rows alone"
            return
        try:
            self.cache = HistoryCache(self.served.module, budget, time=config.model.time)
        except UserError as error:
            if "bytes" in error.what:
                raise
            self.uncached = error.what
            return
        self.uncached = None
        self._scorer = CachedScorer(self.cache, config.model)
        self.at_once = min(self.at_once, self.cache.full_histories)

    def _key(self, ask: Ask) -> tuple[bool, Hashable]:
        """Whether there is a history, and whose: of a request without a name nobody's before."""
        if ask.user is None and ask.history is not None:
            self._nameless += 1
            return True, self._nameless
        return ask.history is not None, str(ask.user)


def _batches(numbers: Sequence[int], keys: Sequence[tuple[bool, Hashable]], most: int) -> Iterator[list[int]]:
    """Divided so that a batch has requests with or without histories, and a key once."""
    for with_history in (False, True):
        left = [number for number in numbers if keys[number][0] == with_history]
        while left:
            first = dict(reversed([(keys[number], number) for number in left]))
            chosen = sorted(first.values())[:most]
            yield chosen
            left = [number for number in left if number not in set(chosen)]


def _column(values: list[Any], name: str) -> pa.Array:
    found = column_of(values, name, "history")
    return found.cast(pa.string()) if pa.types.is_null(found.type) else found
