"""How backbones gain from depth: a table and a plot of the runs of `ml-1m/blocks` and `ml-1m/time-unknown`.

    PYTHONPATH=. python benchmarks/depth.py [--results benchmarks/results/ml-1m.csv] [--epochs 101]
        [--metric ndcg@10] [--plot docs/depth.svg]

Means over seeds of the runs of that many epochs. A backbone without a time bias computes the same whether
time is known or not: its runs count for both.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from models.experiments import load_table, read_records

TABLES = {"ml-1m/blocks": "time known", "ml-1m/time-unknown": "time unknown"}
TIMELESS = ("Llama", "GPT", "SASRec")
Means = dict[str, dict[int, float]]


def read_means(path: Path, epochs: int, metric: str) -> dict[str, Means]:
    """By table and backbone: the metric on test at each depth."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {
        table: defaultdict(lambda: defaultdict(list)) for table in TABLES
    }
    for record in read_records(path):
        if record.table in TABLES and record.epochs == epochs and record.test:
            backbone, _, depth = record.line.rpartition(", blocks ")
            for table in TABLES if backbone in TIMELESS else (record.table,):
                found[table][backbone][int(depth)].append(record.test[metric])
    return {
        table: {
            backbone: {depth: statistics.fmean(values) for depth, values in sorted(depths.items())}
            for backbone, depths in lines.items()
        }
        for table, lines in found.items()
    }


def print_table(title: str, means: Means, depths: list[int], backbones: list[str]) -> None:
    print(f"\n| {title} | " + " | ".join(f"{depth} blocks" for depth in depths) + " |")
    print("| --- |" + " --- |" * len(depths))
    for backbone in backbones:
        values = (means.get(backbone, {}).get(depth) for depth in depths)
        cells = ("" if value is None else f"{value:.4f}".lstrip("0") for value in values)
        print(f"| {backbone} | " + " | ".join(cells) + " |")


def draw(found: dict[str, Means], metric: str, backbones: list[str], path: Path) -> None:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True)
    for axis, (table, means) in zip(axes, found.items(), strict=True):
        for backbone in backbones:
            depths = means.get(backbone, {})
            axis.plot([*depths], [*depths.values()], marker="o", label=backbone)
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks := sorted({depth for depths in means.values() for depth in depths}))
        axis.set_xticklabels([str(depth) for depth in ticks])
        axis.set_xlabel("blocks")
        axis.set_title(TABLES[table])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"{metric.upper()}, MovieLens-1M test")
    axes[0].legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/ml-1m.csv"))
    parser.add_argument("--epochs", type=int, default=101)
    parser.add_argument("--metric", default="ndcg@10")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    found = read_means(arguments.results, arguments.epochs, arguments.metric)
    table = load_table("ml-1m/blocks")
    depths, backbones = table.grid["model.blocks"], [*table.rows]
    for name, title in TABLES.items():
        print_table(f"{title}, {arguments.metric}", found[name], depths, backbones)
    if arguments.plot:
        draw(found, arguments.metric, backbones, arguments.plot)


if __name__ == "__main__":
    main()
