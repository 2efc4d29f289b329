"""Changes of Parquet files: columns, types, values, rows, and bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

TYPES = [
    *(pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.binary()),
    *(pa.bool_(), pa.timestamp("ns"), pa.decimal128(38, 0), pa.null(), pa.list_(pa.int64())),
    *(pa.list_(pa.string()), pa.list_(pa.list_(pa.int32())), pa.struct([("a", pa.int64())])),
    pa.map_(pa.string(), pa.int64()),
]
NUMBERS = [-1, 0, 1, 127, 128, 2**31 - 1, 2**31, 2**32 + 5, 2**62, 2**63 - 1, -(2**63)]
Edit = Callable[[pa.Table, Random], tuple[pa.Table, str]]


def _column(table: pa.Table, rng: Random) -> int:
    return rng.randrange(table.num_columns)


def _drop(table: pa.Table, rng: Random) -> tuple[pa.Table, str]:
    place = _column(table, rng)
    return table.remove_column(place), f"no column {table.column_names[place]}"


def _twice(table: pa.Table, rng: Random) -> tuple[pa.Table, str]:
    place = _column(table, rng)
    name = table.column_names[place]
    return table.append_column(name, table.column(place)), f"column {name} twice"


def _rename(table: pa.Table, rng: Random) -> tuple[pa.Table, str]:
    names = list(table.column_names)
    place = _column(table, rng)
    names[place] += "x"
    return table.rename_columns(names), f"column {names[place]} renamed"


def _retype(table: pa.Table, rng: Random) -> tuple[pa.Table, str]:
    place, kind = _column(table, rng), rng.choice(TYPES)
    name, column = table.column_names[place], table.column(place)
    try:
        other = column.cast(kind, safe=False)
    except (pa.ArrowException, ValueError):
        other = pa.nulls(table.num_rows, kind)
    return table.set_column(place, name, other), f"{name} as {kind}"


def _value(table: pa.Table, rng: Random) -> tuple[pa.Table, str]:
    """One value, or one in a list, is another."""
    place, row, number = _column(table, rng), rng.randrange(table.num_rows), rng.choice([None, *NUMBERS])
    name, column = table.column_names[place], table.column(place)
    values = column.to_pylist()
    if isinstance(values[row], list) and values[row] and rng.random() < 0.8:
        values[row] = list(values[row])
        values[row][rng.randrange(len(values[row]))] = number
    elif isinstance(values[row], list):
        values[row] = rng.choice([None, [], values[row] * 2, values[row][1:]])
    else:
        values[row] = number
    try:
        other = pa.array(values, column.type)
    except (pa.ArrowException, OverflowError, TypeError):
        values[row] = None
        other = pa.array(values, column.type)
    return table.set_column(place, name, other), f"{name}[{row}] = {str(values[row])[:60]}"


def _rows(table: pa.Table, rng: Random) -> tuple[pa.Table, str]:
    order = list(range(table.num_rows))
    kind = rng.choice(["none", "fewer", "more", "reversed", "shuffled", "one"])
    if kind == "shuffled":
        rng.shuffle(order)
    order = {
        "none": [],
        "fewer": order[:-1],
        "more": [*order, 0],
        "reversed": order[::-1],
        "one": order[:1],
        "shuffled": order,
    }[kind]
    return table.take(pa.array(order, pa.int64())), f"rows: {kind}"


EDITS: list[Edit] = [_drop, _twice, _rename, _retype, _retype, _value, _value, _value, _rows]


def change_parquet(path: Path, rng: Random) -> str:
    """Change a file in place; in words."""
    if rng.random() < 0.15:
        return f"{path.name}: {change_bytes(path, rng)}"
    table, words = rng.choice(EDITS)(pq.read_table(path, partitioning=None), rng)
    pq.write_table(table, path, row_group_size=rng.choice([7, 1_000_000]))
    return f"{path.name}: {words}"


def change_bytes(path: Path, rng: Random) -> str:
    """Cut a file off, or change bytes of it; in words."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["empty", "cut", "flipped", "flipped at the end", "zeros"])
    if kind == "empty":
        content = bytearray()
    elif kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "zeros":
        content = bytearray(len(content))
    else:
        first = 0 if kind == "flipped" else max(0, len(content) - 2000)
        for _ in range(rng.choice([1, 8])):
            content[rng.randrange(first, len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    return f"bytes: {kind}"
