"""Laws of the scaling experiments: how they fit, what they foresee and recommend."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scaling_points import Row, best_of_tried
from scaling_tables import NDCG, or_none, save, show_table

from models.scaling.laws import (
    PerformanceForm,
    PlainForm,
    Points,
    PowerForm,
    fit_law,
    halves,
    held_out,
    largest,
    shapes_of,
)
from models.scaling.laws.goodness import Goodness, fit_points, judged
from models.scaling.laws.law import Form
from models.scaling.report.svg import COLORS, figure_of

SPLITS = 20
COVERED = 5
"""Ways to halve the sizes, of which each half is predicted by the other."""
SHAPE = ("blocks", "width")
LARGEST = (*SHAPE, "parameters_backbone")


def forms_of(metric: str) -> dict[str, Form]:
    return {
        "Performance Law, blocks and width": PerformanceForm(metric),
        "plain power law, parameters": PlainForm(("parameters_backbone",), metric),
        "plain power law, blocks and width": PlainForm(("blocks", "width"), metric),
        "saturating power law, parameters": PowerForm(("parameters_backbone",), metric, rising=True),
    }


LOSS_FORMS: dict[str, Form] = {
    "loss, parameters": PowerForm(("parameters_backbone",)),
    "loss, blocks and width": PowerForm(("blocks", "width"), joint=2),
    "loss, compute": PowerForm(("flops",)),
}


def show_laws(title: str, points: Points, forms: dict[str, Form]) -> None:
    """R2 in-sample, on halves that were left out (the median of many), and on the largest sizes."""
    lines = []
    for name, form in forms.items():
        whole = or_none(fit_points, points, form)
        cells = ["-" if whole is None else f"{judged(whole, points, form).r2:.2f}"]
        halved = [or_none(held_out, points, form, halves(points, seed)) for seed in range(SPLITS)]
        known = [one.held_out.r2 for one in halved if one is not None]
        cells.append(f"{statistics.median(known):.2f}" if known else "-")
        for column in LARGEST:
            one = or_none(held_out, points, form, largest(points, column))
            cells.append("-" if one is None else left_out(one.held_out))
        lines.append([name, *cells])
    header = ["law", "R2 in-sample", f"held-out half, median of {SPLITS}"]
    header += [f"most {name} left out: R2; error" for name in LARGEST]
    show_table(f"{title}: {len(points)} sizes", header, lines)


def left_out(found: Goodness) -> str:
    r2 = "" if found.points < 3 else f"{found.r2:.2f}; "
    return f"{r2}{found.relative_error:.1%} ({found.points})"


def show_parameters(title: str, points: Points, forms: dict[str, Form]) -> None:
    lines = []
    for name, form in forms.items():
        law = or_none(fit_law, points, form)
        for parameter, one in {} if law is None else law.parameters().items():
            lines.append([name, parameter, f"{one.value:.3g}", f"{one.low:.3g} to {one.high:.3g}"])
    show_table(f"{title}, parameters with 90% intervals", ["law", "parameter", "value", "interval"], lines)


def show_coverage(title: str, points: Points, forms: dict[str, Form]) -> None:
    """How many of the sizes that a fit had not seen lie in its 90% interval of a run."""
    lines = []
    for name, form in forms.items():
        within: list[bool] = []
        for seed in range(COVERED):
            out = halves(points, seed)
            for left in (out, ~out):
                law = or_none(fit_law, points.where(~left), form)
                if law is None:
                    continue
                asked = {need: points.column(need)[left] for need in form.needs}
                said = law.predict(asked, extrapolate=np.inf)
                measured = points.column(form.of)[left]
                within += list((said.run_low <= measured) & (measured <= said.run_high))
        if within:
            lines.append([name, len(within), f"{statistics.fmean(within):.0%}"])
    show_table(f"{title}: held-out sizes within the 90% interval", ["law", "predictions", "within"], lines)


def show_predictions(best: Sequence[Row], rows: Sequence[Row]) -> None:
    """What the first lease's runs say of sizes, or rates, that a later one trained."""
    later = {row["run"] for row in rows if row["final"] and row["lease"] > 1}
    known = [
        row for row in best_of_tried([row for row in rows if row["run"] not in later]) if not row["late"]
    ]
    news = [row for row in best if row["run"] in later]
    lines = []
    for backbone in dict.fromkeys(row["backbone"] for row in news):
        points = Points.from_rows([row for row in known if row["backbone"] == backbone])
        for name, form in {"loss": LOSS_FORMS["loss, blocks and width"],
                           NDCG: PlainForm(("blocks", "width"), NDCG)}.items():  # fmt: skip
            law = or_none(fit_law, points, form)
            if law is None:
                continue
            for row in (row for row in news if row["backbone"] == backbone):
                said = law.predict({k: [float(row[k])] for k in ("blocks", "width")}, extrapolate=np.inf)
                low, high, value = said.run_low[0], said.run_high[0], row[name]
                within = "yes" if low <= value <= high else "no"
                asked = [backbone, f"{row['blocks']} x {row['width']}", name, f"{said.value[0]:.4f}"]
                lines.append([*asked, f"{low:.4f} to {high:.4f}", f"{value:.4f}", within])
    if lines:
        header = ["backbone", "blocks x width", "of", "predicted", "90% interval of a run"]
        show_table("Predicted by the first lease, trained later", [*header, "measured", "within"], lines)


def show_best_for_budget(best: Sequence[Row]) -> None:
    """The best affordable shape at the grid's number of epochs, by the law of the loss; how sure it is."""
    for backbone in dict.fromkeys(row["backbone"] for row in best):
        own = [row for row in best if row["backbone"] == backbone and not row["late"]]
        points = Points.from_rows(own)
        law = or_none(fit_law, points, LOSS_FORMS["loss, blocks and width"])
        shapes = or_none(shapes_of, points, [*range(2, 33, 2)], [*range(16, 129, 16)])
        if law is None or shapes is None or len(own) < 6:
            continue
        sizes = {name: shapes.column(name) for name in SHAPE}
        inside = law.cloud.factors(sizes) <= 1.0 + 1e-9
        cost = shapes.column("flops_per_token") * max(row["tokens"] for row in own)
        lines = []
        for budget in np.geomspace(*np.quantile([row["flops"] for row in own], [0.2, 0.9]), 4):
            kept = np.flatnonzero(inside & (cost <= budget))
            if not len(kept):
                continue
            table = {name: values[kept] for name, values in sizes.items()}
            wins = [int(np.argmin(draw.predict(table))) for draw in law.draws]
            chosen = int(np.argmin(law.law.predict(table)))
            said = law.predict({name: values[[chosen]] for name, values in table.items()})
            spans = (np.quantile(values[wins], [0.05, 0.95]) for values in table.values())
            shape = " x ".join(f"{values[chosen]:.0f}" for values in table.values())
            cells = [f"{budget:.1e}", shape, *(f"{low:.0f} to {high:.0f}" for low, high in spans)]
            lines.append([*cells, f"{said.value[0]:.3f}", f"{said.run_low[0]:.3f} to {said.run_high[0]:.3f}"])
        header = ["FLOPs", "best blocks x width", "blocks, 90%", "width, 90%", "loss", "of a run, 90%"]
        show_table(f"{backbone}: the best affordable shape, by the law of the loss", header, lines)


def draw_fits(points: Points, path: Path) -> None:
    """What laws say of sizes that they were not fitted to, each half by the law of the other."""
    forms = dict(list(forms_of(NDCG).items())[:2])
    figure, axes = figure_of(len(forms), width=3.6)
    measured = points.column(NDCG)
    for axis, (name, form) in zip(axes, forms.items(), strict=True):
        for color, seed in zip(COLORS, range(4), strict=False):
            out = halves(points, seed)
            for left in (out, ~out):
                found = or_none(held_out, points, form, left)
                if found is not None:
                    said = found.law.predict({n: points.column(n)[left] for n in form.needs})
                    axis.scatter(measured[left], said, s=10, color=color, alpha=0.7)
        ends = measured.min(), measured.max()
        axis.plot(ends, ends, color="black", lw=0.8)
        axis.set(
            title=name,
            xlabel="measured",
            xlim=(0.9 * ends[0], 1.05 * ends[1]),
            ylim=(0.9 * ends[0], 1.2 * ends[1]),
        )
    axes[0].set_ylabel("NDCG@10, by the law of the other half")
    save(figure, path)
