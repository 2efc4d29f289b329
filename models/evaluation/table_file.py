"""Tables of single targets or rows as files: CSV (.csv), tab-separated (.tsv) or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from behavior.errors import UsageError, UserError
from behavior.files import check_local, write_whole
from behavior.sources.replace import check_replaceable

_PARQUET = (".parquet", ".pq", "")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def check_table_path(path: Path, what: str, columns: Sequence[str], flag: str) -> None:
    """Say what is wrong with the name of a file before anything is computed.

    Args:
        path: the file.
        what: is to be written, for the error.
        columns: of all such tables; one that is there already is written over.
        flag: that named it.

    Raises:
        UsageError: the name ends otherwise than a file that can be written.
        UserError: there is no such folder, or something else is there.
    """
    check_local(path, flag)
    if path.suffix.lower() not in (*_PARQUET, *_DELIMITERS):
        raise UsageError(
            f"{what} cannot be written as '{path.suffix}'",
            where=flag,
            fix="let the name end in .parquet, .csv or .tsv",
        )
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder '{path.parent}'", where=flag, fix="make it first")
    kind = path.suffix.lower().removeprefix(".")
    check_replaceable(path, kind if kind in ("csv", "tsv") else "parquet", columns, flag)


def write_table_file(table: pa.Table, path: Path, flag: str) -> None:
    """Write a table, whole or not at all, as the name of the file says.

    Args:
        table: what is written.
        path: the file.
        flag: that named it.

    Raises:
        UserError: the file cannot be written.
    """
    content, delimiter = pa.BufferOutputStream(), _DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        pq.write_table(table, content)
    else:
        pc.write_csv(table, content, pc.WriteOptions(delimiter=delimiter))
    write_whole(path, content.getvalue().to_pybytes(), flag)
