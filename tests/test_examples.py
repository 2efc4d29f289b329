"""The loop written by hand does what `models.train` does; what benchmarks import is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import runpy
from pathlib import Path
from statistics import fmean

import pytest

import behavior
import models
from behavior.synthetic import SyntheticConfig, generate
from models.runs.metrics_log import read_metrics

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "train_by_hand.py"
OURS = {"behavior", "pipelines", "models", "cli", "benchmarks"}
EPOCHS = 3
SAME = [
    "model.kind=hstu",
    "model.blocks=2",
    "model.dim=32",
    "model.dropout=0",
    "model.max_length=50",
    "embedding.behaviors=add",
    f"train.epochs={EPOCHS}",
    "train.batch_sequences=32",
    "train.log_every_steps=1",
    "train.device=cpu",
    "evaluation.cutoffs=[10]",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by-hand")
    log = generate(SyntheticConfig(users=100, items=60, interests=6, personas=4, mean_events=20.0))
    behavior.prepare(log.write(folder / "raw"), folder / "shards")
    return folder / "shards"


def test_the_loop_by_hand_is_short_and_does_what_train_does(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 100
    losses = runpy.run_path(str(EXAMPLE))["train"](shards, EPOCHS)
    printed = capsys.readouterr().out
    assert losses == sorted(losses, reverse=True)
    ndcg = [float(value) for value in re.findall(r"valid NDCG@10 ([0-9.]+)", printed)]
    assert len(ndcg) == EPOCHS
    assert ndcg[-1] > 1 / 60

    models.train(models.load_config("default", SAME), shards, tmp_path / "run")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    expected = [
        fmean(line["loss"] for line in records if line["kind"] == "train" and line["epoch"] == epoch + 1)
        for epoch in range(EPOCHS)
    ]
    assert losses == pytest.approx(expected, rel=1e-3)
    valid = [line["ndcg@10"] for line in records if line["kind"] == "valid"]
    assert ndcg == pytest.approx(valid, abs=0.02)


def imported(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything of ours that a script imports, within functions too."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS
        for alias in node.names
    ]


def test_what_benchmarks_import_is_there() -> None:
    missing = []
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for module, name in imported(path):
            there = hasattr(importlib.import_module(module), name)
            if not there and importlib.util.find_spec(f"{module}.{name}") is None:
                missing.append(f"{path.name}: {module}.{name}")
    assert not missing
