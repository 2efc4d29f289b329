"""Vectors of items and users as Parquet, for the indices of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavior.files import write_whole
from behavior.shards.row_groups import RowGroupReader
from models.build import sequences_of
from models.serving.export.folder import new_folder
from models.serving.export.questions import question_batches
from models.serving.export.scoring import asked_behavior, retrieval_model, scoring_of
from models.serving.export.similar import ITEMS_AT_ONCE, item_vectors
from models.serving.load import TrainedModel, memory_errors_told
from models.serving.recommend.asked import Question, ask
from models.serving.recommend.when import asked_seconds, notes_of_asking
from models.tasks.retrieval.scoring import scoring

Progress = Callable[[int, int], None]
"""Told how many users are done, and how many there are."""
ABOUT = "embeddings.json"
ITEMS, USERS = "items.parquet", "users.parquet"


def embed(
    trained: TrainedModel,
    out: str | Path,
    *,
    behavior: str | None = None,
    at: str | int | datetime | None = None,
    progress: Progress = lambda done, users: None,
) -> dict[str, Any]:
    """Write the vectors of all items, and of all users after their whole history, to a folder.

    `items.parquet` has the columns `item` (id as in the log) and `vector`; `users.parquet` has `user`, with
    `user_domain` where user ids are separate, and `vector`: null for a user without any event that is an
    input. `embeddings.json`, written last, says how scores are made of them, and what of the model's ranking
    is not in them. Users are read and written by the row group, in the order of the data set.

    Args:
        trained: a retrieval model.
        out: a new or empty folder.
        behavior: name of the behavior that is wanted, for models that are told; None: the first target.
        at: when the next event happens, for models that know the time: a date or time (UTC), or a number in
            the data set's unit; None: when the user's last event did. Nobody is asked before that.
        progress: called after each batch.

    Returns:
        What `embeddings.json` says. `question.asked_later` counts the users with events after `at`, who are
        asked at the time of their last one.

    Raises:
        UserError: the folder holds something; the model has no vectors, is told no behavior or no time; or
            there is no such behavior.
    """
    seconds = None if at is None else asked_seconds(at, trained.shards)
    scores, asked = scoring_of(trained), asked_behavior(trained, behavior, seconds)
    with new_folder(out) as folder, memory_errors_told(trained.task):
        items = _write(folder / ITEMS, _items(trained))
        question = {
            "behavior": trained.about.behaviors[asked - 1],
            "at": seconds if seconds is not None else "the time of the user's last event",
            "asked_later": 0,
        }
        users = _write(folder / USERS, _users(trained, Question(asked, at=seconds), question, progress))
        files = {ITEMS: {"rows": items, "id": "item"}, USERS: {"rows": users, "id": "user"}}
        notes = [] if seconds is None else notes_of_asking(seconds, trained.shards)
        about = {"run": str(trained.run), "scoring": scores, "question": question, "notes": notes}
        about["files"] = files
        write_whole(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode(), "--out")
    return about


def _write(path: Path, tables: Iterator[pa.Table]) -> int:
    """Write tables to one file, a row group each; returns the number of rows."""
    rows, writer = 0, None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _items(trained: TrainedModel) -> Iterator[pa.Table]:
    model, table = retrieval_model(trained), trained.shards.items()
    names = [name for name in ("domain",) if name in table.column_names]
    for first in range(0, model.num_items, ITEMS_AT_ONCE):
        stop = min(first + ITEMS_AT_ONCE, model.num_items)
        vectors = item_vectors(model, first, stop).cpu().numpy()
        some = table.slice(first, stop - first)
        columns = {"item": some["id"], **{name: some[name] for name in names}}
        yield pa.table({**columns, "vector": _lists(vectors)})


def _users(
    trained: TrainedModel, question: Question, told: dict[str, Any], progress: Progress
) -> Iterator[pa.Table]:
    config, reader = trained.config, RowGroupReader(trained.shards)
    source = sequences_of(trained.shards, config, retrieval_model(trained).embedding.columns)
    names = [name for name in ("user", "user_domain") if name in reader.columns]
    total, done = trained.shards.manifest.counts.users, 0
    for part, group in enumerate(reader.groups):
        data, _, later = ask(source.read(part), question)
        told["asked_later"] += int(later.sum())
        vectors = np.full((data.num_sequences, retrieval_model(trained).query_dim), np.nan, np.float32)
        for rows, queries in _queries(trained, data):
            vectors[rows] = queries
            done += len(rows)
            progress(done, total)
        ids = reader.read(group, names).take(pa.array(data.row - group.first_row))
        missing = np.isnan(vectors[:, 0])
        yield ids.append_column("vector", _lists(vectors, missing))


def _queries(trained: TrainedModel, data: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    model, config = retrieval_model(trained), trained.config
    for rows, on_host in question_batches(data, config.model, config.evaluation.batch_size):
        batch = on_host.to(model.device)
        with scoring(model):
            queries = model(batch)[batch.offsets[1:] - 1]
        yield rows, queries.cpu().numpy()


def _lists(vectors: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """[n] lists of one size, null where missing; not of Arrow's fixed size, whose nulls do not come back."""
    there = np.full(len(vectors), True) if missing is None else ~missing
    flat = pa.array(np.ascontiguousarray(vectors[there], np.float32).ravel())
    offsets = np.concatenate(([0], np.cumsum(there * vectors.shape[1]))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(~there))
