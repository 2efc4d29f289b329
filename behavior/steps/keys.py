"""Keys: what tells users and items apart while a data set is prepared.

Mostly the raw id. Where the ids of domains are separate (`domain_ids`), item 7 of the first domain and item 7
of the second are two items: their keys are text, `1<US>7` and `2<US>7`, with the unit separator (U+001F)
between the domain's number and the id. Hashed items (`vocabulary.hash_size`) have their hash for a key.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.hashing import stable_hash
from behavior.features.columns import DOMAIN_MARK
from behavior.sources.chunks import Plan
from behavior.spec.dataset_spec import DatasetSpec


def separate(spec: DatasetSpec, role: str) -> bool:
    """Whether the ids of domains are separate; `role` is user or item."""
    return (spec.domain_ids.users if role == "user" else spec.domain_ids.items) == "separate"


def key_type(spec: DatasetSpec, plan: Plan, role: str) -> pa.DataType:
    """Type of the keys of users or items: string or int64."""
    if role == "item" and spec.vocabulary.hash_size is not None:
        return pa.int64()
    raw = plan.user_type if role == "user" else plan.item_type
    return pa.int64() if raw == "integer" and not separate(spec, role) else pa.string()


def as_key(ids: pa.Array, domains: pa.Array | None, spec: DatasetSpec, role: str) -> pa.Array:
    """Keys of raw ids.

    Args:
        ids: strings or integers; null where the row is bad.
        domains: number of each row's domain, for separate ids. int8
        spec: the dataset spec.
        role: user or item.
    """
    if role == "item" and spec.vocabulary.hash_size is not None:
        filled = pc.fill_null(ids, "" if pa.types.is_string(ids.type) else 0)
        return pa.array((stable_hash(filled) % np.uint64(spec.vocabulary.hash_size)).astype(np.int64))
    if not separate(spec, role):
        return ids
    assert domains is not None
    return join_keys(domains, ids)


def split_keys(keys: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Number of the domain (int8) and raw id (string) of keys of separate ids."""
    if not len(keys):
        return pa.array([], pa.int8()), pa.array([], pa.string())
    parts = pc.split_pattern(keys, DOMAIN_MARK, max_splits=1)
    return pc.list_element(parts, 0).cast(pa.int8()), pc.list_element(parts, 1)


def join_keys(domains: pa.Array, ids: pa.Array) -> pa.Array:
    """The inverse of `split_keys`."""
    return pc.binary_join_element_wise(domains.cast(pa.string()), ids.cast(pa.string()), DOMAIN_MARK)
