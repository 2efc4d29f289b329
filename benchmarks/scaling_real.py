"""Wide and deep models under muP, fractions of real logs, and seeds: their tables and plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling_points import Row
from scaling_tables import HR, NDCG, or_none, save, short, show_table

from models.scaling.laws import PlainForm, Points, PowerForm, halves, held_out
from models.scaling.laws.goodness import fit_points, judged
from models.scaling.laws.law import Form
from models.scaling.report.svg import COLORS, figure_of

SPLITS = 20
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


def show_halved(whole: Sequence[Row], half: Sequence[Row]) -> None:
    """For each size what half of the rate would have been worth."""
    found = [
        {(row["backbone"], row["blocks"], row["width"]): row for row in finals(rows)}
        for rows in (whole, half)
    ]
    both = [size for size in found[0] if size in found[1]]
    for backbone in dict.fromkeys(size[0] for size in both):
        own = [size for size in both if size[0] == backbone]
        widths = sorted({width for _, _, width in own})
        lines = []
        for blocks in sorted({blocks for _, blocks, _ in own}):
            line: list[Any] = [blocks]
            for width in widths:
                pair = [side.get((backbone, blocks, width)) for side in found]
                known = [row for row in pair if row is not None]
                line.append(f"{known[1][NDCG] - known[0][NDCG]:+.4f}" if len(known) == 2 else "")
            lines.append(line)
        show_table(f"{backbone}: test NDCG@10 at half the rate, less that at the rate", ["", *widths], lines)


def show_seeds(rows: Sequence[Row]) -> None:
    """Runs that differ in their seed alone."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in sorted(finals(rows), key=lambda row: row["seed"]):
        groups.setdefault((row["blocks"], row["width"], row["learning_rate"]), []).append(row[NDCG])
    lines = []
    for (blocks, width, rate), values in sorted(groups.items()):
        spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
        told = ", ".join(map(short, values))
        lines.append([f"{blocks} x {width}", f"{rate:g}", told, short(statistics.fmean(values)), spread])
    show_table("NDCG@10 of seeds", ["blocks x width", "rate", "seeds", "mean", "standard deviation"], lines)


def _cell(row: Row | None, column: str) -> str:
    return "" if row is None else short(row[column], 3 if column == "loss" else 4)


def of_fractions(rows: Sequence[Row], quality: dict[str, Any]) -> Iterator[Row]:
    """The chosen checkpoint of each run, with the quality of the events that it was trained on."""
    for row in finals(rows):
        by = "time" if "time" in row["backbone"] else "users"
        known = quality[f"{row['dataset']} {by} {row['data_fraction']:g}"]
        entropies = {name: known["estimates"][name]["value"] for name in (*ENTROPIES, "repeat_share")}
        events = float(known["events"])
        more = {f"events / {name}": events / entropies[name] for name in ENTROPIES}
        yield {**row, "by": by, "events": events, "users": known["users"], **entropies, **more}


def show_fractions(rows: Sequence[Row], quality_file: Path, plot: Path) -> None:
    """Quality of fractions of users and of the oldest events; whether effective data explain more."""
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
            group = {r["width"]: r for r in own if (r["by"], r["data_fraction"]) == (by, share)}
            one = next(iter(group.values()))
            facts = [f"{one['events']:,.0f}", f"{one['users']:,}", f"{one['repeat_share']:.3f}"]
            facts += [f"{one[entropy]:.3f}" for entropy in ENTROPIES]
            cells = [_cell(group.get(width), column) for column in ("loss", NDCG) for width in widths]
            lines.append([f"{share:g} of {by}", *facts, *cells])
        header = ["fraction", "events", "users", "repeats", *ENTROPIES]
        header += [f"{column}, width {width}" for column in ("loss", NDCG) for width in widths]
        show_table(f"Fractions of {name}", header, lines)
        _explained(name, own)
    _explained("all together", found)
    figure, axes = figure_of(len(sets), width=3.2)
    for axis, name in zip(axes, sets, strict=True):
        own = [row for row in found if row["dataset"] == name]
        whole = [row for row in own if row["data_fraction"] == 1.0]
        for color, width in zip(COLORS, sorted({row["width"] for row in own}), strict=False):
            for by, line in (("users", "-"), ("time", "--")):
                group = [r for r in (*own, *whole) if r["width"] == width]
                group = [r for r in group if r["by"] == by or r["data_fraction"] == 1.0]
                if not any(r["by"] == by and r["data_fraction"] < 1.0 for r in group):
                    continue
                pairs = sorted({(row["events"], row[NDCG]) for row in group})
                label = f"width {width}, by {by}"
                axis.plot(*zip(*pairs, strict=True), marker="o", ms=4, color=color, ls=line, label=label)
        axis.set_xscale("log")
        axis.set(title=name, xlabel="training events")
    axes[0].set_ylabel("NDCG@10 on test")
    axes[-1].legend(fontsize=7)
    save(figure, plot)


def _explained(title: str, rows: Sequence[Row]) -> None:
    """R2 of laws in parameters and a measure of the data."""
    points = Points.from_rows([{k: v for k, v in row.items() if k != "by"} for row in rows])
    lines = []
    for of in ("loss", NDCG):
        for data in ("events", *(f"events / {entropy}" for entropy in ENTROPIES)):
            columns = ("parameters_backbone", data)
            rising = of != "loss"
            forms: dict[str, Form] = {
                "power law with a limit": PowerForm(columns, of, rising=rising),
                "plain power law": PlainForm(columns, of, not rising),
            }
            for name, form in forms.items():
                whole = or_none(fit_points, points, form)
                halved = [or_none(held_out, points, form, halves(points, seed)) for seed in range(SPLITS)]
                known = [one.held_out.r2 for one in halved if one is not None]
                inside = "-" if whole is None else f"{judged(whole, points, form).r2:.2f}"
                median = f"{statistics.median(known):.2f}" if known else "-"
                lines.append([of, name, data, inside, median])
    header = ["of", "law", "D", "R2 in-sample", "held-out half, median"]
    show_table(f"What explains quality, {title}: {len(points)} points", header, lines)
