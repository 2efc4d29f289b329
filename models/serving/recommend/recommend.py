"""Recommendations of a trained model; see `models.serving.load.TrainedModel.recommend`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.sources.histories import HistoryColumns
from models.build import sequences_of
from models.config import RunConfig
from models.data.columns import Columns
from models.data.declared import CORE, event_column
from models.data.loading.domain import domain_number, of_domain
from models.data.loading.part import IN_WORDS
from models.serving.recommend.files import read_histories
from models.serving.recommend.ids import Ids
from models.serving.recommend.output import write_batches
from models.serving.recommend.request import Wanted, resolve
from models.serving.recommend.rerank import Rerank
from models.serving.recommend.stream import Stream, Told
from models.serving.recommend.table import Asking, HistoryTable
from models.serving.recommend.users import DataSetUsers
from models.serving.recommend.values import as_ids, check_several, column_of
from models.tasks.retrieval import RetrievalModel, model_scorer

Histories: TypeAlias = str | PathLike[str] | pa.Table | Iterable[pa.RecordBatch] | Iterable[Mapping[str, Any]]
"""A file, a table, its batches, or rows as dictionaries."""
_ROWS = 10_000


@dataclass(eq=False)
class Recommendations:
    """Recommendations to come: they are made while they are gone through, once.

    Attributes:
        decided: what was decided, in words: seen items, what the model was trained on.
        told: counts so far; complete when all are made.
        expected: users, where their number is known beforehand.
        when: about the time of asking, of those who have none of their own.
    """

    batches: Iterator[pa.RecordBatch]
    decided: list[str]
    told: Told
    expected: int | None = None
    when: list[str] = field(default_factory=list)
    _begun: bool = field(default=False, repr=False)

    @property
    def notes(self) -> list[str]:
        """What was decided, in words; in the end, of the time of asking only if somebody was asked then."""
        told = self.told
        return [*([] if 0 < told.users == told.asked_apart else self.when), *self.decided]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._begun:
            raise UserError("these recommendations have been gone through", fix="ask again")
        self._begun = True
        return self.batches

    def table(self) -> pa.Table:
        """All of them in memory: `user`, `rank` (from 1), `item`, `score`, `answer`, and asked columns.

        Raises:
            UserError: nobody is asked about.
        """
        batches = list(self)
        if not batches:
            raise UserError("there are no recommendations: nobody is asked about", fix="name a user")
        return pa.Table.from_batches(batches)

    def write(self, path: str | PathLike[str]) -> int:
        """Write them to a file as they are made, whole or not at all: .parquet, .jsonl, .csv or .tsv.

        Returns:
            The number of rows.

        Raises:
            UserError: the file cannot be written, or its name says no kind.
        """
        return write_batches(self, Path(path))


@dataclass(frozen=True)
class Served:
    """What recommendations are made with."""

    module: RetrievalModel
    config: RunConfig
    shards: ShardFolder
    columns: Columns
    """Of the batches that the task reads."""
    new_items: int = 0


def recommend(
    served: Served,
    users: Sequence[Any] | pa.Array | None = None,
    histories: Histories | None = None,
    wanted: Wanted | None = None,
    rerank: Rerank | None = None,
) -> Recommendations:
    """The top items of users of the data set, or after histories; nothing is scored until they are asked for.

    Raises:
        UserError: as `models.serving.load.TrainedModel.recommend`.
    """
    if users is not None and histories is not None:
        raise UserError(
            "users of the data set and histories are asked for",
            where="users, histories",
            fix="name one of them",
        )
    if rerank is not None and histories is not None:
        raise UserError(
            "histories of a table have no actions that a ranking model looks at",
            where="rerank, histories",
            fix="recommend to users of the data set, or leave rerank out",
        )
    config, shards, ids = served.config, served.shards, Ids(served.shards)
    request = resolve(wanted or Wanted(), served.module, config, shards, ids, served.new_items)
    parts: Iterable[Asking]
    told, expected = Told(), None
    if histories is None:
        chosen = None if users is None else as_ids(users, "users")
        columns = served.columns if rerank is None else Columns.merged(served.columns, rerank.columns)
        source = sequences_of(shards, whole_catalog(config), columns)
        found = DataSetUsers(shards, source, chosen)
        parts, expected = found, found.count
    else:
        parts = _tables(histories, served, ids, told)
    note = trained_on_note(config)
    notes = [*request.notes, *([note] if note else []), *([rerank.note] if rerank else [])]
    score = model_scorer(served.module, config.model)
    stream = Stream(request, score, config, ids, told, rerank=rerank)
    return Recommendations(stream.answer(parts), notes, told, expected, request.when)


def trained_on_note(config: RunConfig) -> str | None:
    """That a model does not know every event, where it does not."""
    if config.loader.part == "all":
        return None
    return (
        f"the model was trained on {IN_WORDS[config.loader.part]}; to serve one that knows every event: "
        "lrm train --refit RUN --all --out RUN2"
    )


def whole_catalog(config: RunConfig) -> RunConfig:
    """The settings without what only rankings within domains read."""
    return config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"candidates": "all"})}
    )


def history_columns(served: Served) -> Columns:
    """The columns of histories that a model needs."""
    columns = Columns.merged(CORE, served.columns)
    if served.config.data.domain is not None:
        columns = Columns.merged(columns, (event_column(served.shards, "domain"),))
    return columns


def history_table(served: Served, ids: Ids, where: str) -> HistoryTable:
    """Reads histories with all that the model wants to know of events.

    Args:
        served: what recommends.
        ids: of its data set.
        where: what messages name.
    """
    layout = served.module.embedding.layout
    return HistoryTable(served.shards, history_columns(served), ids, where, layout=layout)


def in_run_domain(part: Asking, served: Served) -> Asking:
    """Histories without the events of other domains, where the run is about one."""
    domain = served.config.data.domain
    if domain is None:
        return part
    return replace(part, data=of_domain(part.data, domain_number(served.shards, domain)))


def _tables(histories: Histories, served: Served, ids: Ids, told: Told) -> Iterator[Asking]:
    named = isinstance(histories, str | PathLike)
    table = history_table(served, ids, str(histories) if named else "histories")
    for part in table.read(_batches(histories, table.names)):
        yield in_run_domain(part, served)


def _batches(histories: Histories, columns: HistoryColumns) -> Iterator[pa.RecordBatch]:
    if isinstance(histories, str | PathLike):
        yield from read_histories(str(histories), columns)
        return
    if isinstance(histories, pa.Table):
        yield from histories.to_batches()
        return
    check_several(histories, "histories")
    rows: list[dict[str, Any]] = []
    for one in histories:
        if isinstance(one, pa.RecordBatch):
            yield one
            continue
        if not isinstance(one, Mapping):
            raise UserError(
                f"{one!r:.40} is no row of a history",
                where="histories",
                fix="{'user': ..., 'item': ..., ...}",
            )
        rows.append(dict(one))
        if len(rows) == _ROWS:
            yield _of_dictionaries(rows)
            rows = []
    if rows:
        yield _of_dictionaries(rows)


def _of_dictionaries(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Of all keys that some of them have: Arrow looks at those of the first alone."""
    names = dict.fromkeys(key for row in rows for key in row)
    return pa.RecordBatch.from_pydict(
        {name: column_of([row.get(name) for row in rows], name, "histories") for name in names}
    )
