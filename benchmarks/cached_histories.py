"""Cached histories against histories computed anew, on one GPU: 256 candidates after 4,096 events.

    PYTHONPATH=. python benchmarks/cached_histories.py [--users 1 8 32] [--small] [--json FILE]

HSTU with 8 blocks of width 1,024, 4 heads, both biases, bf16. Of each history 3,968 events are cached, 128
are new, and 256 candidates stand after it (M-FALCON); anew, all of them are computed in one pass.

- `blocks`: the 8 blocks alone, of new events and candidates; as calls, and replayed as a CUDA graph.
- `end to end`: from new events and ids of candidates on the host to outputs of candidates there: `append`,
  then `candidates`; anew, one forward pass.
- `question`: another question about all histories (`queries`); anew, a forward pass of the histories.
- `error`: relative distance of the candidates' outputs.
- `MB a user`: of pages.

Times are medians in milliseconds. `--small` is for trying the script on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from models.attention.masks import Causal
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.gpu.precision import mixed_precision
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.inputs.tokens import Tokens
from models.serving.cache import HistoryCache
from models.tasks.retrieval.model import RetrievalModel

CALLS = 9
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What is measured."""

    history: int = 4_096
    new: int = 128
    candidates: int = 256
    blocks: int = 8
    dim: int = 1_024
    items: int = 100_000
    device: str = "cuda"


SMALL = Size(48, 4, 8, 2, 32, 100, "cpu")


def make_model(size: Size) -> RetrievalModel:
    """Positions for candidates, too, so that it can compute them anew."""
    torch.manual_seed(0)
    config = BackboneConfig(kind="hstu", blocks=size.blocks, dim=size.dim, heads=4)
    longest = size.history + size.candidates
    counts = torch.ones(size.items, dtype=torch.int64)
    embedding = InputEmbedding(
        EmbeddingConfig(), ItemCatalog(size.items, 2, counts), 1, size.dim, longest, dropout=0.0
    )
    backbone = build_backbone(config, max_length=longest)
    model = RetrievalModel(embedding, backbone, first_item=2, num_items=size.items - 2, normalize=False)
    if size.device == "cuda":
        for module in model.modules():  # or every call would round them
            if isinstance(module, nn.Linear):
                module.bfloat16()
    return model.eval().to(size.device)


def make_batch(size: Size, users: int, first: int, length: int) -> PackedBatch:
    """Events `first` to `first + length` of as many users, ten minutes apart."""
    generator = np.random.default_rng(first)
    items = generator.integers(2, size.items, (users, length)).tolist()
    times = np.broadcast_to(600 * np.arange(first, first + length), (users, length))
    return PackedBatch.from_lists(items, timestamps=times.tolist(), query_times=(times + 600).tolist())


def joined(parts: list[PackedBatch], users: int) -> PackedBatch:
    """The same users' events, one part after the other."""
    rows: dict[str, list[list[int]]] = {
        name: torch.cat([part[name].view(users, -1) for part in parts], 1).tolist()
        for name in ("item", "timestamp", "query_time")
    }
    return PackedBatch.from_lists(rows["item"], timestamps=rows["timestamp"], query_times=rows["query_time"])


class Anew:
    """All events and candidates in one pass."""

    def __init__(self, model: RetrievalModel, batch: PackedBatch, candidates: int) -> None:
        self.model, self.candidates = model, candidates
        self.batch = batch
        self.x, self.tokens = self.inputs()

    def inputs(self) -> tuple[Tensor, Tokens]:
        batch = self.batch.to(self.model.device)
        users, length = batch.num_sequences, batch.max_length
        counts = torch.full((users,), self.candidates, device=self.model.device)
        last = torch.full_like(batch.position, length - self.candidates)
        batch = batch.with_values(position=torch.minimum(batch.position, last))
        x, tokens = self.model.embedding(batch)
        return x, replace(tokens, mask=Causal(candidates=counts)) if self.candidates else tokens

    def blocks(self) -> Tensor:
        out: Tensor = self.model.backbone(self.x, self.tokens)
        return out

    def outputs(self) -> Tensor:
        """[users, candidates or 1, dim] on the host."""
        out = self.model.backbone(*self.inputs()).view(self.batch.num_sequences, self.batch.max_length, -1)
        return out[:, -max(self.candidates, 1) :].cpu()


class Kept(nn.Module):
    """A backbone that keeps what it was last called with."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.arguments: tuple[Any, ...] = ()

    def forward(self, *arguments: Any) -> Tensor:
        self.arguments = arguments
        out: Tensor = self.backbone(*arguments)
        return out


def milliseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """Of one call, from one wait for the device to the next."""
    taken = []
    for number in range(calls + 2):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= 2:
            taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def replayed(call: Callable[[], object]) -> float | None:
    """Of a CUDA graph of it; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return milliseconds(graph.replay)


def measure(size: Size, users: int) -> list[Row]:
    model, cached = make_model(size), size.history - size.new
    former, new = make_batch(size, users, 0, cached), make_batch(size, users, cached, size.new)
    asked = make_batch(size, users, size.history, size.candidates)
    at = 600 * size.history
    asked = asked.with_values(
        timestamp=torch.full_like(asked.timestamp, at), query_time=torch.full_like(asked.query_time, at)
    )
    storage = "bfloat16" if size.device == "cuda" else "float32"
    budget = make_budget(size, users, storage)
    cache = HistoryCache(model, budget, time="known", window=size.history, storage=storage)  # type: ignore[arg-type]
    # Every call appends to other users, whose histories end where those of the first do.
    groups = iter(range(CALLS + 3))
    for group in range(CALLS + 3):
        cache.append(range(group * users, (group + 1) * users), former)
    kept = Kept(model.backbone)
    cache._passes.backbone = kept  # type: ignore[assignment]
    counts = [size.candidates] * users

    def with_cache() -> Tensor:
        ids = range((first := next(groups) * users), first + users)
        cache.append(ids, new)
        return cache.candidates(ids, asked.item, counts, at, at_once=size.candidates).cpu()

    anew = Anew(model, joined([former, new, asked], users), size.candidates)
    found = with_cache()
    error = float((found - anew.outputs().flatten(0, 1)).norm() / found.norm())
    end_to_end = milliseconds(with_cache)
    ids = range(users)
    candidates = kept.arguments
    cache.append(range(10**6, 10**6 + users), former)
    cache.append(range(10**6, 10**6 + users), new)
    appended = kept.arguments

    def cached_blocks() -> None:
        kept.backbone(*appended)
        kept.backbone(*candidates)

    without = Anew(model, joined([former, new], users), 0)
    pairs: dict[str, tuple[float | None, float | None]] = {
        "blocks": (milliseconds(cached_blocks), milliseconds(anew.blocks)),
        "blocks, CUDA graph": (replayed(cached_blocks), replayed(anew.blocks)),
        "end to end": (end_to_end, milliseconds(anew.outputs)),
        "question": (
            milliseconds(lambda: cache.queries(ids, at).cpu()),
            milliseconds(without.outputs),
        ),
    }
    memory = cache.counts.used_bytes / cache.counts.users / 1e6
    return [
        {"users": users, "part": part, "cached": ours, "anew": theirs, "times": theirs / ours}
        | {"error": error, "MB a user": memory}
        for part, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None
    ]


def make_budget(size: Size, users: int, storage: str) -> int:
    """For all users of a measurement."""
    event = 2 * size.blocks * size.dim * (2 if storage == "bfloat16" else 4) + 64
    return event * (size.history + 64) * users * (CALLS + 5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = SMALL if options.small else Size()
    rows: list[Row] = []
    for users in options.users:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            half = size.device == "cuda"
            stack.enter_context(mixed_precision(size.device, enabled=half, cache_enabled=False))
            rows += measure(size, users)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=120).print(table)
    if options.json:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        found = {"device": name, "torch": torch.__version__, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
