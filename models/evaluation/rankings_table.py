"""The rank of every target as a table, for anyone's own statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.shards.folder import ShardFolder
from behavior.shards.row_groups import RowGroupReader
from models.data.sequences import Int64Array
from models.evaluation.report import RankingEvaluation
from models.evaluation.table_file import check_table_path, write_table_file

FLAG = "--per-user"


def check_rankings_path(path: Path) -> None:
    """Say what is wrong with the name of a file for ranks; see `check_table_path`."""
    check_table_path(path, "ranks", ("user", "item", "position", "rank"), FLAG)


def write_rankings(evaluation: RankingEvaluation, path: Path) -> None:
    """Write every target's rank to a file, whole or not at all: CSV (.csv), tab-separated (.tsv) or Parquet.

    Columns: `user` (the id as in the log; with `user_domain`, a name, where user ids are separate), `item`
    (as in the log; null for an unknown item), `behavior` (name), `position` (of the target in the user's
    sequence, from 0), `history` (events before it), `rank` (from 1; null for a miss), `earlier` (the behavior
    of the item's latest event in the history; null where it has none). One row a target.

    Raises:
        UserError: the file cannot be written.
    """
    rankings, shards = evaluation.rankings, evaluation.shards
    known = rankings.item.astype(np.int64) - shards.first_item
    miss = np.isinf(rankings.rank)
    behaviors = pa.array(shards.manifest.behaviors)
    columns = {
        **users_of_rows(rankings.user, shards),
        "item": shards.items()["id"].take(pa.array(known, mask=known < 0)),
        "behavior": behaviors.take(pa.array(rankings.behavior.astype(np.int64) - 1)),
        "position": pa.array(rankings.position),
        "history": pa.array(rankings.history),
        "rank": pa.array(np.where(miss, 0, rankings.rank).astype(np.int64), mask=miss),
        "earlier": behaviors.take(
            pa.array(rankings.earlier.astype(np.int64) - 1, mask=rankings.earlier == 0)
        ),
    }
    write_table_file(pa.table(columns), path, FLAG)


def users_of_rows(rows: Int64Array, shards: ShardFolder) -> dict[str, Any]:
    """The users of some rows, as in the log."""
    separate = shards.manifest.domain_ids.get("users") == "separate"
    names = ["user", *(["user_domain"] if separate else [])]
    reader, order = RowGroupReader(shards), np.argsort(rows, kind="stable")
    found = []
    for group in reader.groups:
        begin, end = np.searchsorted(rows[order], [group.first_row, group.first_row + group.rows])
        found.append(reader.read(group, names).take(pa.array(rows[order[begin:end]] - group.first_row)))
    table = pa.concat_tables(found).take(pa.array(np.argsort(order)))
    columns = {"user": table["user"]}
    if separate:
        domain = table["user_domain"].to_numpy().astype(np.int64) - 1
        columns["user_domain"] = pa.array(shards.manifest.domains).take(pa.array(domain))
    return columns
