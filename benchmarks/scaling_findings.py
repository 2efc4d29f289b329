"""What the scaling experiments show: tables and plots of `benchmarks/results/scaling.csv`.

    PYTHONPATH=. python benchmarks/scaling_findings.py [--csv FILE] [--plots docs]

Depth and width on MovieLens-1M: each size at the best, by validation, of the learning rates that it tried;
laws fitted to these points, beside what is left out of a fit; what the runs of the first lease of a machine
predicted of sizes that only a later one trained. The same of one rate for all sizes under muP. Then wide and
deep models and fractions of real logs (`scaling_real.py`), transfer of learning rates, planted predictability
and three sizes of data (`scaling_generated.py`), as far as their points are there. `scaling_points.py` makes
the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from scaling_checks import show_effective, show_recommended, show_seeds
from scaling_fits import (
    LOSS_FORMS,
    draw_fits,
    forms_of,
    show_best_for_budget,
    show_coverage,
    show_laws,
    show_parameters,
    show_predictions,
)
from scaling_generated import show_predictability, show_sizes, show_transfer
from scaling_points import Row, best_of_tried, read_rows
from scaling_real import show_course, show_fractions, show_large, show_rates
from scaling_tables import HR, NDCG, or_none, save, short, show_table

from models.scaling.laws import (
    Frontier,
    Points,
    PowerForm,
    TrainingCost,
    fit_law,
)
from models.scaling.report.svg import COLORS, figure_of

RATES = ("mup", "mup-half", "mup-lower", "mup-narrow")
"""Experiments with the sizes of one grid at one rate or another."""


def show_sizes_of(best: Sequence[Row]) -> None:
    """A table for each backbone: blocks down, widths across."""
    for backbone in dict.fromkeys(row["backbone"] for row in best):
        own = {(row["blocks"], row["width"]): row for row in best if row["backbone"] == backbone}
        widths = sorted({width for _, width in own})

        def cell(row: Row | None) -> str:
            if row is None:
                return ""
            mark = "\\*" if row["late"] else ""
            return f"{short(row[NDCG])}{mark} ({row['learning_rate']:.2g})"

        lines = [
            [blocks, *(cell(own.get((blocks, width))) for width in widths)]
            for blocks in sorted({blocks for blocks, _ in own})
        ]
        show_table(f"{backbone}: NDCG@10 on test (learning rate)", ["blocks", *widths], lines)


def show_depth(best: Sequence[Row]) -> None:
    """For each backbone and number of blocks the best width, by validation."""
    depths = sorted({row["blocks"] for row in best})
    lines = []
    for backbone in dict.fromkeys(row["backbone"] for row in best):
        line: list[str] = [backbone]
        for depth in depths:
            own = [row for row in best if (row["backbone"], row["blocks"]) == (backbone, depth)]
            chosen = max(own, key=lambda row: row["ndcg@10"], default=None)
            cell = "" if chosen is None else f"{short(chosen[NDCG])}/{short(chosen[HR])} ({chosen['width']})"
            line.append(cell)
        lines.append(line)
    show_table("NDCG@10/HR@10 on test of the best width", ["backbone", *depths], lines)


def show_frontier(best: Sequence[Row], rows: Sequence[Row]) -> None:
    """The sizes that nothing cheaper beats, and the frontier of the law of loss in parameters and tokens."""
    reached: list[Row] = []
    for row in sorted(best, key=lambda row: row["flops"]):
        if not reached or row["loss"] < reached[-1]["loss"]:
            reached.append(row)
    lines = []
    for row in reached:
        sizes = [row["backbone"], f"{row['blocks']} x {row['width']}", f"{row['parameters_backbone']:,}"]
        lines.append([*sizes, f"{row['flops']:.2e}", f"{row['loss']:.3f}", short(row[NDCG])])
    header = ["backbone", "blocks x width", "parameters", "FLOPs", "validation loss", "test NDCG@10"]
    show_table("Nothing cheaper reached the loss of", header, lines)
    chosen = {row["run"]: row["step"] for row in best if not row["late"]}
    for backbone in dict.fromkeys(row["backbone"] for row in best):
        own = [
            row for row in rows if row["backbone"] == backbone and row["step"] <= chosen.get(row["run"], -1)
        ]
        points = Points.from_rows(own) if own else None
        if points is None or len({row["run"] for row in own}) < 6:
            continue
        law = or_none(fit_law, points, PowerForm(("parameters_backbone", "tokens")))
        cost = or_none(TrainingCost.of, points)
        if law is None or cost is None:
            continue
        found = Frontier(law, cost).exponents()
        told = ", ".join(
            f"{name} {one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for name, one in found.items()
        )
        print(f"\n{backbone}, loss in parameters and tokens, at all checkpoints, {len(points)} points:")
        print(f"R2 {law.in_sample.r2:.2f}: exponents of compute: {told}")


def draw_depth(best: Sequence[Row], path: Path) -> None:
    backbones = list(dict.fromkeys(row["backbone"] for row in best))
    figure, axes = figure_of(len(backbones), width=3.2)
    widths = sorted({row["width"] for row in best})
    shades = dict(zip(widths, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(widths))), strict=True))
    for axis, backbone in zip(axes, backbones, strict=True):
        for width in widths:
            own = sorted(
                (r["blocks"], r[NDCG], r["late"])
                for r in best
                if (r["backbone"], r["width"]) == (backbone, width)
            )
            if own:
                depth, value, late = zip(*own, strict=True)
                axis.plot(depth, value, marker="o", ms=4, color=shades[width], label=f"width {width}")
                started = np.array(late)
                axis.scatter(
                    np.array(depth)[started],
                    np.array(value)[started],
                    s=70,
                    facecolors="none",
                    edgecolors="red",
                )
        axis.set_xscale("log", base=2)
        axis.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        axis.set(title=backbone, xlabel="blocks", ylim=(0.0, 0.25))
    axes[0].set_ylabel("NDCG@10, MovieLens-1M test")
    axes[0].legend(fontsize=7)
    save(figure, path)


def draw_compute(best: Sequence[Row], path: Path) -> None:
    figure, (axis,) = figure_of(1, height=3.6, width=6.5)
    for color, backbone in zip(COLORS, dict.fromkeys(row["backbone"] for row in best), strict=False):
        own = [row for row in best if row["backbone"] == backbone]
        for late, shape in ((False, "o"), (True, "x")):
            kept = [row for row in own if row["late"] == late]
            label = f"{backbone}{', began to learn late' if late else ''}"
            costs, losses = [row["flops"] for row in kept], [row["loss"] for row in kept]
            axis.scatter(costs, losses, s=20, marker=shape, color=color, label=label if kept else None)
        lowest: list[tuple[float, float]] = []
        for row in sorted(own, key=lambda row: row["flops"]):
            if not lowest or row["loss"] < lowest[-1][1]:
                lowest.append((row["flops"], row["loss"]))
        axis.step(*zip(*lowest, strict=True), where="post", color=color, lw=1)
    axis.set_xscale("log")
    axis.set(xlabel="training FLOPs", ylabel="validation loss, nats a target")
    axis.legend(fontsize=8)
    save(figure, path)


def show_depth_and_width(
    rows: Sequence[Row], plots: Path, stem: str = "scaling", *, tell_late: bool = True
) -> None:
    """Tables, laws and plots of a grid; late starts are not told where rates are low, too."""
    best = [{**row, "late": row["late"] and tell_late} for row in best_of_tried(rows)]
    runs = len({row["run"] for row in rows})
    print(f"\n## Depth and width, {stem}: {runs} runs, {len(best)} sizes; \\*: a late start")
    show_sizes_of(best)
    show_depth(best)
    for backbone in dict.fromkeys(row["backbone"] for row in best):
        every = [row for row in best if row["backbone"] == backbone]
        began = [row for row in every if not row["late"]]
        for title, own in {backbone: every, f"{backbone}, without late starts": began}.items():
            if len(own) < 8 or (own is not every and len(own) == len(every)):
                continue
            points = Points.from_rows(own)
            for metric in (NDCG, HR):
                show_laws(f"{title}, {metric}", points, forms_of(metric))
            show_laws(f"{title}, validation loss", points, LOSS_FORMS)
        if len(began) >= 12:
            show_parameters(backbone, Points.from_rows(began), {**forms_of(NDCG), **LOSS_FORMS})
            show_coverage(backbone, Points.from_rows(began), {**forms_of(NDCG), **LOSS_FORMS})
            draw_fits(Points.from_rows(began), plots / f"{stem}-fits-{backbone.lower()}.svg")
    show_frontier(best, rows)
    show_best_for_budget(best)
    show_predictions(best, rows)
    draw_depth(best, plots / f"{stem}-depth.svg")
    draw_compute(best, plots / f"{stem}-compute.svg")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/results/scaling.csv"))
    parser.add_argument("--facts", type=Path, default=Path("benchmarks/results/scaling-planted.json"))
    parser.add_argument("--quality", type=Path, default=Path("benchmarks/results/scaling-quality.json"))
    parser.add_argument("--plots", type=Path, default=Path("docs"))
    options = parser.parse_args()
    rows = read_rows(options.csv)

    def of(*names: str) -> list[Row]:
        return [row for row in rows if row["experiment"].startswith(names)]

    def exactly(name: str) -> list[Row]:
        return [row for row in rows if row["experiment"] == name and "tokens" in row]  # not cut off

    def exactly_of(start: str) -> list[Row]:
        return [row for row in of(start) if "tokens" in row]

    if of("depth-"):
        show_depth_and_width(of("depth-"), options.plots)
    if of("mup-rates"):
        show_rates(of("mup-rates"))
    if exactly("mup"):
        show_depth_and_width(exactly("mup"), options.plots, "scaling-mup")
    if exactly("mup-half"):
        rates = [row for name in RATES for row in exactly(name)]
        show_depth_and_width(rates, options.plots, "scaling-mup-rates", tell_late=False)
    if exactly("mup-seed"):
        show_seeds("Half the rate over seeds", [*exactly("mup-half"), *exactly("mup-seed")])
    if exactly("mup-depth-40"):
        print("\n## Depth in 40 epochs, width 64, muP")
        show_sizes_of([{**row, "late": False} for row in best_of_tried(exactly("mup-depth-40"))])
    if exactly("mup-recommended"):
        show_recommended(exactly("mup"), exactly("mup-recommended"))
    if of("mup-large"):
        show_large(of("mup-large"))
        show_course(of("mup-large"))
        show_seeds("Wide and deep under muP over seeds", exactly("mup-large"))
    if exactly("seeds"):
        show_seeds("As published, 40 epochs, over seeds", exactly("seeds"))
    for start in ("fractions-", "equal-"):  # the first with fewer steps by time
        if exactly_of(start):
            show_fractions(exactly_of(start), options.quality)
            show_effective(exactly_of(start), options.quality)
    if of("transfer"):
        show_transfer(of("transfer"), options.plots / "scaling-transfer.svg")
    if of("noise-"):
        show_predictability(of("noise-"), options.facts, options.plots / "scaling-predictability.svg")
    for name, plot in (("sizes", "scaling-data.svg"), ("sizes-mup", "scaling-data-mup.svg")):
        if exactly(name):
            show_sizes(exactly(name), options.facts, options.plots / plot)


if __name__ == "__main__":
    main()
