"""Pictures of predictions: the ROC curve and the calibration curve of each label."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from behavior.files import write_whole
from models.evaluation.actions.auc import AucCounter
from models.evaluation.actions.calibration import Calibration
from models.evaluation.actions.losses import probabilities
from models.evaluation.actions.report import ActionEvaluation

ROC = "roc.png"
CALIBRATION = "calibration.png"


def draw_figures(evaluations: dict[str, ActionEvaluation], folder: Path) -> list[Path]:
    """Draw `roc.png` and `calibration.png`, a curve for each model and binary label.

    Args:
        evaluations: what predicted -> its evaluation.
        folder: where they go; there must be one.

    Returns:
        The files drawn: none without a binary label.

    Raises:
        UserError: a file cannot be written.
    """
    curves = [
        (name if len(one.rows.labels) == 1 else f"{name}: {label.name}", one, number)
        for name, one in evaluations.items()
        for number, label in enumerate(one.rows.labels)
        if label.is_binary
    ]
    if not curves:
        return []
    roc, calibration = _axes("false positive rate", "true positive rate"), _axes("predicted", "observed")
    for name, one, number in curves:
        known = ~np.isnan(one.rows.label[:, number])
        truth, logits = one.rows.label[known, number], one.predicted[known, number]
        counter = AucCounter()
        counter.add(logits, truth)
        points = counter.roc()
        if len(points):
            roc[1].plot(points[:, 0], points[:, 1], label=f"{name} ({counter.auc():.4f})", linewidth=1.2)
        table = Calibration.of(probabilities(logits), truth).table()
        calibration[1].plot(
            [bucket["predicted"] for bucket in table],
            [bucket["observed"] for bucket in table],
            marker=".",
            label=name,
            linewidth=1.2,
        )
    return [_saved(roc, folder / ROC), _saved(calibration, folder / CALIBRATION)]


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1.0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(drawn: tuple[Figure, Axes], path: Path) -> Path:
    figure, axes = drawn
    if axes.get_legend_handles_labels()[1]:  # a label that is always the same has no ROC curve
        axes.legend(fontsize="small")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(path, picture.getvalue(), "the figure")
    return path
