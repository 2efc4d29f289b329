"""Recommendations of a run: whether they are exact and agree with its evaluation, and users a second.

    python benchmarks/recommend.py RUN [--data DIR] [--device cuda] [--k 10] [--exact 200]

Exactness: for some users the vectors, and the logarithms of history, jump and trend mass, are taken as they
are, and scores of all items are made and sorted in float64 by a loop over items in plain Python. What float32
chose is compared item by item; where they differ, by how much less what was chosen scores.

Agreement: each user's history before the test target is written to a file with the ids of the log and the
target's time, `lrm recommend` reads it, and NDCG is computed from the file that it writes; beside it what
`lrm evaluate` reports for the run. A run trained on every event has no such report.

Speed: all users of the data set, the file with all rows included; the first batch is made once before.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from synthetic import machine

from models.build import sequences_of
from models.evaluate_run import evaluate
from models.evaluation.targets import find_targets
from models.serving.load import TrainedModel, load_model
from models.serving.recommend.asked import Question, ask, take_sequences
from models.serving.recommend.users import DataSetUsers
from models.tasks.retrieval import model_scorer


def exactness(model: TrainedModel, users: int, k: int) -> dict[str, Any]:
    """Users with the same items as a loop in float64 has, and the largest loss of one chosen otherwise."""
    source = sequences_of(model.shards, model.config, model.task.columns)
    part = next(iter(DataSetUsers(model.shards, source)))
    chosen = np.flatnonzero(part.data.lengths > 0)[:users]
    data = take_sequences(part.data, chosen)
    question = Question(model.about.target_behaviors[0])
    whole, targets, _ = ask(data, question)
    scores = model_scorer(model.module, model.config.model)(whole, targets)
    query, items = scores.query.double().cpu(), scores.items.double().cpu()
    products = [[float((row * item).sum()) for item in items[: len(model.item_ids)]] for row in query]
    if scores.trend is not None:
        logits = torch.tensor(products, dtype=torch.float64, device=scores.device)
        products = scores.trend.add_to(logits, 0, logits.shape[1]).tolist()
    if scores.mass is not None:
        mass = scores.mass
        for row, item, more in zip(mass.rows.tolist(), mass.items.tolist(), mass.mass.tolist(), strict=True):
            products[row][item] = float(np.logaddexp(products[row][item], more))
    asked = part.users["user"].take(pa.array(chosen))
    last = np.maximum.reduceat(whole.timestamp, whole.offsets[:-1])
    found = [{"user": user.as_py(), "at": int(when)} for user, when in zip(asked, last.tolist(), strict=True)]
    same, loss = 0, 0.0
    served = model.recommend(asked.combine_chunks(), k=k, exclude_seen=False, **_at_zero(model)).table()
    items_of = {row["user"]: [] for row in found}
    for row in served.to_pylist():
        items_of[row["user"]].append(row["item"])
    index = {item: place for place, item in enumerate(model.item_ids.to_pylist())}
    for number, row in enumerate(found):
        best = sorted(range(len(index)), key=lambda item: (-products[number][item], item))[:k]
        given = [index[item] for item in items_of[row["user"]]]
        same += given == best
        pairs = zip(given, best, strict=True)
        loss = max(loss, *(products[number][b] - products[number][g] for g, b in pairs))
    return {"users": len(found), "k": k, "same_items_in_order": same, "largest_loss_of_score": loss}


def _at_zero(model: TrainedModel) -> dict[str, Any]:
    """Asked at the time of everyone's last event."""
    return {"at": 0} if model.about.has_time and model.config.model.time == "known" else {}


def export_histories(model: TrainedModel, path: Path) -> dict[Any, list[Any]]:
    """Histories before the test targets as a file, a user a row; the targets of each user."""
    about, ids = model.about, model.item_ids
    source = sequences_of(model.shards, model.config, model.task.columns)
    targets: dict[Any, list[Any]] = {}
    rows: list[dict[str, Any]] = []
    for part in DataSetUsers(model.shards, source):
        data, users = part.data, part.users["user"].to_pylist()
        found = find_targets(data, "test")
        for sequence, stop, event in zip(found.sequence, found.stop, found.event, strict=True):
            begin = data.offsets[sequence]
            if stop == begin:
                continue
            item = data.item[begin:stop].astype(np.int64) - about.first_item
            target = int(data.item[event]) - about.first_item
            targets.setdefault(users[sequence], []).append(ids[target].as_py() if target >= 0 else None)
            if len(targets[users[sequence]]) > 1:
                continue
            text = ids.take(pa.array(item, mask=item < 0)).cast(pa.string())
            rows.append(
                {
                    "user": users[sequence],
                    "item": pc.fill_null(text, "0" if pa.types.is_integer(ids.type) else "?").to_pylist(),
                    "behavior": [about.behaviors[one - 1] for one in data.behavior[begin:stop]],
                    "timestamp": _ticks(model, data.timestamp[begin:stop]).tolist(),
                    "at": int(_ticks(model, data.timestamp[event : event + 1])[0]),
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return targets


def _ticks(model: TrainedModel, seconds: np.ndarray) -> np.ndarray:
    return seconds * {"s": 1, "ms": 1_000, "us": 1_000_000, "none": 1}[model.shards.manifest.timestamp_unit]


def agreement(model: TrainedModel) -> dict[str, Any]:
    """NDCG@10 of the file of recommendations, and of the report; a target or a basket a user."""
    with tempfile.TemporaryDirectory() as folder:
        histories, out = Path(folder) / "histories.parquet", Path(folder) / "out.parquet"
        targets = export_histories(model, histories)
        model.recommend(histories=histories, k=10).write(out)
        gains: dict[Any, float] = dict.fromkeys(targets, 0.0)
        for row in pq.read_table(out).to_pylist():
            if row["answer"] == "model":
                wanted = targets[row["user"]]
                gains[row["user"]] += wanted.count(row["item"]) / len(wanted) / math.log2(row["rank"] + 1)
    report = evaluate(model, "test", cutoffs=[10], bootstrap=0)
    of_file = sum(gains.values()) / len(gains)
    return {"users": len(gains), "ndcg@10_of_the_file": of_file, "ndcg@10_reported": report["ndcg@10"]}


def speed(model: TrainedModel, k: int) -> dict[str, Any]:
    """Users a second, of all users."""
    next(iter(model.recommend(k=k)))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = model.recommend(k=k)
        rows = found.write(Path(folder) / "out.parquet")
    seconds = time.perf_counter() - begin
    return {"users": found.told.users, "rows": rows, "users_a_second": found.told.users / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--exact", type=int, default=200, help="users whose items are sorted in Python")
    arguments = parser.parse_args()
    model = load_model(arguments.run, data=arguments.data, device=arguments.device)
    record = {"run": arguments.run, "machine": machine(), "device": str(model.module.device)}
    record["exactness"] = exactness(model, arguments.exact, arguments.k)
    if model.config.loader.part != "all":
        record["agreement"] = agreement(model)
    record["speed"] = speed(model, arguments.k)
    print(json.dumps(record, indent=2, default=str))


if __name__ == "__main__":
    main()
