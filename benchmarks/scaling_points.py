"""The points of all scaling experiments as one CSV file, from the folders of their grids.

    PYTHONPATH=. python benchmarks/scaling_points.py FOLDER --csv benchmarks/results/scaling.csv

FOLDER has a grid's folder for each experiment: `depth-width` (and `depth-others`), `mup`, `mup-rates`,
`mup-half`, `mup-large`, `mup-recommended`, `fractions-taobao`, `equal-taobao`, `transfer`, `noise-0`, `sizes`
and so on. Points
of experiments that are not there stay as they are in the file.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.experiments.runs import slug
from models.runs.metrics_log import read_metrics
from models.scaling.grid import load_grid
from models.scaling.points import read_points

Row = dict[str, Any]

COLUMNS = (
    *("experiment", "lease", "run", "final", "backbone", "dataset", "blocks", "width", "length", "seed"),
    *("learning_rate", "data_fraction", "epoch", "step", "tokens", "unique_events", "flops"),
    *("parameters_backbone", "parameters_embedding", "train_loss", "loss", "ndcg@10", "hr@10"),
    *("test ndcg@10", "test hr@10", "seconds", "joules", "device"),
)
BACKBONES = ("HSTU", "Llama", "FuXi-alpha", "GPT", "SASRec")
_LAST = 5
"""Logged steps whose training losses are averaged."""


def collect(folder: Path) -> Iterator[Row]:
    """The points of one grid, with the training loss before each, and which lease of a machine ran it."""
    leases = _leases(folder)
    found = {path.stem: json.loads(path.read_text()) for path in (folder / "results").glob("*.json")}
    losses = {}
    for digest, result in found.items():
        lines = read_metrics(folder / result["run"] / "metrics.jsonl")
        losses[digest] = [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]
    yield from _unfinished(folder, {folder / result["run"] for result in found.values()})
    for point in read_points(folder) if found else ():
        before = [loss for step, loss in losses[point["run"]] if step <= point["step"]][-_LAST:]
        about = {
            "experiment": folder.name,
            "lease": leases.get(found[point["run"]].get("place"), 0),
            "train_loss": statistics.fmean(before) if before else None,
        }
        yield {name: _short({**point, **about}.get(name)) for name in COLUMNS}


def _unfinished(folder: Path, finished: set[Path]) -> Iterator[Row]:
    """The validations of runs that were cut off, which have no result; none of them is final."""
    sizes = {slug(size.line(None)): size for size in load_grid(folder / "grid.yaml").sizes()}
    for path in sorted((folder / "runs").glob("*/metrics.jsonl")):
        size = sizes.get(path.parent.name.rsplit("-seed-", 1)[0])
        if path.parent in finished or size is None:
            continue
        seed = int(path.parent.name.rsplit("-seed-", 1)[1].split("-")[0])
        about = {"experiment": folder.name, "run": path.parent.name, "final": 0, "backbone": size.backbone}
        about |= {"blocks": size.blocks, "width": size.width, "length": size.length, "seed": seed}
        for line in read_metrics(path):
            if line["kind"] == "valid":
                own = {**line, "loss": line.get("log_loss"), **about, "data_fraction": size.data}
                yield {name: _short(own.get(name)) for name in COLUMNS}


def _leases(folder: Path) -> dict[str, int]:
    """Numbers of the machines that calls were made on, in order."""
    calls = sorted((json.loads(path.read_text()) for path in (folder / "calls").glob("*.json")), key=_when)
    return {place: number for number, place in enumerate(dict.fromkeys(call["place"] for call in calls), 1)}


def _when(call: dict[str, Any]) -> str:
    return str(call["when"])


def _short(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return float(f"{value:.7g}") if isinstance(value, float) else value


def read_rows(path: Path) -> list[Row]:
    """The rows of the file, numbers as such; what is unknown is left out."""
    with path.open(newline="") as file:
        return [{k: _number(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    try:
        return float(text) if any(sign in text for sign in ".en") else int(text)
    except ValueError:
        return text


def best_of_tried(rows: Sequence[Row]) -> list[Row]:
    """The chosen checkpoint of the best run of each size, by NDCG@10 on validation, and how it came about.

    `late` are those whose loss at the first validation was above that of the smallest model (of HSTU, where
    there is one): they had hardly begun to learn, whatever they reached in the end.
    """
    first = {row["run"]: row["loss"] for row in sorted(rows, key=lambda row: -row["step"])}
    sizes: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["final"]:
            sizes.setdefault((row["backbone"], row["blocks"], row["width"]), []).append(row)
    ordered = sorted(sizes, key=lambda size: (BACKBONES.index(size[0]), *size[1:]))
    best = [max(sizes[size], key=lambda row: row["ndcg@10"]) for size in ordered]
    own = [row for row in best if row["backbone"] == BACKBONES[0]] or best
    smallest = min(own, key=lambda row: row["parameters_backbone"])
    return [{**row, "late": first[row["run"]] > first[smallest["run"]]} for row in best]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/results/scaling.csv"))
    options = parser.parse_args()
    folders = [path for path in sorted(options.folder.iterdir()) if (path / "results").is_dir()]
    rows = [row for folder in folders for row in collect(folder)]
    names = {folder.name for folder in folders}
    kept = read_rows(options.csv) if options.csv.exists() else []
    rows += [row for row in kept if row["experiment"] not in names]
    rows.sort(key=lambda row: (row["experiment"], str(row["run"]), row["step"]))
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} points of {len({row['run'] for row in rows})} runs: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main()
