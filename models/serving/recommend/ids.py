"""What the ids of a log are in a data set, and the other way round."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.hashing import stable_hash
from behavior.arrow.values import NO_INTEGER, parse_integers, parse_text, shown, why_no_integer
from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.features.columns import DOMAIN_MARK
from behavior.features.vocabulary import Vocabulary
from behavior.shards.folder import ShardFolder
from behavior.shards.names import STATS, logical
from models.data.sequences import Int8Array, Int32Array
from models.serving.recommend.values import AS_IN_THE_LOG

A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
"""Ticks of the units of time that data sets have."""
A_YEAR = 31_556_952
"""Seconds."""


def time_span(shards: ShardFolder) -> tuple[int, int] | None:
    """The times of the first and the last event of the data set, in seconds, where it says."""
    if not any(logical(entry.path) == STATS for entry in shards.manifest.files):
        return None
    time = shards.stats()["time"]
    if time["first"] is None:
        return None
    a_second = A_SECOND[shards.manifest.timestamp_unit]
    return int(time["first"]) // a_second, int(time["last"]) // a_second


class Ids:
    """Items, behaviors and domains of a data set, by the names that its log has for them.

    Args:
        shards: the data set.
    """

    def __init__(self, shards: ShardFolder) -> None:
        self.shards, self.manifest = shards, shards.manifest
        vocabulary = self.manifest.spec.get("vocabulary") or {}
        self.hash_size: int | None = vocabulary.get("hash_size")

    @cached_property
    def items(self) -> pa.Table:
        """The table of known items, in their order."""
        return self.shards.items()

    @property
    def separate_items(self) -> bool:
        """Whether domains number their items apart, so that only domain and id tell which one is meant."""
        return "domain" in self.items.column_names

    def item_indices(self, ids: pa.Array, domains: Int8Array | None, where: str) -> Int32Array:
        """[ids] indices of items as in a shard; unknown ones share those of unknown items, by hash.

        Args:
            ids: as in the log.
            domains: [ids] domain ids, where items are separate.
            where: what messages name.

        Raises:
            UserError: one is no id of the log's kind.
        """
        keys = self._plain(ids, where)
        if self.hash_size is not None:
            keys = pa.array((stable_hash(keys) % np.uint64(self.hash_size)).astype(np.int64))
        elif self.separate_items:
            assert domains is not None
            keys = self._joined(pa.array(domains), keys)
        return self._vocabulary.indices(keys)

    def known_items(self, ids: pa.Array, where: str) -> np.ndarray:
        """[found] ranks (from 0) of all known items of some ids, in any domain, of those that are known."""
        if self.hash_size is not None or not self.separate_items:
            ranks = self.item_indices(ids, None, where).astype(np.int64) - self.shards.first_item
            return ranks[ranks >= 0]
        of_items, _ = parse_text(self.items["id"].combine_chunks())
        return np.flatnonzero(pc.is_in(of_items, value_set=parse_text(ids)[0]).to_numpy(zero_copy_only=False))

    def unknown_items(self, ids: pa.Array, where: str) -> pa.Array:
        """Those of some ids that are no known item's, in any domain."""
        if self.hash_size is not None or not self.separate_items:
            unknown = self.item_indices(ids, None, where) < self.shards.first_item
        else:
            known = parse_text(self.items["id"].combine_chunks())[0]
            unknown = ~pc.is_in(parse_text(ids)[0], value_set=known).to_numpy(zero_copy_only=False)
        return ids.filter(pa.array(unknown))

    def behavior(self, name: str, where: str | None = None) -> int:
        """The id of a behavior.

        Args:
            name: as the spec has it.
            where: what messages name; None: the behavior.

        Raises:
            UserError: the data set has none of that name.
        """
        return self._number(name, self.manifest.behaviors, "behavior", where)

    def domain(self, name: str) -> int:
        """The id of a domain.

        Raises:
            UserError: the data set has none of that name, or one domain only.
        """
        if not self.manifest.domains:
            raise UserError("the data set has one domain only", where=f"domain = {name}", fix="leave it out")
        return self._number(name, self.manifest.domains, "domain")

    def numbers(self, names: pa.Array, of: str, where: str) -> Int8Array:
        """[names] ids of behaviors or domains (`of`).

        Raises:
            UserError: one is not known, or missing; says in which row.
        """
        known = self.manifest.behaviors if of == "behavior" else self.manifest.domains
        text, good = parse_text(names)
        found = pc.fill_null(pc.index_in(text, value_set=pa.array(known, pa.string())), -1)
        ids = found.to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(~good | (ids < 0))[:1]:
            raise UserError(
                f"{of} {shown(names, int(row))} is not in the data set",
                where=f"{where}, row {int(row) + 1}",
                fix=did_you_mean(str(text[int(row)].as_py()), known),
            )
        return (ids + 1).astype(np.int8)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        table = self.items
        ids = table["id"].combine_chunks()
        if self.separate_items:
            names = pa.array(self.manifest.domains, pa.string())
            numbers = pc.add(pc.index_in(table["domain"].combine_chunks().cast(pa.string()), names), 1)
            ids = self._joined(numbers, ids)
        return Vocabulary(pa.table({"id": ids}), self.manifest.oov)

    def _plain(self, ids: pa.Array, where: str) -> pa.Array:
        """As integers or text, as the log was read."""
        kind = self.manifest.id_types.get("item")
        stored = self.items.schema.field("id").type
        integers = kind == "integer" or (kind is None and pa.types.is_integer(stored))
        values, good = parse_integers(ids) if integers else parse_text(ids)
        for row in np.flatnonzero(~good)[:1]:
            text = shown(ids, int(row))
            problem = why_no_integer(text) if integers else "is not an id"
            if problem == NO_INTEGER:
                problem += ", as the items of the log are"
            raise UserError(
                f"item {text} {problem}",
                where=f"{where}, row {int(row) + 1}",
                fix=AS_IN_THE_LOG,
            )
        return values

    @staticmethod
    def _joined(domains: pa.Array, ids: pa.Array) -> pa.Array:
        return pc.binary_join_element_wise(domains.cast(pa.string()), ids.cast(pa.string()), DOMAIN_MARK)

    def _number(self, name: str, known: list[str], of: str, where: str | None = None) -> int:
        if name not in known:
            raise UserError(
                f"the data set has no {of} '{name}'",
                where=where or f"{of} = {name}",
                fix=did_you_mean(name, known),
            )
        return known.index(name) + 1
