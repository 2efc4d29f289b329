"""Checks of what the scaling experiments say: seeds, recommended sizes, real logs' effective data."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scaling_fits import LOSS_FORMS, SHAPE
from scaling_points import Row, best_of_tried
from scaling_real import of_fractions
from scaling_tables import HR, NDCG, or_none, short, show_table

from models.scaling.laws import PerformanceForm, PlainForm, Points, fit_law
from models.scaling.laws.goodness import Mask, fit_points, goodness
from models.scaling.laws.law import Form

MEASURES = {
    "nothing": None,
    "events": "events",
    "events / Lempel-Ziv": "effective",
    "events / Lempel-Ziv, by events": "effective_by_events",
}
"""What is tried as the amount of data, and its column."""


def show_seeds(title: str, rows: Sequence[Row]) -> None:
    """Mean and range over seeds of the runs that differ in nothing else."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row["final"]:
            name = (row["backbone"], row["blocks"], row["width"], row["learning_rate"])
            groups.setdefault(name, []).append(row)
    lines = []
    for (backbone, blocks, width, rate), own in sorted(groups.items(), key=str):
        if len(own) > 1:
            told = [backbone, f"{blocks} x {width}", f"{rate:g}", len(own)]
            for metric in ("ndcg@10", NDCG, HR):
                values = sorted(row[metric] for row in own)
                told.append(f"{short(statistics.fmean(values))} ({short(values[0])} to {short(values[-1])})")
            lines.append(told)
    if lines:
        header = [
            "run",
            "blocks x width",
            "rate",
            "seeds",
            "validation NDCG@10",
            "test NDCG@10",
            "test HR@10",
        ]
        show_table(title, header, lines)


def show_recommended(trained: Sequence[Row], recommended: Sequence[Row]) -> None:
    """What laws of the sizes that were trained say of those that they recommended, and what these reached."""
    known = [row for row in best_of_tried(trained) if not row["late"] and row["backbone"] == "HSTU"]
    points = Points.from_rows(known)
    laws = {
        "loss": or_none(fit_law, points, LOSS_FORMS["loss, blocks and width"]),
        NDCG: or_none(fit_law, points, PerformanceForm(NDCG)),
    }
    lines, held, errors = [], [], []
    for row in sorted(recommended, key=lambda row: (row["blocks"], row["width"], row["seed"])):
        if not row["final"]:
            continue
        line = [f"{row['blocks']} x {row['width']}", row["seed"], f"{row['flops']:.1e}"]
        for column, law in laws.items():
            if law is None:
                continue
            said = law.predict({name: [float(row[name])] for name in SHAPE})
            low, high = float(said.run_low[0]), float(said.run_high[0])
            digits = 3 if column == "loss" else 4
            held.append(low <= row[column] <= high)
            if column == NDCG:
                errors.append(abs(float(said.value[0]) / row[column] - 1.0))
            line.append(
                f"{short(float(said.value[0]), digits)} ({short(low, digits)} to {short(high, digits)})"
            )
            line.append(f"{short(row[column], digits)}{'' if held[-1] else ' (outside)'}")
        lines.append(line)
    header = [
        "blocks x width",
        "seed",
        "FLOPs",
        "loss, predicted",
        "measured",
        "NDCG@10, predicted",
        "measured",
    ]
    show_table(f"Recommended by the law of {len(known)} sizes, trained then", header, lines)
    print(f"\n{sum(held)} of {len(held)} within the 90% interval of a run", end="")
    print(f"; mean error of NDCG@10 {statistics.fmean(errors):.1%}" if errors else "")


def _left_out_one_by_one(points: Points, form: Form) -> float | None:
    """R2 of each run as the law of all others says it."""
    said = np.zeros(len(points))
    for number in range(len(points)):
        left: Mask = np.arange(len(points)) == number
        law = or_none(fit_points, points.where(~left), form)
        if law is None:
            return None
        said[number] = law.predict({name: points.column(name)[left] for name in form.needs})[0]
    return goodness(said, points.column(form.of), points.runs).r2


def show_effective(rows: Sequence[Row], quality_file: Path) -> None:
    """Which amount of data explains the quality of fractions: of users, and of the oldest events."""
    found = [
        {
            **row,
            "effective": row["events"] / row["lempel_ziv_entropy"],
            "effective_by_events": row["events"] / row["lempel_ziv_entropy_by_events"],
        }
        for row in of_fractions(rows, json.loads(quality_file.read_text()))
    ]
    lines = []
    for name in dict.fromkeys(row["dataset"] for row in found):
        own = [row for row in found if row["dataset"] == name]
        kinds = {"all fractions": own, "of users": [r for r in own if r["by"] == "users"],
                 "of time": [r for r in own if r["by"] == "time" or r["data_fraction"] == 1.0]}  # fmt: skip
        for kind, kept in kinds.items():
            if len(kept) < 5:
                continue
            points = Points.from_rows(kept)
            for of, lower in (("loss", True), (NDCG, False)):
                for title, column in MEASURES.items():
                    columns = ("parameters_backbone", *(() if column is None else (column,)))
                    form = PlainForm(columns, of, lower)
                    whole = or_none(fit_points, points, form)
                    if whole is None:
                        continue
                    inside = whole.predict({n: points.column(n) for n in form.needs})
                    r2 = goodness(inside, points.column(of), points.runs).r2
                    apart = _left_out_one_by_one(points, form)
                    exponent = "" if column is None else f"{whole.parameters()[f'exponent of {column}']:.3f}"
                    cells = [name, kind, len(kept), of, title, exponent, f"{r2:.2f}"]
                    lines.append([*cells, "-" if apart is None else f"{apart:.2f}"])
    header = ["data", "fractions", "runs", "of", "amount of data", "its exponent", "R2 in-sample"]
    show_table("What explains the quality of fractions", [*header, "R2, each run left out"], lines)
