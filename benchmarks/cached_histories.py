"""Cached histories against histories computed anew, on one GPU: 256 candidates after 4,096 events.

    PYTHONPATH=. python benchmarks/cached_histories.py [--users 1 8 32] [--small] [--profile] [--json FILE]

HSTU with 8 blocks of width 1,024, 4 heads, both biases, bf16. Of each history 3,968 events are cached, 128
are new, and 256 candidates stand after it (M-FALCON); anew, all of them are computed in one pass.

- `blocks`: the 8 blocks alone, of new events and candidates.
- `end to end`: from new events and ids of candidates on the host to outputs of candidates there, in one pass
  (`candidates(new=...)`); anew, one forward pass.
- `candidates`: of a history that has no new events; anew, the same pass as above.
- `question`: another question about all histories (`queries`); anew, a forward pass of the histories.
- `one event`: one new event a user (`append`), to the query after it; anew, a forward pass of the histories.
- `error`: relative distance of the candidates' outputs from those computed anew; in the rows as JSON, how far
  both are from the same computed in float32, too (`from float32`, `anew from float32`).
- `MB a user`: of pages.

Each as calls, and replayed as a CUDA graph: what is cached by `HistoryCache(graphs=True)`, which is padded
for it and whose input is copied in; blocks, and what is computed anew, as the graph of this one call. Times
are medians in milliseconds. A part that fails is a row with its error. `--profile` lists the kernels of the
blocks as calls. `--small` is for trying the script on a CPU, where there are no graphs.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.cached_measured import (
    SMALL,
    Anew,
    Kept,
    Row,
    Size,
    distance,
    joined,
    make_batch,
    make_budget,
    make_model,
    milliseconds,
    replayed,
    wait,
)
from models.data.batch import PackedBatch
from models.gpu.precision import mixed_precision
from models.serving.cache import HistoryCache
from models.serving.cache.growing import Storage

MOST_KERNELS = 16


class Measurement:
    """Of so many users: one model, what they did, and what is computed anew."""

    def __init__(self, size: Size, users: int) -> None:
        self.size, self.users, self.model = size, users, make_model(size)
        cached = size.history - size.new
        self.former, self.new = make_batch(size, users, 0, cached), make_batch(size, users, cached, size.new)
        self.next = make_batch(size, users, cached, 1)
        asked = make_batch(size, users, size.history, size.candidates)
        self.at = 600 * size.history
        at = torch.full_like(asked.timestamp, self.at)
        asked = asked.with_values(timestamp=at, query_time=at)
        self.items, self.counts, self.ids = asked.item, [size.candidates] * users, range(users)
        self.anew = Anew(self.model, joined([self.former, self.new, asked], users), size.candidates)
        self.history = Anew(self.model, joined([self.former, self.new], users), 0)
        self.storage: Storage = "bfloat16" if size.device == "cuda" else "float32"

    def cache(self, graphs: bool) -> HistoryCache:
        budget = make_budget(self.size, self.users, self.storage)
        found = HistoryCache(
            self.model,
            budget,
            time="known",
            window=self.size.history,
            storage=self.storage,
            graphs=graphs and torch.cuda.is_available(),
        )
        self.begin(found)
        return found

    def begin(self, cache: HistoryCache) -> None:
        """All but the new events are in it."""
        cache.forget(self.ids)
        cache.append(self.ids, self.former)

    def outputs(self, cache: HistoryCache, new: PackedBatch | None) -> Tensor:
        """[candidates, dim] on the host."""
        size = self.size.candidates
        return cache.candidates(self.ids, self.items, self.counts, self.at, new=new, at_once=size).cpu()

    def about(self) -> Row:
        """How far outputs are apart, and what is used."""
        cache = self.cache(graphs=False)
        found, anew = self.outputs(cache, self.new), self.anew.outputs().flatten(0, 1)
        exact, counts = self.exact(), cache.counts
        return {
            "error": distance(found, anew),
            "from float32": distance(found, exact),
            "anew from float32": distance(anew, exact),
            "MB a user": counts.used_bytes / counts.users / 1e6,
        }

    def exact(self) -> Tensor:
        """[candidates, dim] of the same weights, computed anew in float32 throughout."""
        device, precision = self.model.device.type, torch.get_float32_matmul_precision()
        anew = Anew(copy.deepcopy(self.model).float(), self.anew.batch, self.size.candidates)
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.autocast(device, enabled=False):
                return anew.outputs().flatten(0, 1)
        finally:
            torch.set_float32_matmul_precision(precision)

    def blocks(self, graphs: bool) -> Row:
        cache = self.cache(graphs=False)
        kept = Kept(cache._passes.backbone)
        cache._passes.backbone = kept  # type: ignore[assignment]
        self.outputs(cache, self.new)
        return self.row(*(replayed(call) if graphs else call for call in (kept.again, self.anew.blocks)))

    def end_to_end(self, graphs: bool) -> Row:
        cache = self.cache(graphs)
        ours = milliseconds(lambda: self.outputs(cache, self.new), lambda: self.begin(cache))
        return self.row(ours, self.anew.outputs) | recorded(cache)

    def candidates(self, graphs: bool) -> Row:
        cache = self.cache(graphs)
        cache.append(self.ids, self.new)
        return self.row(lambda: self.outputs(cache, None), self.anew.outputs) | recorded(cache)

    def question(self, graphs: bool) -> Row:
        cache = self.cache(graphs)
        ours = milliseconds(lambda: cache.queries(self.ids, self.at).cpu())
        return self.row(ours, self.history.outputs) | recorded(cache)

    def one_event(self, graphs: bool) -> Row:
        cache = self.cache(graphs)
        ours = milliseconds(lambda: cache.append(self.ids, self.next).cpu(), lambda: self.begin(cache))
        return self.row(ours, self.history.outputs) | recorded(cache)

    def row(self, ours: float | Callable[[], object], theirs: Callable[[], object]) -> Row:
        cached = ours if isinstance(ours, float) else milliseconds(ours)
        anew = milliseconds(theirs)
        return {"cached": cached, "anew": anew, "times": anew / cached}

    def kernels(self) -> Row:
        """Milliseconds of the device in the kernels of the blocks, as calls."""
        cache = self.cache(graphs=False)
        kept = Kept(cache._passes.backbone)
        cache._passes.backbone = kept  # type: ignore[assignment]
        self.outputs(cache, self.new)
        found: Row = {}
        for name, call in (("cached", kept.again), ("anew", self.anew.blocks)):
            call()
            with torch.profiler.profile() as profile:
                call()
                wait()
            events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
            found[name] = {
                event.key[:80]: [event.count, round(event.self_device_time_total / 1000, 4)]
                for event in events[:MOST_KERNELS]
                if event.self_device_time_total
            }
        return found


def recorded(cache: HistoryCache) -> Row:
    """Why nothing was replayed, where it was to be."""
    replays = cache._passes.replays
    if replays is None or (replays.reason is None and replays.passes):
        return {}
    return {"error": f"not replayed: {replays.reason}"}


def tried(about: Row, measure: Callable[[], Row]) -> Row:
    """A row, or why there is none."""
    try:
        return about | measure()
    except Exception as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return about | {"error": f"{type(error).__name__}: {error}"[:500]}


def measure(size: Size, users: int, profile: bool) -> Iterator[Row]:
    """Rows, one part after the other."""
    try:
        of = Measurement(size, users)
    except Exception as error:
        yield {"users": users, "part": "all", "error": f"{type(error).__name__}: {error}"[:500]}
        return
    yield tried({"users": users, "part": "outputs"}, of.about)
    parts = {
        "blocks": of.blocks,
        "end to end": of.end_to_end,
        "candidates": of.candidates,
        "question": of.question,
        "one event": of.one_event,
    }
    for part, call in parts.items():
        for graphs in (False, True) if torch.cuda.is_available() else (False,):
            how = {"users": users, "part": part, "how": "CUDA graph" if graphs else "calls"}
            yield tried(how, lambda call=call, graphs=graphs: call(graphs))  # type: ignore[misc]
    if profile:
        yield tried({"users": users, "part": "kernels"}, of.kernels)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """With what `measure_all` looks at."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--small", action="store_true", help="for trying the script on a CPU")
    parser.add_argument("--json", type=Path)
    return parser


def measure_all(options: argparse.Namespace, measure: Callable[[Size, int], Iterator[Row]]) -> list[Row]:
    """The rows of each number of users, printed as they come, and written to a file that is asked for."""
    size = SMALL if options.small else Size()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    rows: list[Row] = []
    half = size.device == "cuda"
    with torch.no_grad(), mixed_precision(size.device, enabled=half, cache_enabled=False):
        for row in (row for users in options.users for row in measure(size, users)):
            rows.append(row)
            print(json.dumps(row), flush=True)
            if options.json:  # also of a run that is cut off
                found = {"device": name, "torch": torch.__version__, "size": asdict(size), "rows": rows}
                options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return rows


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    rows = measure_all(options, lambda size, users: measure(size, users, options.profile))
    table = Table("users", "part", "how", "cached", "anew", "times", "MB a user", "error")
    for row in rows:
        table.add_row(*(shown(row.get(str(column.header), "")) for column in table.columns))
    Console(width=120).print(table)


def shown(value: object) -> str:
    """A cell of the table."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
