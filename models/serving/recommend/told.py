"""Tables that tell about items what a data set does not keep, such as titles."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.sources.read import read_whole_table
from behavior.spec.dataset_spec import DatasetSpec
from behavior.spec.tables import Feature, FeatureTable
from models.serving.recommend.files import read_table

ItemTable: TypeAlias = pa.Table | str | PathLike[str]
"""A table with a column `item`, a file that has one, or the folder with the item tables of the spec."""


def item_table(given: ItemTable, columns: Sequence[str], shards: ShardFolder) -> pa.Table:
    """A table with `item`, and columns to be looked up.

    Args:
        given: where it is.
        columns: that are asked for; those that the data set has itself need not be there.
        shards: the data set.

    Raises:
        UserError: it cannot be read, or has no column `item`.
    """
    if not isinstance(given, pa.Table):
        if Path(given).is_dir():
            return _of_spec(Path(given), columns, shards)
        return read_table(given, "--items", [table.id for table in _tables_of(shards) if table.id])
    if "item" not in given.column_names:
        raise UserError(
            f"there is no column 'item', only {', '.join(given.column_names)}",
            where="items",
            fix="name the column of ids 'item'",
        )
    return given


def _tables_of(shards: ShardFolder) -> Sequence[FeatureTable]:
    """The item tables of the spec that the data set was made by."""
    record = {**shards.manifest.spec, "name": shards.manifest.name}
    return parse_config(DatasetSpec, record, where=shards.where("manifest.json")).items


def _of_spec(folder: Path, columns: Sequence[str], shards: ShardFolder) -> pa.Table:
    """Raw columns of the item tables that the spec of the data set names."""
    tables = _tables_of(shards)
    own = {entry.name for entry in shards.manifest.item_features}
    wanted = [name for name in columns if name not in own and name not in ("count", "train_count")]
    found, problem = [], None
    for table in tables:
        asked = table.model_copy(update={"features": [Feature(name=name) for name in wanted]})
        try:
            raw, _ = read_whole_table(asked, str(folder))
        except UserError as error:  # another table may have the columns
            problem = error
            continue
        found.append(raw.rename_columns(["item" if name == "id" else name for name in raw.column_names]))
    if problem is not None and not found:
        if not problem.what.startswith(("there is no column", "no line has the key")):
            raise problem
        # The spec, which the error would have corrected, does not name them.
        raise UserError(problem.what, where="--columns", fix="name columns of the item tables, or features")
    if not found:
        raise UserError(
            "the spec of the data set has no item tables", where="--items", fix="name a file that has 'item'"
        )
    return pa.concat_tables(found, promote_options="permissive")
