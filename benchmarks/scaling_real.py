"""Wide and deep models under muP, and fractions of real logs: their tables and plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling_points import Row
from scaling_tables import HR, NDCG, short, show_table

ENTROPIES = ("lempel_ziv_entropy", "lempel_ziv_entropy_by_events", "item_entropy")


def finals(rows: Sequence[Row]) -> list[Row]:
    """The chosen checkpoint of each run; `last_loss` is the training loss where the run ended."""
    last = {row["run"]: row for row in sorted(rows, key=lambda row: row["step"])}
    return [
        {**row, "last_loss": last[row["run"]].get("train_loss"), "epochs": last[row["run"]]["epoch"]}
        for row in rows
        if row["final"]
    ]


def show_large(rows: Sequence[Row]) -> None:
    """What width and depth under muP reach with more epochs, and with more dropout."""
    lines = []
    for row in sorted(finals(rows), key=lambda row: (row["width"], row["backbone"], row["epochs"])):
        losses = [f"{row['last_loss']:.3f}", f"{row['loss']:.3f}"]
        chosen = f"{row['epoch']} of {row['epochs']}"
        lines.append(
            [row["backbone"], f"{row['learning_rate']:g}", f"{row['parameters_backbone']:,}", chosen]
        )
        lines[-1] += [*losses, short(row["ndcg@10"]), short(row[NDCG]), short(row[HR])]
    header = ["run", "rate", "parameters", "epoch", "training loss at the end", "validation loss"]
    header += ["validation NDCG@10", "test NDCG@10", "test HR@10"]
    show_table(f"Wide and deep under muP: {len(lines)} runs", header, lines)


def show_course(rows: Sequence[Row]) -> None:
    """Validation NDCG@10 over the epochs, also of runs that were cut off."""
    courses: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        courses.setdefault((row["backbone"], row["seed"]), {})[row["epoch"]] = row["ndcg@10"]
    kept = {name: course for name, course in courses.items() if "40 epochs" in name[0]}
    epochs = sorted({epoch for course in kept.values() for epoch in course})
    lines = [
        [name, seed, *(short(course[epoch]) if epoch in course else "" for epoch in epochs)]
        for (name, seed), course in sorted(kept.items())
    ]
    show_table("Validation NDCG@10 over 40 epochs", ["run", "seed", *epochs], lines)


def show_rates(rows: Sequence[Row]) -> None:
    """Each backbone at one size over learning rates."""
    found = {(row["backbone"], row["learning_rate"]): row for row in finals(rows)}
    rates = sorted({rate for _, rate in found})
    for title, column in (("validation NDCG@10", "ndcg@10"), ("validation loss", "loss")):
        lines = []
        for backbone in dict.fromkeys(name for name, _ in found):
            own = {rate: found[backbone, rate] for rate in rates if (backbone, rate) in found}
            lines.append([backbone, *(_cell(own.get(rate), column) for rate in rates)])
        show_table(f"Rates at one size, {title}", ["backbone", *(f"{rate:g}" for rate in rates)], lines)


def _cell(row: Row | None, column: str) -> str:
    return "" if row is None else short(row[column], 3 if column == "loss" else 4)


def of_fractions(rows: Sequence[Row], quality: dict[str, Any]) -> Iterator[Row]:
    """The chosen checkpoint of each run, with the quality of the events that it was trained on."""
    for row in finals(rows):
        by = "time" if "time" in row["backbone"] else "users"
        known = quality[f"{row['dataset']} {by} {row['data_fraction']:g}"]
        entropies = {name: known["estimates"][name]["value"] for name in (*ENTROPIES, "repeat_share")}
        events = float(known["events"])
        yield {**row, "by": by, "events": events, "users": known["users"], **entropies}


def _mean(rows: Sequence[Row]) -> Row | None:
    """Of the seeds of one size."""
    if not rows:
        return None
    return {name: statistics.fmean(row[name] for row in rows) for name in ("loss", "ndcg@10", NDCG, HR)}


def show_fractions(rows: Sequence[Row], quality_file: Path) -> None:
    """Quality of fractions of users and of the oldest events, beside that of the data."""
    found = list(of_fractions(rows, json.loads(quality_file.read_text())))
    print(f"\n## Fractions of real logs: {len(found)} runs")
    sets = [
        name for name in ("ml-1m", "taobao", "completejourney") if any(r["dataset"] == name for r in found)
    ]
    for name in sets:
        own = [row for row in found if row["dataset"] == name]
        widths = sorted({row["width"] for row in own})
        lines = []
        for by, share in sorted({(row["by"], row["data_fraction"]) for row in own}, reverse=True):
            kept = [row for row in own if (row["by"], row["data_fraction"]) == (by, share)]
            group = {width: _mean([row for row in kept if row["width"] == width]) for width in widths}
            one = kept[0]
            facts = [f"{one['events']:,.0f}", f"{one['users']:,}", f"{one['repeat_share']:.3f}"]
            facts += [f"{one[entropy]:.3f}" for entropy in ENTROPIES]
            cells = [_cell(group.get(width), column) for column in ("loss", NDCG) for width in widths]
            lines.append([f"{share:g} of {by}", *facts, *cells])
        header = ["fraction", "events", "users", "repeats", *ENTROPIES]
        header += [f"{column}, width {width}" for column in ("loss", NDCG) for width in widths]
        show_table(f"Fractions of {name}", header, lines)
