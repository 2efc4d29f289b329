"""Sequences by the row group: the smallest part of a data set that can be read on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from behavior.errors import UserError
from behavior.shards.damage import decoding
from behavior.shards.folder import ShardFolder, check_columns
from behavior.shards.manifest import FileEntry


@dataclass(frozen=True)
class RowGroup:
    """One row group of a sequence file.

    Attributes:
        entry: the file, as the manifest names it.
        number: of the row group within the file, from 0.
        first_row: number of its first sequence in the whole data set, in order of files and rows.
        rows: sequences.
        events: events of all its sequences; one without events counts as one.
    """

    entry: FileEntry
    number: int
    first_row: int
    rows: int
    events: int


class RowGroupReader:
    """Reads a data set by row groups and columns, from a local folder or from any `fsspec` file system.

    Only the asked columns of the asked row group are read. Local files are checked against their checksum
    once, when they are first read; of remote ones only the size is (`ShardFolder.verify` reads them whole).
    Safe to use from several threads.

    Attributes:
        shards: the data set.
        groups: its row groups that are not empty, in order of rows.
    """

    def __init__(self, shards: ShardFolder, files: Sequence[FileEntry] | None = None) -> None:
        """
        Args:
            shards: the data set.
            files: some of its sequence files, whose rows are counted from 0; default: all.
        """
        self.shards = shards
        self.groups: list[RowGroup] = []
        self._footers: dict[str, pq.FileMetaData] = {}
        row = 0
        for entry in shards.sequence_files() if files is None else files:
            with self._reading(entry, "the end"), closing(self._open(entry)) as source:
                footer = self._footers[entry.path] = pq.read_metadata(source)
            column = _item_column(footer, shards.where(entry.path))
            shards.checks.part_size(entry, footer.num_rows, _events(footer, column))
            for number in range(footer.num_row_groups):
                group = footer.row_group(number)
                if group.num_rows:
                    events = group.column(column).num_values
                    self.groups.append(RowGroup(entry, number, row, group.num_rows, events))
                row += group.num_rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the sequence files; none where there is no file."""
        footers = iter(self._footers.values())
        return next((footer.schema.to_arrow_schema().names for footer in footers), [])

    def read(self, group: RowGroup, columns: Sequence[str]) -> pa.Table:
        """The named columns of a row group, in one chunk each, read by the calling thread alone.

        Raises:
            UserError: a column is missing, or the file is damaged.
        """
        shards, path = self.shards, group.entry.path
        self._check(group.entry)
        with (
            self._reading(group.entry, f"row group {group.number}"),
            closing(self._open(group.entry)) as source,
        ):
            file = pq.ParquetFile(source, metadata=self._footers[path], pre_buffer=not shards.folder.is_local)
            check_columns(file.schema_arrow.names, columns, shards.where(path))
            table = file.read_row_group(
                group.number, columns=list(columns), use_threads=False
            ).combine_chunks()
        return shards.checks.some_sequences(group.entry, table)[0]

    def _open(self, entry: FileEntry) -> Any:
        folder = self.shards.folder
        # What is read is asked for in large ranges already: reading ahead would fetch what nobody wants.
        return (
            folder.input_file(entry.path) if folder.is_local else folder.open(entry.path, cache_type="none")
        )

    def _check(self, entry: FileEntry) -> None:
        if self.shards.folder.is_local:
            self.shards.check(entry)

    @contextmanager
    def _reading(self, entry: FileEntry, what: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            self._check(entry)  # says so where the file has changed
            if self.shards.folder.is_local:
                with decoding("sequences", self.shards.where(entry.path)):
                    raise
            raise UserError(
                f"{what} of the sequence file cannot be read: {error}",
                where=self.shards.where(entry.path),
                fix="check the connection, restore the file, or prepare the data again with --overwrite",
            ) from error


def _item_column(footer: pq.FileMetaData, where: str) -> int:
    for number in range(footer.num_columns):
        if footer.schema.column(number).path.partition(".")[0] == "item":
            return number
    raise UserError("there is no column 'item'", where=where, fix="prepare the data again with --overwrite")


def _events(footer: pq.FileMetaData, column: int) -> int | None:
    """Events of a file, None where it does not tell: a sequence without any stands for one value, a null."""
    chunks = [footer.row_group(number).column(column) for number in range(footer.num_row_groups)]
    if not all(chunk.is_stats_set and chunk.statistics.has_null_count for chunk in chunks):
        return None
    return sum(chunk.num_values - chunk.statistics.null_count for chunk in chunks)
