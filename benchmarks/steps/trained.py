"""Tokens/s that `lrm train` reports, and what the host does for a step."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps.measured import (
    BLOCKS,
    CHANGES,
    ITEMS,
    LONGEST,
    NEGATIVES,
    SHARED,
    TOKENS,
    WIDTH,
    Results,
    Row,
    longest,
    without,
)
from benchmarks.steps.whole import Step, timed

WAYS: dict[str, list[str]] = {
    "float32, not captured": ["train.precision=32-true", "train.cuda_graphs=false"],
    "not captured": ["train.cuda_graphs=false"],
    "defaults": [],
    "defaults, without changes": [],
    "defaults, report every 100 steps": ["train.log_every_steps=100"],
    "defaults, sparse_rowwise_adagrad": ["optimizer.item_table=sparse_rowwise_adagrad"],
    "defaults, in batch, logQ": ["loss.negatives.source=in_batch", "loss.negatives.logq=true"],
}


def train(results: Results, events: int, epochs: int, ways: Sequence[str]) -> None:
    import behavior
    from benchmarks.prepare_peers.events import write_events
    from models.config import load_config
    from models.training import train as run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        since = time.perf_counter()
        spec = write_events(folder / "log", events, "parquet")
        shards = behavior.prepare(spec, folder / "shards").folder
        results.add("prepare", {"events": events, "seconds": time.perf_counter() - since})
        common = [
            f"model.blocks={BLOCKS}", f"model.dim={WIDTH}", "model.heads=4", f"model.max_length={LONGEST}",
            f"train.batch_tokens={TOKENS}", f"train.epochs={epochs}",
            "loader.part=train+valid", "train.checkpoint_every_steps=1000000",
        ]  # fmt: skip
        shared = ["loss.negatives.sharing=batch", f"loss.negatives.count={SHARED}"]
        host_parts(results, load_config(overrides=[*common, *shared]), shards)
        for number, way in enumerate(ways):
            settings, turned_off = WAYS[way], CHANGES if way.endswith("without changes") else ()
            watched = Rates()
            begun = time.perf_counter()
            try:
                own = settings if "loss.negatives.source=in_batch" in settings else [*shared, *settings]
                config = load_config(overrides=[*common, *own])
                with without(*turned_off):
                    run(config, shards, folder / f"run-{number}", observer=watched)
            except Exception as error:  # the other ways are worth having
                results.add("train", {"way": way, "error": repr(error)[:300]})
                continue
            row = {"way": way, "M tokens/s": watched.rate / 1e6, "waiting": watched.waited}
            row |= {"first epoch s": watched.first, "run s": time.perf_counter() - begun, "mfu": watched.mfu}
            results.add("train", row)


class Rates:
    """Tokens/s of the reports after the first epoch, and how long that took."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def started(self, start: Any) -> None:
        self.since, self.first = time.perf_counter(), 0.0

    def stepped(self, progress: Any) -> None:
        if progress.epoch == 1:
            self.first = time.perf_counter() - self.since
        else:
            self.found.append(progress)

    def validated(self, validation: Any) -> None:
        pass

    def finished(self, result: Any) -> None:
        pass

    @property
    def rate(self) -> float:
        return statistics.median(one.tokens_per_second for one in self.found)

    @property
    def waited(self) -> float:
        return statistics.fmean(one.waiting for one in self.found)

    @property
    def mfu(self) -> float:
        return statistics.median(one.mfu or 0.0 for one in self.found)


def host_parts(results: Results, config: Any, shards: Any) -> None:
    """Milliseconds a step of the loader alone, and of what `lrm train` does on the host besides."""
    from behavior.shards.folder import open_shards
    from models.build import build_task, make_loader, sequences_of
    from models.training.static_input import StaticInput, StepSize

    opened = open_shards(shards)
    task = build_task(config, opened)
    source = sequences_of(opened, config, task.columns)
    loader = make_loader(config, source, opened.manifest.behaviors, pin=True)
    list(loader)  # reads, and compiles
    parts: dict[str, float] = dict.fromkeys(("loader", "prepare", "lengths", "put"), 0.0)
    rooms: dict[StepSize, StaticInput] = {}
    count, batches = 0, iter(loader)
    while True:
        marks = [time.perf_counter()]
        batch = next(batches, None)
        if batch is None:
            break
        marks.append(time.perf_counter())
        step = task.prepare(batch)
        marks.append(time.perf_counter())
        lengths = task.token_lengths(batch)
        task.squared_lengths(lengths)
        marks.append(time.perf_counter())
        size = StepSize.holding(step)
        if size not in rooms:
            rooms[size] = StaticInput(size, step, longest=LONGEST, device=torch.device("cuda"))
        rooms[size].put(step)
        marks.append(time.perf_counter())
        for name, begin, end in zip(parts, marks, marks[1:], strict=False):
            parts[name] += end - begin
        count += 1
    loader.close()
    row: Row = {f"{name} ms": 1e3 * seconds / count for name, seconds in parts.items()}
    results.add("host", row | {"steps": count, "sizes": [list(size) for size in rooms]})
    size, room = next(iter(rooms.items()))
    for item_table in ("adamw", "sparse_rowwise_adagrad"):
        step = Step(ITEMS, NEGATIVES["shared"], item_table, room.step)
        row = {"item table": item_table, "size": list(size), **timed(step.replay, size.tokens)}
        results.add("step of the log", row | {"longest": longest(step.replay, 40)})
