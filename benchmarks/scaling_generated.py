"""Transfer of learning rates, planted predictability and data in three sizes: their tables and plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scaling_points import Row
from scaling_tables import or_none, save, short, show_table

from models.scaling.laws import PlainForm, Points, PowerForm, fit_law, halves, held_out
from models.scaling.laws.goodness import fit_points, judged
from models.scaling.laws.law import Form
from models.scaling.report.svg import COLORS, figure_of

RULES = ("standard", "muP", "CompleteP")
ENTROPIES = ("lempel_ziv_entropy_by_events", "approximate_entropy_by_events")
SPLITS = 20


def show_transfer(rows: Sequence[Row], plot: Path) -> None:
    """The loss against the rate of each size under each rule; what the base's best rate costs elsewhere."""
    curves: dict[tuple[str, int, int], dict[float, Row]] = {}
    for row in (row for row in rows if row["final"]):
        rule = row["backbone"].split()[0]
        for each in RULES if rule == "base" else (rule,):
            curves.setdefault((each, row["width"], row["blocks"]), {})[row["learning_rate"]] = row
    print(
        f"\n## Transfer: {len({row['run'] for row in rows})} runs of {max(row['step'] for row in rows)} steps"
    )
    rates = sorted({rate for course in curves.values() for rate in course})
    for title, name in (("training loss, the last steps", "train_loss"), ("validation loss", "loss")):
        lines, base = [], {}
        for (rule, width, blocks), course in sorted(curves.items(), key=_by_rule):
            best = min(course, key=lambda rate: course[rate][name])
            base.setdefault(rule, best)
            own = [f"{course[rate][name]:.3f}" if rate in course else "" for rate in rates]
            there = course.get(base[rule])
            cost = "" if there is None else f"{there[name] - course[best][name]:.3f}"
            lines.append([rule, f"{width} x {blocks}", *own, f"{best:g}", cost])
        header = [
            "rule",
            "width x blocks",
            *(f"{rate:g}" for rate in rates),
            "best rate",
            "loss by the base's best rate",
        ]
        show_table(f"Transfer, {title}", header, lines)
    lines = [
        [rule, f"{width} x {blocks}", *(_cell(course.get(rate), "test ndcg@10") for rate in rates)]
        for (rule, width, blocks), course in sorted(curves.items(), key=_by_rule)
    ]
    show_table(
        "Transfer, NDCG@10 on test", ["rule", "width x blocks", *(f"{rate:g}" for rate in rates)], lines
    )
    figure, axes = figure_of(len(RULES), width=3.2)
    for axis, rule in zip(axes, RULES, strict=True):
        own = sorted((key, course) for key, course in curves.items() if key[0] == rule)
        for color, ((_, width, blocks), course) in zip(COLORS, own, strict=False):
            pairs = sorted((rate, row["train_loss"]) for rate, row in course.items())
            axis.plot(*zip(*pairs, strict=True), marker="o", ms=4, color=color, label=f"{width} x {blocks}")
        axis.set_xscale("log")
        axis.set_xticks(rates, [f"{rate:g}".replace("0.", ".") for rate in rates], fontsize=8)
        axis.minorticks_off()
        axis.set(title=rule, xlabel="learning rate")
    low = min(row["train_loss"] for course in curves.values() for row in course.values())
    for axis in axes:
        axis.set_ylim(low - 0.1, 7.8)
    axes[0].set_ylabel("training loss, last steps")
    axes[0].legend(fontsize=7, title="width x blocks", title_fontsize=7)
    save(figure, plot)


def _by_rule(pair: tuple[tuple[str, int, int], Any]) -> tuple[int, int, int]:
    rule, width, blocks = pair[0]
    return RULES.index(rule), width, blocks


def show_predictability(rows: Sequence[Row], facts_file: Path, plot: Path) -> None:
    """What of the loss and of NDCG@10 tokens explain, and tokens over an entropy."""
    facts = json.loads(facts_file.read_text())
    print(f"\n## Planted predictability: {len({row['run'] for row in rows})} runs")
    names = sorted({row["experiment"] for row in rows}, key=lambda name: facts[name]["noise"])
    lines = []
    for name in names:
        best, estimates = facts[name]["best possible"], facts[name]["quality"]["estimates"]
        measured = [(entropy, 3) for entropy in (*ENTROPIES, "item_entropy", "repeat_share")]
        cells = [short(estimates[measure]["value"], digits) for measure, digits in measured]
        loss = f"{best['loss']:.3f} ± {best['loss standard error']:.3f}"
        lines.append([name, loss, short(best["ndcg@10"]), *cells])
    header = [
        "data",
        "loss, best possible",
        "NDCG@10, best possible",
        "Lempel-Ziv",
        "ApEn",
        "item entropy",
        "repeats",
    ]
    show_table("What is planted, and what is measured of the data", header, lines)
    # Tokens of the whole training, whichever checkpoint was the best: data sets are compared at equal ones.
    seen = {row["run"]: row["tokens"] for row in sorted(rows, key=lambda row: row["step"])}
    final = [{**row, "tokens": seen[row["run"]]} for row in rows if row["final"]]
    keys = sorted({(row["width"], row["data_fraction"]) for row in final})
    for title, column in (("validation loss", "loss"), ("NDCG@10 on validation", "ndcg@10")):
        found = {(row["experiment"], row["width"], row["data_fraction"]): row for row in final}
        lines = [
            [width, f"{share:g}", *(_cell(found.get((name, width, share)), column) for name in names)]
            for width, share in keys
        ]
        show_table(f"Predictability, {title}", ["width", "share of the data", *names], lines)
    _explained(final, facts)
    figure, axes = figure_of(2, width=3.8)
    widest = max(row["width"] for row in final)
    for color, name in zip(COLORS, names, strict=False):
        own = sorted(
            (row["tokens"], row["loss"])
            for row in final
            if (row["experiment"], row["width"]) == (name, widest)
        )
        tokens, loss = (np.array(values) for values in zip(*own, strict=True))
        best = facts[name]["best possible"]["loss"]
        axes[0].plot(tokens, loss, marker="o", ms=4, color=color, label=name)
        axes[0].axhline(best, color=color, ls=":", lw=1)
        axes[1].plot(tokens, loss - best, marker="o", ms=4, color=color)
    for axis, label in zip(
        axes, ("validation loss (dotted: best possible)", "above the best possible"), strict=True
    ):
        axis.set_xscale("log")
        axis.set_xticks(tokens, [f"{value / 1e6:.1f}" for value in tokens])
        axis.minorticks_off()
        axis.set(xlabel=f"million tokens seen, width {widest}", ylabel=label)
    axes[0].legend(fontsize=7)
    save(figure, plot)


def _cell(row: Row | None, column: str) -> str:
    return "" if row is None else short(row[column], 3 if column == "loss" else 4)


def _explained(final: Sequence[Row], facts: dict[str, Any]) -> None:
    """R2 of laws with one measure of data or another, fitted to all data sets together."""
    rows = []
    for row in final:
        known, best = (
            facts[row["experiment"]]["quality"]["estimates"],
            facts[row["experiment"]]["best possible"],
        )
        rows.append({**row, "excess": row["loss"] - best["loss"], "share": row["ndcg@10"] / best["ndcg@10"],
                     "tokens / Lempel-Ziv": row["tokens"] / known[ENTROPIES[0]]["value"],
                     "tokens / best possible loss": row["tokens"] / best["loss"]})  # fmt: skip
    points = Points.from_rows(rows)
    lines = []
    for of in ("loss", "ndcg@10", "excess", "share"):
        for data in ("tokens", "tokens / Lempel-Ziv", "tokens / best possible loss"):
            columns = ("parameters_backbone", data)
            rising = of in ("ndcg@10", "share")
            forms: dict[str, Form] = {"power law with a limit": PowerForm(columns, of, rising=rising)}
            forms["plain power law"] = PlainForm(columns, of, not rising)
            for name, form in forms.items():
                whole = or_none(fit_points, points, form)
                halved = [or_none(held_out, points, form, halves(points, seed)) for seed in range(SPLITS)]
                known_ = [one.held_out.r2 for one in halved if one is not None]
                inside = "-" if whole is None else f"{judged(whole, points, form).r2:.2f}"
                lines.append([of, name, data, inside, f"{statistics.median(known_):.2f}" if known_ else "-"])
    titles = {"excess": "loss above the best possible", "share": "NDCG@10 over the best possible"}
    lines = [[titles.get(line[0], line[0]), *line[1:]] for line in lines]
    header = ["of", "law", "D", "R2 in-sample", "held-out half, median"]
    show_table(f"What explains quality over all data sets: {len(points)} points", header, lines)


def show_sizes(rows: Sequence[Row], facts_file: Path, plot: Path) -> None:
    """The loss of each shape on each amount of data, the best one, and the exponent of compute."""
    best = json.loads(facts_file.read_text())["generated"]["best possible"]
    print(f"\n## Data in three sizes: {len({row['run'] for row in rows})} runs")
    print(f"Best possible: loss {best['loss']:.3f} ± {best['loss standard error']:.3f}, ", end="")
    print(f"NDCG@10 {best['ndcg@10']:.4f}")
    final = [row for row in rows if row["final"]]
    amounts = sorted({row["unique_events"] for row in final})
    shapes = sorted({(row["blocks"], row["width"]) for row in final})
    for title, column in (("validation loss", "loss"), ("NDCG@10 on validation", "ndcg@10")):
        lines = []
        for blocks, width in shapes:
            own = {r["unique_events"]: r for r in final if (r["blocks"], r["width"]) == (blocks, width)}
            count = next(iter(own.values()))["parameters_backbone"]
            lines.append([f"{blocks} x {width}", f"{count:,}", *(_cell(own.get(n), column) for n in amounts)])
        header = ["blocks x width", "parameters", *(f"{n / 1e6:.1f} M events" for n in amounts)]
        show_table(f"Sizes, {title}", header, lines)
    lines = []
    for amount in amounts:
        own = [row for row in final if row["unique_events"] == amount]
        chosen = min(own, key=lambda row: row["loss"])
        blocks, width = chosen["blocks"], chosen["width"]
        shape = [f"{amount / 1e6:.1f} M", f"{blocks} x {width}", blocks * width]
        losses = [f"{chosen['loss']:.3f}", f"{chosen['loss'] - best['loss']:.3f}"]
        lines.append([*shape, *losses, f"{chosen['tokens']:.3g}", f"{chosen['flops']:.2e}"])
    header = [
        "events",
        "best shape",
        "blocks * width",
        "loss",
        "above the best possible",
        "tokens seen",
        "FLOPs",
    ]
    show_table("Sizes, the best shape of each amount", header, lines)
    points = Points.from_rows([{**row, "excess": max(row["loss"] - best["loss"], 1e-3)} for row in final])
    for name, form in {
        "loss in parameters and unique events": PowerForm(("parameters_backbone", "unique_events")),
        "loss in compute": PowerForm(("flops",)),
        "loss above the best possible in compute": PlainForm(("flops",), "excess", True),
    }.items():
        law = or_none(fit_law, points, form)
        for parameter, one in {} if law is None else law.parameters().items():
            r2 = "" if law is None else f"{law.in_sample.r2:.2f}"
            told = f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})"
            print(f"- {name} ({len(points)} runs, R2 {r2}): {parameter} {told}")
    figure, (axis,) = figure_of(1, height=3.6, width=6.5)
    for color, amount in zip(COLORS, amounts, strict=False):
        for shape in shapes:
            own_ = sorted((r["flops"], r["loss"]) for r in rows
                          if r["unique_events"] == amount and (r["blocks"], r["width"]) == shape)  # fmt: skip
            if own_:
                label = f"{amount / 1e6:.1f} million events" if shape == shapes[0] else None
                axis.plot(*zip(*own_, strict=True), color=color, lw=0.7, marker="o", ms=3, label=label)
    axis.axhline(best["loss"], color="black", ls=":", lw=1, label="best possible")
    axis.set_xscale("log")
    axis.set(xlabel="training FLOPs", ylabel="validation loss")
    axis.legend(fontsize=8)
    save(figure, plot)
