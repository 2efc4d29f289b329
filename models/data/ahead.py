"""The loops that make batches and find targets, compiled for what nearly every training gives them."""

from __future__ import annotations

from typing import Any

from numba import float64, int8, int32, int64, types, uint64

from behavior.packing.kernels import least_loaded
from behavior.sampling.kernels import choose_inputs, fill_units
from behavior.steps.repeats import latest_earlier
from models.data.origins import _copy_next, _copy_own, _count_up, _first_events

LOOPS: tuple[Any, ...] = (
    fill_units,
    choose_inputs,
    least_loaded,
    _first_events,
    _count_up,
    _copy_own,
    _copy_next,
    latest_earlier,
)


def compile_loading() -> None:
    """Compile `LOOPS`."""
    for function, kinds in signatures():
        function.compile(kinds)


def signatures() -> list[tuple[Any, tuple[Any, ...]]]:
    """`LOOPS`, with what they are given for items, behaviors and times as they are stored."""
    units, inputs, packs, first, count, own, following, latest = LOOPS
    whole = int64[::1]
    found = [
        (units, (whole, whole, whole, whole, int64, int64, int64, uint64, int64)),
        (inputs, (whole, whole, whole, whole, whole, int64, int64, uint64, int64)),
        (packs, (int32[::1], float64[::1], float64, float64[::1], int32[::1])),
        (first, (whole, whole)),
        (count, (whole, whole, whole)),
        (latest, (_stored(int32), whole, whole, int32[::1], int64)),
    ]
    for values in (int8[::1], _stored(int32), _stored(int64)):
        least = int64 if values.dtype == int32 else types.Omitted(None)
        found.append((own, (whole, values, whole, whole, whole)))
        found.append((following, (whole, values, whole, whole, whole, whole, least)))
    return found


def _stored(kind: Any) -> Any:
    """A column as it is read: it may not be written to."""
    return types.Array(kind, 1, "C", readonly=True)
