"""Recommendations of a run: whether they are exact and agree with its evaluation, and users a second.

    python benchmarks/recommend.py RUN [--data DIR] [--device cuda] [--k 10] [--exact 200]
    python benchmarks/recommend.py --untrained ml-1m/sasrec --data DIR --exclude-seen --loop --rectools PYTHON
    python benchmarks/recommend.py --large 400000 200000 256 --parts --device cuda [--json FILE]

Exactness: for some users the vectors, and the logarithms of history, jump and trend mass, are taken as they
are, and scores of all items are made and sorted in float64 by a loop over items in plain Python. What float32
chose is compared item by item; where they differ, by how much less what was chosen scores.

Agreement: each user's history before the test target is written to a file with the ids of the log and the
target's time, `lrm recommend` reads it, and NDCG is computed from the file that it writes; beside it what
`lrm evaluate` reports for the run. A run trained on every event has no such report.

Speed: all users of the data set, the file with all rows included; the first batch is made once before, and
the median of `--repeats` is told, with the CPU seconds of this process. `--untrained RECIPE` takes random
weights, which take the same time, `--large USERS ITEMS WIDTH` a generated data set of `--events` a user, and
HSTU of this width. Neither is checked.

- `--index`: the same by an index of items (`lrm recommend --index ann`).
- `--parts`: the share of time in each part, in a pass of its own, since the device is waited for.
- `--loop`: the same by a plain loop in torch, without history, jump or trend logits.
- `--rectools PYTHON`: the same by RecTools' `recommend`, of SASRec of the same size, called in the
  environment of that interpreter (`pip install "rectools[torch]"`). All ways alternate, so that what else the
  machine does meets all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import torch
from recommend_peers.parts import timed_parts
from recommend_peers.plain_loop import plain_loop
from recommend_peers.untrained import large_data, untrained
from synthetic import machine

from models.build import sequences_of
from models.evaluate_run import evaluate
from models.evaluation.targets import find_targets
from models.serving.load import TrainedModel, load_model
from models.serving.recommend.asked import Question, ask, take_sequences
from models.serving.recommend.index import ItemIndex
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


def one_pass(model: TrainedModel, k: int, **wanted: Any) -> dict[str, float]:
    """All users, to a file."""
    begin, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = model.recommend(k=k, **wanted)
        rows = found.write(Path(folder) / "out.parquet")
    seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    record = {"users": found.told.users, "rows": rows, "seconds": seconds, "cpu_seconds": cpu}
    return record if found.told.recall is None else record | {"recall": found.told.recall}


def one_loop(model: TrainedModel, k: int, exclude_seen: bool) -> dict[str, float]:
    """The same by hand."""
    begin, used = time.perf_counter(), time.process_time()
    rows = plain_loop(model, k, exclude_seen)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    return {"users": len(rows) // k, "rows": len(rows), "seconds": seconds, "cpu_seconds": cpu}


def one_of_rectools(model: TrainedModel, k: int, exclude_seen: bool, python: str) -> dict[str, float]:
    """The same by RecTools, on the data set's events."""
    chosen = model.config.model
    settings = {"k": k, "threads": torch.get_num_threads(), "exclude_seen": exclude_seen}
    settings |= {name: getattr(chosen, name) for name in ("blocks", "dim", "heads", "max_length")}
    with tempfile.TemporaryDirectory() as folder:
        events = []
        for part in DataSetUsers(model.shards, sequences_of(model.shards, model.config, model.task.columns)):
            user = np.repeat(part.data.row, part.data.lengths)
            columns = {"user_id": user, "item_id": part.data.item, "datetime": part.data.timestamp}
            events.append(pa.table(columns))
        file = Path(folder) / "events.csv"
        csv.write_csv(pa.concat_tables(events), file)
        program = Path(__file__).parent / "recommend_peers" / "rectools_program.py"
        called = [python, str(program), str(file), json.dumps(settings)]
        apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(called, capture_output=True, text=True, env=apart)
    if done.returncode:
        raise SystemExit(f"RecTools failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def speed(model: TrainedModel, given: argparse.Namespace) -> dict[str, Any]:
    """Users a second, of all users, by every way that is asked for."""
    k, seen = given.k, bool(given.exclude_seen)
    wanted = {**_at_zero(model), "exclude_seen": seen}
    ways: dict[str, Callable[[], dict[str, float]]] = {"recommend": lambda: one_pass(model, k, **wanted)}
    if given.index:
        index = ItemIndex.build(model.served.module)
        ways["index"] = lambda: one_pass(model, k, index=index, **wanted)
    if given.loop:
        ways["loop"] = lambda: one_loop(model, k, seen)
    if given.rectools:
        ways["rectools"] = lambda: one_of_rectools(model, k, seen, given.rectools)
    next(iter(model.recommend(k=k, **wanted)))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, way in ways.items():
            found[name].append(way())
    record: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, passes in found.items():
        middle = sorted(passes, key=lambda one: one["seconds"])[len(passes) // 2]
        record[name] = {**middle, "users_a_second": middle["users"] / middle["seconds"]}
    if given.parts:
        parts, patched = timed_parts(model)
        with patched:
            whole = one_pass(model, k, **wanted)["seconds"]
        record["parts"] = {"seconds": whole, "shares": parts.shares(whole)}
    if model.served.module.device.type == "cuda":
        record["gpu"] = torch.cuda.get_device_name()
        record["gpu_bytes"] = torch.cuda.max_memory_allocated()
    return record


def taken(given: argparse.Namespace) -> TrainedModel:
    """The model that is asked about."""
    if given.large:
        users, items, width = given.large
        data = large_data(Path(given.folder or tempfile.mkdtemp()), users, items, given.events)
        settings = [f"model.dim={width}", "model.heads=4", "model.blocks=2", *given.set]
        return untrained(data, "default", ["model.kind=hstu", *settings], given.device)
    if given.untrained:
        return untrained(Path(given.data), given.untrained, given.set, given.device)
    return load_model(given.run, data=given.data, device=given.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--data", default=None)
    parser.add_argument("--untrained", help="a recipe, of random weights, on --data")
    parser.add_argument("--large", type=int, nargs=3, metavar=("USERS", "ITEMS", "WIDTH"))
    parser.add_argument("--events", type=int, default=25, help="of each user of --large")
    parser.add_argument("--folder", help="of the data of --large; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], help="a setting of an untrained model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--exact", type=int, default=200, help="users whose items are sorted in Python")
    parser.add_argument("--exclude-seen", action="store_true", help="leave seen items out, in every way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--rectools", metavar="PYTHON")
    parser.add_argument("--json", type=Path, help="write what is printed")
    given = parser.parse_args()
    if not (given.run or given.large or given.untrained):
        parser.error("a run, --untrained or --large is needed")
    model = taken(given)
    counts = {"items": len(model.item_ids), "dim": model.config.model.dim}
    record = {"run": given.run, "machine": machine(), "device": str(model.served.module.device), **counts}
    if given.run:
        record["exactness"] = exactness(model, given.exact, given.k)
        if model.config.loader.part != "all":
            record["agreement"] = agreement(model)
    record["speed"] = speed(model, given)
    text = json.dumps(record, indent=2, default=str)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
