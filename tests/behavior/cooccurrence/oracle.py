"""Co-occurrence in plain Python, from its definition: exact fractions, one pair after the other."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

Table = dict[tuple[int, int], float]


def fold_by_hand(row: int, folds: int) -> int:
    return (row * 2654435761 % 2**32 // 2**16) % folds


def count_by_hand(
    histories: Sequence[Sequence[tuple[int, int]]],
    *,
    window: int = 12,
    backward: Fraction = Fraction(0),
    source: Sequence[Fraction] = (Fraction(1),) * 9,
    follower: Sequence[Fraction] = (Fraction(1),) * 9,
    repeats: bool = True,
    neighbors: int | None = None,
    popularity_power: float = 0.0,
    stochastic: bool = False,
) -> Table:
    """Counts by (item, follower).

    Args:
        histories: of each user, (item or -1, behavior id) of each event.
        source, follower: weights by behavior id.
    """
    counts: dict[tuple[int, int], Fraction] = {}
    popularity: dict[int, int] = {}
    for history in histories:
        for early, (item, behavior) in enumerate(history):
            popularity[item] = popularity.get(item, 0) + 1
            for late in range(early + 1, min(early + window, len(history))):
                other, kind = history[late]
                if item < 0 or other < 0 or (item == other and not repeats):
                    continue
                share = Fraction(1, late - early)
                for pair, weight in (
                    ((item, other), source[behavior] * follower[kind] * share),
                    ((other, item), source[kind] * follower[behavior] * share * backward),
                ):
                    counts[pair] = counts.get(pair, Fraction(0)) + weight
    table = {}
    for item in {pair[0] for pair in counts}:
        row = {
            other: float(count) / popularity[other] ** popularity_power
            for (one, other), count in counts.items()
            if one == item and count
        }
        kept = sorted(row, key=lambda other: (-row[other], other))[:neighbors]
        total = sum(row[other] for other in kept) if stochastic else 1.0
        table |= {(item, other): row[other] / total for other in kept}
    return table
