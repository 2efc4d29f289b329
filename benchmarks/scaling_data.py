"""Generated data sets for scaling laws: planted predictability at equal tokens, one process in three sizes.

    PYTHONPATH=. python benchmarks/scaling_data.py sizes predictability --out data

`predictability` makes four data sets of a million events, `noise-0`, `noise-30`, `noise-60`, `noise-90`, by
how many per cent of the events are drawn from the popularity of items alone; all else is the same. `sizes`
makes one of 16 million, `generated`: a sixteenth and a quarter of its users (`data.fraction`) are the smaller
sizes. In either, the targets of validation and test are those of 5,000 users (behavior `held`), so that they
are the same whatever the size; all others only train. `--facts FILE` writes down what the best possible
ranker, which knows the process and the history, reaches on these validation targets, its loss in nats among
it, and the data quality of the training part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import behavior
from behavior.quality import measure_quality
from behavior.spec import DatasetSpec
from behavior.synthetic import SyntheticConfig, SyntheticLog, generate, predictive

HELD = 5_000
NOISES = (0.0, 0.3, 0.6, 0.9)


def world(users: int, noise: float) -> SyntheticConfig:
    """Users of two hundred personas, each moving among six of a hundred interests, in 5,000 items."""
    return SyntheticConfig(
        users=users,
        items=5_000,
        interests=100,
        personas=200,
        interests_per_persona=6,
        mean_events=100,
        max_events=200,
        noise=noise,
        follow=0.05,
        behaviors=("view",),
        behavior_shares=(1.0,),
    )


def prepare(log: SyntheticLog, name: str, out: Path) -> None:
    """Shards of a log in which some users are held for validation and test, and all others only train."""
    raw = out.with_name(f"{out.name}-raw")
    raw.mkdir(parents=True)
    trace = log.trace
    user = np.repeat(np.arange(log.config.users, dtype=np.int32), np.diff(trace.offsets))
    kinds = pa.array(["held", "kept"])
    events = {
        "user": user,
        "item": trace.item.astype(np.int32),
        "timestamp": trace.timestamp,
        "behavior": pa.DictionaryArray.from_arrays(pa.array((user >= HELD).astype(np.int8)), kinds),
    }
    pq.write_table(pa.table(events), raw / "events.parquet")
    columns = {name: name for name in ("user", "item", "timestamp")}
    source = {"files": ["events.parquet"], "columns": columns, "behavior": {"column": "behavior"}}
    spec = DatasetSpec.model_validate(
        {
            "name": name,
            "events": [source],
            "timestamp_unit": "s",
            "behaviors": ["held", "kept"],
            "targets": ["held"],
            "id_types": {"user": "integer", "item": "integer"},
            "split": {"kind": "leave_one_out"},
        }
    )
    behavior.prepare(spec, out, raw)
    shutil.rmtree(raw)


def best_possible(log: SyntheticLog, users: int = HELD) -> dict[str, float]:
    """What a ranker that knows the process reaches on the validation targets of the first users."""
    losses, ranks = [], []
    for user in range(min(users, log.config.users)):
        event = int(log.trace.offsets[user + 1]) - 2  # the last but one
        scores = predictive(log, user, event, "history")
        target = log.trace.item[event]
        losses.append(-np.log(scores[target] / scores.sum()))
        ranks.append(np.count_nonzero(scores >= scores[target]))
    rank = np.array(ranks)
    hits = rank <= 10
    return {
        "users": len(ranks),
        "loss": float(np.mean(losses)),
        "loss standard error": float(np.std(losses) / len(losses) ** 0.5),
        "ndcg@10": float(np.mean(hits / np.log2(1.0 + rank))),
        "hr@10": float(np.mean(hits)),
    }


def make(name: str, users: int, noise: float, out: Path, facts: bool) -> dict[str, Any]:
    """One data set, and what is known of it."""
    begin = time.perf_counter()
    log = generate(world(users, noise))
    prepare(log, name, out / name)
    found: dict[str, Any] = {"events": log.events.num_rows, "noise": noise}
    print(f"{name}: {log.events.num_rows:,} events, {time.perf_counter() - begin:.1f} s", flush=True)
    if facts:
        quality = measure_quality(out / name, "train")
        found |= {"best possible": best_possible(log), "quality": quality.to_record()}
        best, entropy = found["best possible"], quality.value("lempel_ziv_entropy_by_events")
        told = f"loss {best['loss']:.3f}, NDCG@10 {best['ndcg@10']:.4f}"
        print(f"  best possible: {told}; Lempel-Ziv entropy by events {entropy:.3f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="+", choices=["predictability", "sizes"])
    parser.add_argument("--out", type=Path, help="folder in which the data sets appear; default: none stay")
    parser.add_argument("--facts", type=Path, help="JSON file of what is known of the data sets")
    parser.add_argument("--users", type=int, help="default: 10,000, and of sizes 160,000")
    options = parser.parse_args()
    facts = {}
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        for kind in options.kinds:
            own = {f"noise-{100 * noise:.0f}": noise for noise in NOISES}
            for name, noise in own.items() if kind == "predictability" else [("generated", 0.3)]:
                users = options.users or (10_000 if kind == "predictability" else 160_000)
                facts[name] = make(name, users, noise, out, options.facts is not None)
    if options.facts:
        options.facts.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
