"""The checks of one data set: every table that is read goes through here, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial

import pyarrow as pa

from behavior.shards.checks import check_indices, check_sequences, checked_columns
from behavior.shards.columns import VOCABULARY_RULES, ColumnRule, sequence_rules, table_rules
from behavior.shards.damage import damaged
from behavior.shards.manifest import FeatureEntry, FileEntry, Manifest
from behavior.shards.names import ITEMS, SEQUENCES, logical
from behavior.wording import number_of


class DatasetChecks:
    """Compares tables with what the manifest says of them.

    All methods raise `UserError` where a table holds what it cannot hold: "the sequences are damaged: ...".

    Args:
        manifest: of the data set.
        where: names a file, given its path, for messages.
    """

    def __init__(self, manifest: Manifest, where: Callable[[str], str]) -> None:
        self._manifest = manifest
        self._where = where

    def totals(self) -> None:
        """The files as the manifest lists them have the users, events and items that it counts."""
        counts, files = self._manifest.counts, self._manifest.files
        parts = [entry for entry in files if entry.path.startswith(f"{SEQUENCES}/")]
        by_name = {logical(entry.path): entry for entry in files}
        compared = [
            ("users", counts.users, sum(entry.rows for entry in parts)),
            ("events", counts.events, sum(entry.events for entry in parts)),
            ("items", counts.items, by_name[ITEMS].rows if ITEMS in by_name else counts.items),
        ]
        for name, said, listed in compared:
            if said != listed:
                what = f"it counts {said:,} {name}, the files that it lists have {listed:,}"
                raise damaged("counts of the manifest", what, self._where("manifest.json"))

    def part_size(self, entry: FileEntry, rows: int, events: int | None) -> None:
        """A sequence file has so many users and events (None: not known) as the manifest says."""
        for name, there, said in (("users", rows, entry.rows), ("events", events, entry.events)):
            if there is not None and there != said:
                what = f"the manifest says {said:,} {name}, the file has {there:,}"
                raise damaged("sequences", what, self._where(entry.path))

    def some_sequences(self, entry: FileEntry, table: pa.Table) -> tuple[pa.Table, int | None]:
        """Rows of a sequence file: of the format's types, ordered by time, cut within their length.

        Returns:
            The rows, and their number of events where that can be told.
        """
        wrong = partial(damaged, "sequences", where=self._where(entry.path))
        table = checked_columns(table, self._sequences, wrong)
        by_time = self._manifest.split["kind"] != "random"
        return table, check_sequences(table, self._sequences, wrong, by_time=by_time)

    def sequences(self, entry: FileEntry, table: pa.Table) -> pa.Table:
        """All rows of a sequence file."""
        table, events = self.some_sequences(entry, table)
        self.part_size(entry, table.num_rows, events)
        return table

    def items(self, entry: FileEntry, table: pa.Table) -> pa.Table:
        """The item table: known items in order of their indices, from the first one on."""
        return self._table("items", entry, table, self._manifest.item_features)

    def users(self, entry: FileEntry, table: pa.Table) -> pa.Table:
        """The user table."""
        return self._table("users", entry, table, self._manifest.user_features)

    def vocabulary(self, entry: FileEntry, table: pa.Table) -> pa.Table:
        """The vocabulary of a feature."""
        return self._indexed("vocabularies", entry, table, VOCABULARY_RULES, None)

    @cached_property
    def _sequences(self) -> dict[str, ColumnRule]:
        return sequence_rules(self._manifest)

    def _table(self, of: str, entry: FileEntry, table: pa.Table, features: list[FeatureEntry]) -> pa.Table:
        rules = table_rules(self._manifest, features)
        return self._indexed(of, entry, table, rules, 1 + self._manifest.oov)

    def _indexed(
        self, of: str, entry: FileEntry, table: pa.Table, rules: dict[str, ColumnRule], first: int | None
    ) -> pa.Table:
        wrong = partial(damaged, of, where=self._where(entry.path))
        if missing := _lacks(table, rules):
            raise wrong(f"there is no column '{missing[0]}'")
        if table.num_rows != entry.rows:
            raise wrong(f"the manifest says {number_of(entry.rows, 'row')}, the file has {table.num_rows:,}")
        table = checked_columns(table, rules, wrong)
        check_indices(table, first, wrong)
        return table


def _lacks(table: pa.Table, names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in table.column_names]
