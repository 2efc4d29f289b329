"""Keys of JSON objects within objects: `attributes.Price Range`.

A key that has a dot itself is found too, and comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_DEPTH = 4


def look_up(record: Mapping[str, Any], name: str) -> Any:
    """The value of a key, or of a path of keys with dots between; None where there is none."""
    value = record.get(name)
    if value is not None or "." not in name:
        return value
    inner: Any = record
    for key in name.split("."):
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner


def keys_in(record: Mapping[str, Any], depth: int = _DEPTH) -> Iterator[str]:
    """All keys of a record, and paths into the objects in it."""
    for key, value in record.items():
        yield key
        if isinstance(value, dict) and depth > 1:
            yield from (f"{key}.{inner}" for inner in keys_in(value, depth - 1))


def leaves_in(record: Mapping[str, Any], depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """The values of a record, those of the objects in it by their paths; what lies deeper as it is."""
    for key, value in record.items():
        if isinstance(value, dict) and value and depth > 1:
            yield from ((f"{key}.{inner}", leaf) for inner, leaf in leaves_in(value, depth - 1))
        else:
            yield key, value


def nested_schema(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """A schema in which each name is a field, and one with dots also a field within fields."""
    tree: dict[str, Any] = {}
    for name, kind in types.items():
        tree.setdefault(name, kind)
    for name, kind in types.items():
        *path, last = name.split(".")
        inner = tree
        for key in path:
            below = inner.setdefault(key, {})
            if not isinstance(below, dict):
                break  # read whole as well: only one of the two can be in a schema
            inner = below
        else:
            if path:
                inner.setdefault(last, kind)
    return pa.schema(_fields(tree))


def _fields(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [
        pa.field(name, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind)
        for name, kind in tree.items()
    ]


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The column of a name in a table read by `nested_schema`."""
    flat = table.column(name)
    if "." not in name:
        return flat
    inner = table.column(name.split(".")[0])
    for key in name.split(".")[1:]:
        if not pa.types.is_struct(inner.type):
            return flat
        inner = pc.struct_field(inner, key)
    return pc.coalesce(flat, inner)
