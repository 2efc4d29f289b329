"""Compiling ahead: what preparing a data set calls is compiled, or loaded, before anything waits for it.

A few made-up events of the spec's form take the way of a partition. So what is compiled is what is called.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.arrow.hashing import split_by_hash
from behavior.flow.partitions import count_sequences, sort_partition
from behavior.flow.preparation import Preparation
from behavior.flow.totals import fit_items
from behavior.shards.storage import Folder
from behavior.sources.chunks import Plan
from behavior.sources.rows import quoted_rows
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.events import event_schema
from behavior.steps.keys import as_key
from behavior.steps.partition import finish_sequences

_EVENTS = 40
_MOST_COMMON = {
    "name": "ahead",
    "events": {
        "files": "none.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "timestamp"},
        "behavior": {"constant": "view"},
    },
    "timestamp_unit": "s",
    "behaviors": ["view"],
    "targets": ["view"],
    "split": {"kind": "leave_one_out"},
}
_FORMS: list[dict[str, Any]] = [
    {},
    {"split": {"kind": "next_basket"}},
    {"split": {"kind": "temporal", "valid_at": 5, "test_at": 9}},
    {"split": {"kind": "random"}},
    {"filters": {"k_core": 2, "duplicates": True, "repeats": True}, "max_events": 9},
    {"sessions": {"gap": 3}},
    {"domains": ["a", "b"], "domain_ids": {"users": "separate", "items": "separate"}},
]


def compile_common() -> None:
    """Compile what nearly every data set needs: for a process that does not know the spec yet."""
    plan = Plan([], [], 0, "integer", "integer", "")
    compile_ahead(Preparation(DatasetSpec.model_validate(_MOST_COMMON), ".", plan, Folder(os.devnull), 1))


def compile_forms() -> None:
    """Compile what data sets of any form need: kinds of ids, domains, splits, filters."""
    for changes in _FORMS:
        spec = DatasetSpec.model_validate({**_MOST_COMMON, **changes})
        for kind in ("integer", "string"):
            plan = Plan([], [], 0, kind, kind, "")
            compile_ahead(Preparation(spec, ".", plan, Folder(os.devnull), 2))
    quoted_rows(b'a,"b"\n', b",", b'"', last=True)


def compile_ahead(preparation: Preparation) -> None:
    """Compile what a data set needs after it is read. What goes wrong is left to the work itself."""
    with suppress(Exception):
        spec = preparation.spec
        alone = Preparation(spec, ".", preparation.plan, Folder(os.devnull), 1)
        events = _events(spec, preparation.plan)
        if preparation.partitions > 1:
            list(split_by_hash(events, "user", 2))
        sequences = sort_partition(alone, 0, [events])
        core = None
        if spec.filters.minimum_counts != (1, 1):
            core = pa.array(events.column("item").unique())
        counted = count_sequences(alone, 0, sequences, core)
        items, encoders = fit_items(alone, counted.items, [counted.features])
        finish_sequences(counted.cut, items, spec, encoders)


def _events(spec: DatasetSpec, plan: Plan) -> pa.RecordBatch:
    """Events of two users in no order, some of them copies."""
    numbers, ones = np.arange(_EVENTS) * 7 % 20, np.ones(_EVENTS, np.int8)
    given: dict[str, np.ndarray] = {"behavior": ones, "domain": ones}
    given |= {"user": numbers % 2, "timestamp": np.arange(_EVENTS)[::-1] // 2}
    raw = {"integer": pa.int64(), "string": pa.string()}
    types = {"user": raw[plan.user_type], "item": raw[plan.item_type]}
    schema = event_schema(spec, plan)
    columns: dict[str, pa.Array] = {}
    for field in schema:
        kind = types.get(field.name, field.type)
        columns[field.name] = _filled(given.get(field.name, numbers), kind)
    for role in types:
        columns[role] = as_key(columns[role], columns.get("domain"), spec, role)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)


def _filled(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = pa.array(np.arange(len(values) + 1), pa.int32())
        return pa.ListArray.from_arrays(offsets, _filled(values, kind.value_type)).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(values > 9)
    return pa.array(values).cast(pa.string()).cast(kind)
