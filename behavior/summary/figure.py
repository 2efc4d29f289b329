"""One picture of a data set: a panel each for lengths, popularity, time, behaviors, domains, facts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from behavior.files import write_whole
from behavior.shards.folder import ShardFolder
from behavior.summary.event_sample import EventSample
from behavior.summary.panels import (
    draw_concentration,
    draw_facts,
    draw_lengths,
    draw_popularity,
    draw_shares,
    draw_time,
)
from behavior.wording import number_of

_COLUMNS = 3


def shard_figure(shards: ShardFolder, sample: EventSample, facts: list[tuple[str, str]]) -> Figure:
    """Draw a data set, a panel each: lengths, popularity, concentration, time, behaviors, domains, facts.

    A log without times has no panel of time, one without domains none of domains; one with both has none of
    concentration, so that there are never more than six.

    Args:
        shards: the data set.
        sample: its events by time and domain, see `sample_events`.
        facts: names and values that stand in the last panel.
    """
    stats = shards.stats()
    counts = np.sort(shards.items().column("count").to_numpy())[::-1]
    panels: list[Callable[[Axes], None]] = [
        lambda axes: draw_lengths(axes, stats["sequence_length"]),
        lambda axes: draw_popularity(axes, counts),
    ]
    timed, several = len(sample.edges) > 0, len(sample.domains) > 0
    if not (timed and several):
        panels.append(lambda axes: draw_concentration(axes, counts))
    if timed:
        panels.append(lambda axes: draw_time(axes, sample, stats["behaviors"], stats["time"]["unit"]))
    panels.append(lambda axes: draw_shares(axes, "behaviors", stats["behaviors"], colored=timed))
    if several:
        domains = dict(zip(shards.manifest.domains, sample.domains.tolist(), strict=True))
        panels.append(lambda axes: draw_shares(axes, f"domains{sample.note}", domains))
    panels.append(lambda axes: draw_facts(axes, facts))
    return _arranged(panels, f"{shards.manifest.name}: {number_of(shards.manifest.counts.events, 'event')}")


def _arranged(panels: list[Callable[[Axes], None]], title: str) -> Figure:
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(5 * _COLUMNS, 4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, _COLUMNS)
    for number, draw in enumerate(panels):
        row, column = divmod(number, _COLUMNS)
        last = number == len(panels) - 1
        draw(figure.add_subplot(grid[row, column:] if last else grid[row, column]))
    figure.suptitle(title, fontsize=15, fontweight="bold")
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whole or not at all, in place of one that is there.

    Raises:
        UserError: it cannot be written.
    """
    drawn = BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; there is nothing to do about it.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(drawn, format="png", dpi=100)
    write_whole(path, drawn.getvalue(), "--png")
