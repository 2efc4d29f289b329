"""Choosing what a floor leaves open, such as a decay, by its NDCG on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from models.data.loading import MemorySource, SequenceSource
from models.data.sequences import Int64Array, SequenceData
from models.evaluation.targets import evaluated_users

METRIC = "ndcg@10"
"""By which is chosen."""
MOST_USERS = 20_000
"""Users by whose validation targets is chosen, at most: each tenth, say, of more."""
MOST_EVENTS = 2_000_000
"""Events that co-occurrence is counted of for a choice, at about most; what is chosen then counts all."""

Point = dict[str, float]

FREQUENCY: dict[str, tuple[float, ...]] = {
    "decay": (1.0, 0.9995, 0.999, 0.998, 0.997, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5),
}
COOCCURRENCE: dict[str, tuple[float, ...]] = {
    "decay": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0),
    "backward": (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0),
    "popularity_power": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7),
    "window": (2, 3, 4, 6, 8, 12, 16, 24, 32, 48),
}
"""Grids, by parameter."""
START: Point = {"decay": 0.6, "backward": 0.0, "popularity_power": 0.0, "window": 12}


def climb(
    grids: Mapping[str, Sequence[float]], start: Mapping[str, float], value: Callable[[Point], float]
) -> Point:
    """The best point of a grid that steps along one parameter at a time lead to (coordinate ascent).

    From the best value of a parameter so far the search goes up and down its grid, on while it gets better
    and one step beyond; then along the next parameter, until a round changes nothing. Equal values change
    nothing.

    Args:
        grids: values of each parameter, rising or falling.
        start: where to begin; values of the grids.
        value: of a point; the higher, the better. Asked once a point.
    """
    known: dict[tuple[float, ...], float] = {}

    def of(point: Point) -> float:
        key = tuple(point[name] for name in grids)
        if key not in known:
            known[key] = value(point)
        return known[key]

    best, before = dict(start), None
    while best != before:
        before = dict(best)
        for name, grid in grids.items():
            for step in (1, -1):
                place, worse = grid.index(best[name]) + step, 0
                while 0 <= place < len(grid) and worse < 2:
                    point = best | {name: grid[place]}
                    better = of(point) > of(best)
                    best, worse = (point, 0) if better else (best, worse + 1)
                    place += step
    return best


def scan(grids: Mapping[str, Sequence[float]], value: Callable[[Point], float]) -> Point:
    """The best value of a grid of one parameter; the first of equals."""
    ((name, grid),) = grids.items()
    return {name: max(grid, key=lambda number: value({name: number}))}


def some_validated(source: SequenceSource) -> tuple[MemorySource | None, int]:
    """Sequences of at most about `MOST_USERS` users with a validation target, evenly spread.

    Returns:
        The sequences, None where nobody is validated; and how many users they validate.
    """
    validated = sum(evaluated_users(part, "valid") for part in source)
    every = -(-validated // MOST_USERS)
    if not validated:
        return None, 0
    parts = [_every(part, every) for part in source]
    chosen = MemorySource([part for part in parts if part.num_sequences])
    return chosen, sum(evaluated_users(part, "valid") for part in chosen)


def _every(data: SequenceData, step: int) -> SequenceData:
    """The sequences whose number is a multiple of `step`."""
    return data if step == 1 else take_sequences(data, np.flatnonzero(data.row % step == 0))


def take_sequences(data: SequenceData, numbers: Int64Array) -> SequenceData:
    """Some of the sequences, in that order."""
    lengths = data.lengths[numbers]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    event = np.arange(offsets[-1]) + np.repeat(data.offsets[numbers] - offsets[:-1], lengths)
    return SequenceData(
        events={name: column[event] for name, column in data.events.items()},
        offsets=offsets,
        train_end=data.train_end[numbers],
        valid_end=data.valid_end[numbers],
        row=data.row[numbers],
        about=data.about,
        columns=data.columns,
    )
