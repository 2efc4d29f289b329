"""The folder of a finished grid, written by hand: the losses of its runs follow a law."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.experiments.results import RunRecord, append_record
from models.scaling.grid import ScaleGrid
from models.scaling.rates import Asked
from models.scaling.store import Store

NASTY = '<script>alert("x")</script>'
"""A name that is to stand in no page as it is."""


def planted_loss(parameters: float, tokens: float, noise: float) -> float:
    return (2.0 + 40.0 * parameters**-0.4 + 300.0 * tokens**-0.4) * (1.0 + noise)


def write_grid(out: Path, blocks: Sequence[int] = (2, 4, 8)) -> ScaleGrid:
    """A finished grid of two backbones whose losses follow a law, and one run that failed."""
    rule = {"rates": [0.001, 0.003], "rule": "each"}
    backbones: dict[str, Any] = {"HSTU": {}, NASTY: {"model.kind": "llama"}}
    grid = ScaleGrid(
        title="planted", backbones=backbones, blocks=[*blocks], widths=[16, 32], learning_rate=rule
    )
    store, draw = Store(out), np.random.default_rng(0)
    store.begin_call(grid, "data")
    for size in grid.sizes():
        for rate in rule["rates"]:
            digest = f"{len(list(store.results.glob('*'))):016x}"
            run = store.runs / digest
            run.mkdir(parents=True)
            parameters = 12 * size.blocks * size.width**2
            lines, noise = [], draw.normal(0.0, 0.002)
            for epoch in range(1, 6):
                tokens = 1e5 * epoch
                loss = planted_loss(parameters, tokens, noise) + (0.1 if rate == 0.003 else 0.0)
                seen = {"tokens": tokens, "flops": 6.0 * parameters * tokens, "minutes": 0.1 * epoch}
                metrics = {"ndcg@10": 1.0 / loss, "hr@10": 2.0 / loss, "log_loss": loss}
                lines.append({"kind": "valid", "step": 10 * epoch, "epoch": epoch, **metrics, **seen})
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            summary = {
                "backbone": "hstu", "data": "planted", "blocks": size.blocks, "width": size.width,
                "length": 200, "seed": 0, "learning_rate": rate, "data_fraction": 1.0,
                "data_by": "users", "best_epoch": 5, "unique_events": 100000,
                "seconds": 30.0, "gpu_seconds": 30.0, "gpu_joules": 9000.0,
                "device": "a card", "parameters": {"embedding": 5, "backbone": parameters, "other": 0,
                "total": parameters + 5},
            }  # fmt: skip
            (run / "summary.json").write_text(json.dumps(summary))
            valid = {"ndcg@10": lines[-1]["ndcg@10"]}
            record = RunRecord(
                table="planted", line=size.label, seed=0, settings={}, recipe="default", digest=digest,
                data="planted", time="known", test={"ndcg@10": 0.9 * valid["ndcg@10"]}, valid=valid,
                best_epoch=5, epochs=5, steps=50, parameters=parameters, minutes=0.5, device="a card",
                version="1",
            )  # fmt: skip
            store.write_result(Asked(size, rate, searches=True), record, run, {"wall_seconds": 31.0})
            append_record(out / "results.csv", record)
    store.write_failure(Asked(grid.sizes()[0], 0.1, searches=True), "f" * 16, f"no memory {NASTY}", "")
    return grid
