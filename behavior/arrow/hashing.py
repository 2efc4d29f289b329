"""A hash that is the same on every machine, and the split of event batches by user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from behavior.runtime.compiled import compiled


def stable_hash(ids: pa.Array) -> np.ndarray:
    """64-bit hash of ids, equal on every machine and in every run. [ids] uint64

    Text: FNV-1a; then, as for integers, the finalizer of MurmurHash3, which spreads close numbers.

    Args:
        ids: strings or integers without nulls.
    """
    if pa.types.is_integer(ids.type):
        return _mix(ids.cast(pa.int64()).to_numpy().view(np.uint64))
    text = ids.cast(pa.large_string())
    _, offsets, data = text.buffers()
    positions = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return _hash_text(content, positions)


def split_by_hash(batch: pa.RecordBatch, column: str, parts: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Split a batch by the hash of a column; rows keep their order within a part.

    Yields:
        (part, rows), parts without rows left out, in ascending order of the part.
    """
    if parts == 1:
        yield 0, batch
        return
    part_of = stable_hash(batch.column(column)) % np.uint64(parts)
    order, bounds = _group(part_of, parts)
    sorted_batch = batch.take(pa.array(order))
    for part in range(parts):
        if bounds[part + 1] > bounds[part]:
            yield part, sorted_batch.slice(bounds[part], bounds[part + 1] - bounds[part])


@compiled
def _group(part_of: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """A stable counting sort: the order of rows by part, and where each part begins."""
    bounds = np.zeros(parts + 1, np.int64)
    for part in part_of:
        bounds[part + np.uint64(1)] += 1
    for part in range(parts):
        bounds[part + 1] += bounds[part]
    fill = bounds[:-1].copy()
    order = np.empty(len(part_of), np.int64)
    for row in range(len(part_of)):
        part = part_of[row]
        order[fill[part]] = row
        fill[part] += 1
    return order, bounds


@compiled
def _mix(values: np.ndarray) -> np.ndarray:
    mixed = np.empty(len(values), np.uint64)
    for row in range(len(values)):
        mixed[row] = _mix_one(values[row])
    return mixed


@compiled
def _mix_one(value: np.uint64) -> np.uint64:
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value


@compiled
def _hash_text(content: np.ndarray, positions: np.ndarray) -> np.ndarray:
    hashed = np.empty(len(positions) - 1, np.uint64)
    for row in range(len(hashed)):
        value = np.uint64(0xCBF29CE484222325)
        for place in range(positions[row], positions[row + 1]):
            value = (value ^ np.uint64(content[place])) * np.uint64(0x100000001B3)
        hashed[row] = _mix_one(value)
    return hashed
