"""Whether a file that is there may be written over: only by a table of the same kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from behavior.errors import UserError
from behavior.files import check_regular
from behavior.sources.blocks import TextFile, compression_of


def check_replaceable(path: Path, kind: str, columns: Sequence[str], flag: str) -> None:
    """Refuse to write a table over a log, a data set, or what it is made of: only over an earlier one.

    Args:
        path: that is to be written; a file that is not there, or empty, may be.
        kind: parquet, jsonl, csv or tsv.
        columns: that an earlier table of the kind has.
        flag: that names it.

    Raises:
        UserError: something else is there.
    """
    try:
        check_regular(path)
        if not path.stat().st_size or set(columns) <= set(_columns(path, kind)):
            return
    except FileNotFoundError:
        return
    except (OSError, ValueError, UserError, pa.ArrowException):
        pass  # of another kind than its name says, or unreadable: not a table of ours
    raise UserError(
        f"'{path}' is there already, and is something else: it would be lost",
        where=flag,
        fix="name another file, or remove this one first",
    )


def _columns(path: Path, kind: str) -> list[str]:
    if kind == "parquet":
        return list(pq.read_schema(path).names)
    with TextFile(str(path), compression_of(str(path), "auto")) as text:
        line = text.peek_line()
    if kind == "jsonl":
        record = json.loads(line)
        return list(record) if isinstance(record, dict) else []
    parse = csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",")
    return csv.read_csv(pa.BufferReader(line), parse_options=parse).column_names
