"""Planted logs: the setting that a structure needs comes near the best possible ranker, others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

import behavior
from behavior.synthetic.planted import PLANTED
from models.evaluate_run import evaluate
from models.experiments import load_table
from models.training import train

# The table's first line has what is needed; the other line not. The cycle of 520 events and its histories of
# 700 and 500 (`benchmarks/planted.py`) are 40, 110 and 38 here.
NEEDED = [
    ("repeats", "hr@10", "none", 0.06, 0.15, {}, {}),
    ("funnel", "hr@1", "behaviors ignored", 0.08, 0.5, {}, {}),
    ("features", "hr@1", "ids alone", 0.2, 0.4, {}, {}),
    ("domains", "hr@1", "the shop alone", 0.1, 0.7, {}, {}),
    (
        "cycle",
        "hr@1",
        "history of 500",
        0.1,
        0.6,
        {"users": 48, "period": 40, "length": 160},
        {"history of 700": 110, "history of 500": 38},
    ),
]


@pytest.mark.parametrize(
    ("name", "metric", "other", "near", "far", "sizes", "lengths"), NEEDED, ids=lambda value: str(value)[:8]
)
def test_only_what_a_structure_needs_comes_near_the_best(
    tmp_path: Path,
    name: str,
    metric: str,
    other: str,
    near: float,
    far: float,
    sizes: dict[str, int],
    lengths: dict[str, int],
) -> None:
    log = PLANTED[name](seed=0, **sizes)
    best = log.best_hr(int(metric.removeprefix("hr@")))
    shards = behavior.prepare(log.write(tmp_path / "raw"), tmp_path / "shards").folder
    table = load_table(f"planted/{name}")
    first = next(iter(table.rows))
    found = {}
    for line in (first, other):
        settings = {**table.lines()[line], "train.device": "cpu"}
        if line in lengths:
            settings |= {"model.max_length": lengths[line], "train.batch_sequences": 8, "train.epochs": 20}
        config = table.config(settings, 0, [])
        train(config, shards, tmp_path / line)
        found[line] = evaluate(tmp_path / line, "test", device="cpu", bootstrap=0)[metric]
    assert found[first] > best - near
    assert found[other] < best - far
