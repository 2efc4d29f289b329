"""Pictures of a run: the training loss and the validation metrics over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.runs.files import write_atomically

LOSS = "loss.png"
METRICS = "metrics.png"


def draw_curves(records: list[dict[str, Any]], metrics: Sequence[str], folder: Path) -> list[Path]:
    """Draw the records of a run as PNG files; a picture without data is left out.

    Args:
        records: as `models.runs.metrics_log.read_metrics` gives them.
        metrics: names of the validation metrics to be drawn.
        folder: where `loss.png` and `metrics.png` go.

    Returns:
        The files drawn.

    Raises:
        UserError: a file cannot be written.
    """
    losses = [record for record in records if record["kind"] == "train"]
    validations = [record for record in records if record["kind"] == "valid"]
    drawn = []
    if losses:
        drawn.append(_draw(losses, ["loss"], "training loss", folder / LOSS))
    names = [name for name in metrics if any(name in record for record in validations)]
    if names:
        drawn.append(_draw(validations, names, "validation", folder / METRICS))
    return drawn


def _draw(records: list[dict[str, Any]], names: list[str], title: str, path: Path) -> Path:
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [record["step"] for record in records]
    for name in names:
        values = [_number(record.get(name)) for record in records]
        axes.plot(steps, values, label=name, marker="." if len(steps) < 40 else "")
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(path, picture.getvalue())
    return path


def _number(value: Any) -> float:
    """What cannot be drawn leaves a gap."""
    return float(value) if isinstance(value, int | float) else math.nan
