"""Metrics of predictions from their formulas, one pair of rows after the other."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence


def auc(scores: Sequence[float], labels: Sequence[float]) -> float | None:
    """Pairs of a positive and a negative row of which the positive one scores higher; ties count half."""
    positives = [score for score, label in zip(scores, labels, strict=True) if label == 1]
    negatives = [score for score, label in zip(scores, labels, strict=True) if label == 0]
    if not positives or not negatives:
        return None
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def user_aucs(
    users: Sequence[int], scores: Sequence[float], labels: Sequence[float]
) -> dict[int, tuple[int, float | None]]:
    """user -> rows and AUC."""
    own: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for user, score, label in zip(users, scores, labels, strict=True):
        own[user].append((score, label))
    return {user: (len(rows), auc(*zip(*rows, strict=True))) for user, rows in own.items()}


def gauc(users: Sequence[int], scores: Sequence[float], labels: Sequence[float]) -> float:
    found = [(rows, area) for rows, area in user_aucs(users, scores, labels).values() if area is not None]
    return sum(rows * area for rows, area in found) / sum(rows for rows, _ in found)


def probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def log_loss(logits: Sequence[float], labels: Sequence[float], clip: float = 1e-7) -> float:
    total = 0.0
    for logit, label in zip(logits, labels, strict=True):
        p = min(max(probability(logit), clip), 1.0 - clip)
        total -= math.log(p) if label == 1 else math.log(1.0 - p)
    return total / len(labels)


def normalized_entropy(logits: Sequence[float], labels: Sequence[float]) -> float:
    rate = sum(labels) / len(labels)
    return log_loss(logits, labels) / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def calibration_error(logits: Sequence[float], labels: Sequence[float], buckets: int) -> float:
    own: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for logit, label in zip(logits, labels, strict=True):
        p = probability(logit)
        own[min(int(p * buckets), buckets - 1)].append((p, label))
    gaps = 0.0
    for rows in own.values():
        mean, rate = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        gaps += len(rows) / len(labels) * abs(mean - rate)
    return gaps
