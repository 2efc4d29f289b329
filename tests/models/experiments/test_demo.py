"""The demo's tables and report, with floors in place of trained models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

import behavior
from behavior.shards.folder import open_shards
from behavior.shards.manifest import Manifest
from behavior.synthetic import SyntheticConfig
from models.experiments import demo as module
from models.experiments.demo import LABELS, Demo, below_lines, repeat_rows, table_rows


def prepare(spec: Path, out: Path) -> Manifest:
    behavior.prepare(spec, out)
    return open_shards(out).manifest


def test_floors_stand_in_the_tables_and_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(SyntheticConfig, users=80, items=40, interests=8, personas=3, mean_events=12.0)
    monkeypatch.setattr(module, "SyntheticConfig", small)

    def trained(self: Demo, kind: str) -> dict[str, Any]:
        floor = {"hstu": "frequency", "sasrec": "popularity"}[kind]
        return module.evaluate_baselines([floor], self.shards)[0][floor]

    monkeypatch.setattr(Demo, "_train", trained)
    record = Demo(tmp_path / "demo", 0, prepare).run()
    results = record["results"]
    assert set(results) == set(LABELS)
    assert [row[0] for row in table_rows(record)] == list(LABELS.values())
    assert set(record["share_of_history_oracle"]) == set(LABELS) - {"history", "latent"}
    for label, repeat, explore in repeat_rows(record):
        name = next(name for name in LABELS if LABELS[name] == label)
        parts = results[name]["repeats"]
        assert (repeat, explore) == (parts["repeat"]["ndcg@10"], parts["explore"]["ndcg@10"])
    below = {
        name
        for name in LABELS
        if "counts" in results[name]
        and any(results[name][metric] > results["sasrec"][metric] for metric in ("ndcg@10", "hr@10"))
    } - {"hstu", "sasrec"}
    assert {each["floor"] for each in record["below_floors"]["sasrec"]} == below
    lines = below_lines(record)
    assert lines[-1].startswith("SASRec is below the floor: ")
    assert all(LABELS[name] in lines[-1] for name in below)
    page = Path(record["report"]).read_text(encoding="utf-8")
    assert all(label in page for label in LABELS.values())
    assert "NDCG@10 of repeat targets" in page
