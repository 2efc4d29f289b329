"""What a data set must say, worked out the slow and obvious way, one event at a time, in plain Python.

The spec is read for its settings; nothing else of the library is used.
"""

from __future__ import annotations

import bisect
import itertools
import math
import struct
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

Event = dict[str, Any]
"""user, item, behavior (a name), timestamp, domain (a name), value, and raw features by name."""
Rows = dict[tuple[str | None, str], dict[str, Any]]
"""(domain or None, id) -> features of an item or user."""
TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000}


def float32(number: float) -> float:
    return struct.unpack("f", struct.pack("f", number))[0]


def hash_of(text: str) -> int:
    """FNV-1a, then the finalizer of MurmurHash3."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor % 2**64
    return value ^ value >> 33


def by_hand(spec: Any, log: list[Event], items: Rows | None = None, users: Rows | None = None) -> dict:
    """What `content` must find for a log without bad rows: sequences, items, users and counts.

    Args:
        spec: the spec.
        log: its events, in the order of the input.
        items, users: what the tables say of items and users.
    """
    sequences = _sequences(spec, log)
    split = {user: _split(spec, events) for user, events in sequences.items()}
    every = [(event, place < split[u][0]) for u, own in sequences.items() for place, event in enumerate(own)]
    counts = Counter(_item_key(spec, event) for event, _ in every)
    trained = Counter(_item_key(spec, event) for event, in_train in every if in_train)
    known = _known_items(spec, counts, trained)
    item_rows = {key: {"count": counts[key], "train_count": trained[key]} for key in known}
    user_rows = {u: {"count": len(own), "train_count": split[u][0]} for u, own in sequences.items()}
    _add_features(spec.item_features, item_rows, items or {})
    _add_features(spec.user_features, user_rows, users or {})
    columns = {f.name: _encoded(f, every) for f in spec.event_features}
    number, result = 0, {}
    for user, own in sequences.items():
        shown = []
        for place in range(len(own)):
            features = {name: values[number] for name, values in columns.items()}
            shown.append(_shown(spec, own, place, item_rows) | features)
            number += 1
        result[user] = (shown, *split[user])
    return {
        "sequences": result,
        "items": item_rows,
        "users": user_rows,
        "counts": {
            "read": len(log), "accepted": number, "rejected": 0, "filtered": len(log) - number,
            "events": number, "users": len(result), "items": len(known),
        },
    }  # fmt: skip


def rounded(found: Any) -> Any:
    """A content that can be compared: means are sums, whose last bits depend on the order."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(rounded(value) for value in found)
    if isinstance(found, float):
        return "missing" if math.isnan(found) else round(found, 3)
    return found


def _ticks(spec: Any, instant: int | str) -> int:
    if isinstance(instant, int):
        return instant
    moment = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    return int(moment.timestamp()) * TICKS[spec.stored_unit]


def _user_key(spec: Any, event: Event) -> tuple[str | None, str]:
    return (event["domain"] if spec.domain_ids.users == "separate" else None, event["user"])


def _item_key(spec: Any, event: Event) -> tuple[str | None, Any]:
    if spec.vocabulary.hash_size is not None:
        return (None, hash_of(event["item"]) % spec.vocabulary.hash_size)
    return (event["domain"] if spec.domain_ids.items == "separate" else None, event["item"])


def _kept_of(spec: Any, event: Event) -> Event:
    """What a spec reads of an event."""
    names = ["user", "item", "behavior", *(feature.name for feature in spec.event_features)]
    names += ["timestamp"] if spec.has_time else []
    names += ["domain"] if spec.domain_names else []
    return {name: event.get(name) for name in names}


def _sequences(spec: Any, log: list[Event]) -> dict[tuple, list[Event]]:
    """Users in the order of their keys, after all filters."""
    rules = spec.filters
    left = list(log)
    if rules.behaviors is not None:
        left = [event for event in left if event["behavior"] in rules.behaviors]
    if rules.start is not None:
        left = [event for event in left if event["timestamp"] >= _ticks(spec, rules.start)]
    if rules.end is not None:
        left = [event for event in left if event["timestamp"] < _ticks(spec, rules.end)]
    users: dict[tuple, list[Event]] = defaultdict(list)
    for event in left:
        users[_user_key(spec, event)].append(event)
    for user, own in users.items():
        if spec.has_time:
            own = sorted(own, key=lambda event: event["timestamp"])
        if rules.duplicates:
            kept = [_kept_of(spec, event) for event in own]
            own = [event for place, event in enumerate(own) if kept[place] not in kept[:place]]
        if rules.repeats:
            keys = [_item_key(spec, event) for event in own]
            own = [event for n, event in enumerate(own) if n == 0 or keys[n] != keys[n - 1]]
        users[user] = own
    of_user, of_item = (max(rules.k_core or 1, n) for n in (rules.min_user_events, rules.min_item_events))
    while True:
        counts = Counter(_item_key(spec, event) for own in users.values() for event in own)
        left = {u: [e for e in own if counts[_item_key(spec, e)] >= of_item] for u, own in users.items()}
        left = {user: own for user, own in left.items() if len(own) >= of_user}
        if left == users:
            break
        users = left
    if spec.max_events is not None:
        users = {user: own[-spec.max_events :] for user, own in users.items()}
    return dict(sorted(users.items()))


def _split(spec: Any, own: list[Event]) -> tuple[int, int]:
    """train_end and valid_end."""
    cut = spec.split
    if cut.kind == "temporal":
        instants = (_ticks(spec, cut.valid_at), _ticks(spec, cut.test_at))
        return tuple(sum(event["timestamp"] < at for event in own) for at in instants)
    targets = [n for n, event in enumerate(own) if event["behavior"] in spec.target_names]
    if cut.kind == "next_basket":
        times = sorted({own[n]["timestamp"] for n in targets})
        targets = [min(n for n, event in enumerate(own) if event["timestamp"] == time) for time in times]
    if len(own) < 3 or len(targets) < 2:
        return len(own), len(own)
    return targets[-2], targets[-1]


def _order_of(values: Any, counts: Counter) -> list:
    """By falling count, ties by value, as numbers where all are whole numbers."""
    numbers = all(isinstance(value, int) or value.lstrip("-").isdigit() for value in values)
    return sorted(values, key=lambda value: (-counts[value], int(value) if numbers else value))


def _known_items(spec: Any, counts: Counter, trained: Counter) -> list[tuple]:
    """Keys of the known items, in the order of their indices."""
    rules = spec.vocabulary
    by = trained if rules.fit_on == "train" else counts
    known = [key for key in counts if by[key] >= rules.min_count]
    if rules.max_size is not None:
        # Without domains only: with them, ties between domains are nobody's business.
        assert {domain for domain, _ in known} == {None}
        ids = _order_of([key for _, key in known], Counter({key: by[None, key] for _, key in known}))
        known = [(None, key) for key in ids[: rules.max_size]]
    result = []
    for domain in [None, *spec.domain_names]:
        own = [key for name, key in known if name == domain]
        ordered = _order_of(own, Counter({key: by[domain, key] for key in own}))
        result += [(domain, key) for key in ordered]
    return result


def _shown(spec: Any, own: list[Event], place: int, known: Rows) -> Event:
    """What the sequences hold of an event, but for its features."""
    event = own[place]
    key = _item_key(spec, event)
    item = key if spec.domain_ids.items == "separate" else key[1]
    shown = {
        "item": item if key in known else "(oov)",
        "behavior": spec.behavior_names.index(event["behavior"]) + 1,
    }
    if spec.has_time:
        shown["timestamp"] = event["timestamp"]
    if spec.domain_names:
        shown["domain"] = spec.domain_names.index(event["domain"]) + 1
    if spec.sessions is not None:
        gap = spec.sessions.gap * TICKS[spec.stored_unit]
        times = [event["timestamp"] for event in own[: place + 1]]
        shown["session"] = sum(b - a > gap for a, b in itertools.pairwise(times))
    return shown


def _known_values(feature: Any, values: list) -> set:
    counts = Counter(value for value in values if value is not None)
    known = [value for value in counts if counts[value] >= feature.min_count]
    if feature.per_domain:
        assert feature.max_size is None
        return set(known)
    return set(_order_of(known, counts)[: feature.max_size])


def _fits(feature: Any, values: list[float | None], weights: list[int]) -> tuple[Any, list]:
    """The numbers that count, each as often as its weight, and all as float32."""
    numbers = [None if value is None else float32(float(value)) for value in values]
    pairs = zip(numbers, weights, strict=True)
    return sorted(n for n, weight in pairs if n is not None for _ in range(weight)), numbers


def _numeric(feature: Any, values: list[float | None], weights: list[int]) -> list:
    used, numbers = _fits(feature, values, weights)
    if feature.transform == "buckets":
        edges = [float32(edge) for edge in feature.boundaries or []]
        if feature.quantiles is not None:
            edges = sorted({used[len(used) * k // feature.quantiles] for k in range(1, feature.quantiles)})
        return [1 if n is None else 2 + bisect.bisect_right(edges, n) for n in numbers]
    mean = deviation = 0.0
    if feature.transform == "standardize":
        mean = sum(used) / len(used)
        deviation = math.sqrt(sum((n - mean) ** 2 for n in used) / len(used))
    encode = {
        "none": lambda n: n,
        "log": lambda n: math.copysign(math.log1p(abs(n)), n),
        "standardize": lambda n: (n - mean) / deviation,
    }[feature.transform]
    return ["missing" if n is None else encode(n) for n in numbers]


def _encoded(feature: Any, every: list[tuple[Event, bool]]) -> list:
    """What `content` shows of an event feature, event by event."""
    values = [event.get(feature.name) for event, _ in every]
    if feature.kind == "numeric":
        return _numeric(feature, values, [int(in_train) for _, in_train in every])
    if feature.kind == "hashed":
        return [1 if value is None else 2 + hash_of(value) % feature.hash_size for value in values]
    if feature.per_domain:
        domains = [event["domain"] for event, _ in every]
        values = [None if v is None else (d, v) for d, v in zip(domains, values, strict=True)]
    known = _known_values(feature, values)
    return [value if value is None or value in known else "(oov)" for value in values]


def _add_features(features: list, rows: dict[tuple, dict], table: Rows) -> None:
    """Put into rows what a table says of them, as `content` shows it."""
    for feature in features:
        values = [table.get(key, {}).get(feature.name) for key in rows]
        if feature.kind == "numeric":
            shown = _numeric(feature, values, [row["train_count"] for row in rows.values()])
        else:
            several = feature.kind == "multi_categorical"
            lists = [(value or []) if several else [value] for value in values]
            if feature.per_domain:
                lists = [[v and (key[0], v) for v in own] for key, own in zip(rows, lists, strict=True)]
            known = _known_values(feature, [value for own in lists for value in own])
            lists = [[v if v is None or v in known else "(oov)" for v in own] for own in lists]
            shown = [sorted(own, key=str) if several else own[0] for own in lists]
        for row, value in zip(rows.values(), shown, strict=True):
            row[feature.name] = value
