"""What counting reaches by the ranking protocols of docs/ranking.md, four of MovieLens-1M and one of Taobao,
and rankers without a backbone.

    python benchmarks/ranking_floors.py --input ml-1m                      the floors, on the CPU
    python benchmarks/ranking_floors.py --input ml-1m --names din dcn fm   others, or some
    python benchmarks/ranking_floors.py --input ml-1m --protocols days     of one protocol
    python benchmarks/ranking_floors.py --input taobao --protocols fav cart buy "any, uniform"

`--input` is the folder of ratings.dat, movies.dat and users.dat; of Taobao, of events.csv.gz. Prints a
table, and writes a line for each ranker, protocol and `--counts` to `--csv`, as soon as it is known.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

from synthetic import machine

import behavior
from behavior.shards.folder import ShardFolder
from models.evaluation.actions.names import BINARY
from models.rankers.evaluate import evaluate_rankers

PROTOCOLS: dict[str, tuple[str, list[str]]] = {
    "leave last out": ("ml-1m", []),
    "last 10 % by time": ("ml-1m-temporal", []),
    "days": ("ml-1m-days", ["evaluation.known_only=true"]),
    "random": ("ml-1m-random", []),
}
"""Name -> ready spec of MovieLens-1M, and settings."""
_ANY = ["task.label=fav|cart|buy", "task.negatives.ratio=1", "task.negatives.left_out=event"]
TAOBAO: dict[str, tuple[str, list[str]]] = {
    **{action: ("taobao-temporal", [f"task.label={action}"]) for action in ("fav", "cart", "buy")},
    "any, uniform": ("taobao-temporal", _ANY),
    "any, popularity": ("taobao-temporal", [*_ANY, "task.negatives.drawn=popularity"]),
}
"""The same of Taobao: which action an event is; and whether there is one, against sampled negatives."""
EVERY = PROTOCOLS | TAOBAO
FLOORS = ["rate", "user_mean", "item_mean", "bias", "factorization", "history"]
LABEL = "task.label=value>=4"


def measure(
    shards: ShardFolder, name: str, settings: list[str], counts: str, bootstrap: int
) -> dict[str, Any]:
    """A ranker on one protocol: its metrics, and what they cost."""
    begin = time.perf_counter()
    result = evaluate_rankers(
        shards,
        names=[name],
        settings=[LABEL, f"evaluation.bootstrap={bootstrap}", *settings],
        counts="train" if counts == "train" else "train+valid",
    )
    report = result["baselines"][name]
    low, high = report.get("intervals", {}).get("auc", ("", ""))
    return {
        "rows": report["rows"],
        "users": report["users"],
        **{metric: report.get(metric, "") for metric in BINARY},
        "auc_low": low,
        "auc_high": high,
        "chosen": report.get("chosen", ""),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    about, plain = __doc__, argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, formatter_class=plain)
    parser.add_argument("--input", required=True, help="folder of MovieLens-1M as published")
    parser.add_argument("--names", nargs="+", default=FLOORS, help="rankers")
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(EVERY))
    parser.add_argument("--counts", nargs="+", default=["train", "train+valid"])
    parser.add_argument("--set", nargs="+", default=[], help="settings of all: section.key=value")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--csv", type=Path, default=Path("ranking-floors.csv"))
    options = parser.parse_args()
    print(f"{machine()}\n")
    print("| protocol | counts | ranker | AUC | 95 % by user | GAUC | log loss | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for protocol in options.protocols:
            spec, settings = EVERY[protocol]
            shards = behavior.prepare(spec, Path(folder) / protocol, options.input)
            for name in options.names:
                for counts in options.counts:
                    found = measure(shards, name, [*settings, *options.set], counts, options.bootstrap)
                    rows.append({"protocol": protocol, "counts": counts, "ranker": name, **found})
                    show(rows[-1])
                    write(rows, options.csv)


def show(row: dict[str, Any]) -> None:
    """A line of the table."""
    ends = f"{row['auc_low']:.4f} to {row['auc_high']:.4f}" if row["auc_low"] != "" else ""
    numbers = [f"{row[name]:.4f}" if row[name] != "" else "" for name in ("auc", "gauc", "log_loss")]
    cells = [row["protocol"], row["counts"], row["ranker"], numbers[0], ends, *numbers[1:], row["seconds"]]
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
