"""Synthetic logs: how fast they are made, and how much there is to learn from them.

    python benchmarks/synthetic.py                       both tables
    python benchmarks/synthetic.py --events 1000000      speed at one size only

Baselines are fitted on the training part of each user (all before the validation target), see the history
up to the test target, and rank every item as the ceilings do.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from behavior.synthetic import SyntheticConfig, SyntheticLog, ceilings, generate
from behavior.synthetic.ceilings import target_events

Scorer = Callable[[np.ndarray], np.ndarray]  # history of item indices, oldest first -> scores [items]


def machine() -> str:
    """Processor, cores and versions in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


def speed(sizes: list[int]) -> None:
    """Seconds to generate logs of about the given numbers of events, compilation left out."""
    generate(SyntheticConfig(users=10))
    print(f"{'events':>12} {'users':>9} {'items':>8} {'seconds':>8} {'events/s':>12}")
    for size in sizes:
        config = SyntheticConfig(users=size // 50, items=10_000, interests=100, personas=100)
        start = time.perf_counter()
        log = generate(config)
        seconds = time.perf_counter() - start
        events = log.events.num_rows
        row = (
            f"{events:>12,} {config.users:>9,} {config.items:>8,} {seconds:>8.2f} {events / seconds:>12,.0f}"
        )
        print(row)


def training_parts(log: SyntheticLog) -> list[np.ndarray]:
    """Item indices before the validation target of each user; all of them where a user only trains."""
    trace, targets = log.trace, target_events(log)
    last = len(log.config.behaviors) - 1
    parts = []
    for user, target in enumerate(targets):
        begin, end = trace.offsets[user], trace.offsets[user + 1]
        if target >= 0:
            end = begin + np.flatnonzero(trace.behavior[begin:target] == last)[-1]
        parts.append(trace.item[begin:end])
    return parts


def popularity(log: SyntheticLog, parts: list[np.ndarray]) -> Scorer:
    """The most frequent items."""
    counts = np.bincount(np.concatenate(parts), minlength=log.config.items).astype(float)
    return lambda history: counts


def markov(log: SyntheticLog, parts: list[np.ndarray], after: int = 1) -> Scorer:
    """What followed the last item within `after` events; popularity where that ties."""
    size = log.config.items
    lags = range(1, after + 1)
    pairs = [(part[:-lag], part[lag:], lag) for part in parts for lag in lags if len(part) > lag]
    rows, columns = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    weights = np.concatenate([np.full(len(pair[0]), 1.0 / pair[2]) for pair in pairs])
    counts = sp.csr_array((weights, (rows, columns)), shape=(size, size)).toarray()
    popular = np.bincount(columns, minlength=size) / (1.0 + len(columns)) / after
    return lambda history: counts[history[-1]] + popular


def neighbors(log: SyntheticLog, parts: list[np.ndarray], window: int = 8) -> Scorer:
    """Item-kNN: items that occur near the last `window` items, newer ones weighing more."""
    size, near = log.config.items, 5
    counts = sp.csr_array((size, size))
    for lag in range(1, near + 1):
        pairs = [(part[:-lag], part[lag:]) for part in parts if len(part) > lag]
        rows, columns = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        counts = counts + sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    dense = (counts + counts.T).toarray()
    total = np.maximum(dense.sum(axis=1), 1.0)
    # P(neighbor | item), damped for neighbors that are near everything.
    similar = dense / total[:, None] / np.sqrt(total)[None, :]

    def score(history: np.ndarray) -> np.ndarray:
        recent = history[-window:][::-1]
        return (similar[recent] * (0.8 ** np.arange(len(recent)))[:, None]).sum(axis=0)

    return score


def evaluate(log: SyntheticLog, scorer: Scorer) -> tuple[float, float]:
    """NDCG@10 and HR@10 under the protocol of `behavior.synthetic.ceilings`."""
    trace, targets = log.trace, target_events(log)
    candidates = np.bincount(trace.item, minlength=log.config.items) > 0
    gains = []
    for user in np.flatnonzero(targets >= 0):
        scores = scorer(trace.item[trace.offsets[user] : targets[user]])
        rank = np.count_nonzero(scores[candidates] >= scores[trace.item[targets[user]]])
        gains.append((1 / np.log2(1 + rank), 1.0) if rank <= 10 else (0.0, 0.0))
    ndcg, hits = np.mean(gains, axis=0)
    return float(ndcg), float(hits)


def quality(config: SyntheticConfig) -> None:
    """Baselines and ceilings of a configuration."""
    log = generate(config)
    parts = training_parts(log)
    rows = {
        "popularity": evaluate(log, popularity(log, parts)),
        "Markov chain, first order": evaluate(log, markov(log, parts)),
        "Markov chain, within 5 events": evaluate(log, markov(log, parts, after=5)),
        "item-kNN on the last 8 events": evaluate(log, neighbors(log, parts)),
    }
    best = ceilings(log)
    users = best["users"]
    for name, value in reversed(best.items()):
        if isinstance(value, dict):
            rows[f"ceiling: {name}"] = (value["ndcg@10"], value["hr@10"])
    events = log.events.num_rows
    print(f"{events:,} events, {users:,} evaluated users, {config.items:,} items, seed {config.seed}")
    print(f"{'ranker':<36} {'NDCG@10':>8} {'HR@10':>8}")
    for name, (ndcg, hits) in rows.items():
        print(f"{name:<36} {ndcg:>8.4f} {hits:>8.4f}")


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--events", type=int, nargs="+", help="time these sizes and skip the second table")
    parser.add_argument("--seed", type=int, default=0, help="seed of the second table")
    options = parser.parse_args()
    print(machine())
    speed(options.events or [1_000_000, 5_000_000])
    if not options.events:
        print()
        quality(SyntheticConfig(seed=options.seed))


if __name__ == "__main__":
    main()
