"""The digest of a spec: whether two data sets were prepared in the same way."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ADDED: dict[str, Any] = {"timestamp_format": None}
"""Fields that digests of older data sets do not know, with the defaults at which nothing changes."""


def digest_of(record: dict[str, Any]) -> str:
    """SHA-256 of a dumped spec. A field that was added later does not count while it has its default."""
    text = json.dumps(_without_added(record), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_added(record: Any) -> Any:
    if isinstance(record, list):
        return [_without_added(entry) for entry in record]
    if not isinstance(record, dict):
        return record
    kept = {key: value for key, value in record.items() if key not in _ADDED or value != _ADDED[key]}
    return {key: _without_added(value) for key, value in kept.items()}
