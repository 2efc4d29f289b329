"""Training steps on large catalogs, on one GPU: the loss, the item table, and what `lrm train` adds.

    PYTHONPATH=. python benchmarks/training_steps.py [--parts loss steps train tiles] [--events 4000000]

HSTU, 4 blocks, width 256, 4 heads, both biases, 65,536 tokens a step, 4,096 shared negatives; targets by
Zipf's law (exponent 1.05), as those of the log of benchmarks/prepare_peers.

- `loss`: of 65,536 positions alone, forward and backward, by the kernels that never write scores and in
  chunks, with shared and with in-batch negatives; errors of the kernels, relative to float64.
- `tiles`: the two kernels of that loss with other tiles.
- `steps`: whole steps on one batch that stays on the GPU, replayed as CUDA graphs and not: by negatives,
  by the optimizer of the item table, by the number of items; with the memory of each, and the kernels that
  take longest of some.
- `train`: tokens/s that `lrm train` reports after its first epoch, with its defaults and without; what the
  loader gives alone, and with what a step does on the host.

With $OUT set, numbers also go to $OUT/training_steps.json, after every line.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.profiling import kernel_times
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.gpu.availability import EXPERIMENTAL
from models.gpu.precision import mixed_precision
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.losses import LossConfig, RetrievalLoss, retrieval
from models.losses.negatives import NegativeSampler
from models.optim import OptimizerConfig, build_optimizer
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.objective import RetrievalObjective

os.environ.setdefault(EXPERIMENTAL, "1")
TOKENS, ITEMS, BLOCKS, WIDTH, LONGEST, SHARED = 65_536, 200_000, 4, 256, 512, 4_096
FIRST = 2
NEGATIVES: dict[str, dict[str, Any]] = {
    "shared": {"sharing": "batch", "count": SHARED},
    "in batch, logQ": {"source": "in_batch", "logq": True},
}
Row = dict[str, Any]
Run = Callable[[], object]


class Results:
    """Printed, and written down at once."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.since = time.perf_counter()

    def add(self, part: str, row: Row) -> None:
        """Note one line of a part."""
        self.rows.setdefault(part, []).append(row)
        print(f"{time.perf_counter() - self.since:6.1f} s  {part}: {row}", flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "training_steps.json").write_text(json.dumps(self.rows, indent=1))


def milliseconds(run: Run, repeats: int = 8) -> float:
    """A run's time on the GPU, which is kept busy until all runs are queued, or with the host where it waits
    for that."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats


def zipf(count: int, items: int, seed: int = 0) -> Tensor:
    """[count] item ranks."""
    random = np.random.default_rng(seed)
    sums = np.cumsum((np.arange(items) + 10.0) ** -1.05)
    return torch.from_numpy(np.searchsorted(sums, random.random(count) * sums[-1])).clamp(max=items - 1)


@contextmanager
def in_chunks() -> Iterator[None]:
    """Losses go the way that they have without the kernels of shared negatives."""
    own = retrieval.shared_losses
    retrieval.shared_losses = lambda *_, **__: None  # type: ignore[assignment]
    try:
        yield
    finally:
        retrieval.shared_losses = own


class Loss:
    """A loss by itself."""

    def __init__(self, positions: int, items: int, target: Tensor, negatives: Row) -> None:
        torch.manual_seed(0)
        counts = torch.bincount(zipf(50 * TOKENS, items, 1), minlength=items)
        sampler = NegativeSampler(F.pad(counts, (FIRST, 0)), FIRST)
        self.loss = RetrievalLoss(LossConfig(negatives=negatives), sampler).cuda()
        self.query = F.normalize(torch.randn(positions, WIDTH, device="cuda")).requires_grad_()
        self.table = F.normalize(torch.randn(items, WIDTH, device="cuda")).requires_grad_()
        self.target, self.negatives = target.cuda(), negatives

    def __call__(self) -> list[Tensor]:
        torch.manual_seed(1)
        with mixed_precision("cuda", cache_enabled=False):
            value = self.loss(self.query, self.target, lambda ranks: F.embedding(ranks, self.table))
        return [value, *torch.autograd.grad(value, (self.query, self.table))]

    def exact(self) -> list[Tensor]:
        """The same in float64, from the formula and whole matrices."""
        torch.manual_seed(1)
        sampler, count = self.loss.sampler, len(self.target)
        in_batch = "source" in self.negatives
        ranks = self.target if in_batch else sampler.draw(SHARED)
        query, table = (x.detach().double().requires_grad_() for x in (self.query, self.table))
        temperature = self.loss.config.temperature
        scores = query @ table[ranks].T / temperature
        if in_batch:
            scores = scores - ((count - 1) * sampler.frequency[ranks].double()).log()
        positive = (query * table[self.target]).sum(1) / temperature
        scores = scores.masked_fill(ranks == self.target[:, None], -torch.inf)
        value = (torch.cat([positive[:, None], scores], 1).logsumexp(1) - positive).mean()
        return [value, *torch.autograd.grad(value, (query, table))]


def loss(results: Results) -> None:
    small = zipf(4_096, 20_000)
    for name, negatives in NEGATIVES.items():
        one = Loss(4_096, 20_000, small, negatives)
        one.loss.sampler.rarest = 1e-9
        truth = one.exact()
        row: Row = {"negatives": name}
        for way in ("kernels", "chunks"):
            with in_chunks() if way == "chunks" else nullcontext():
                found, again = one(), one()
            row |= {
                f"{way}, error of {what}": float((a.double() - b).norm() / b.norm())
                for what, a, b in zip(("loss", "query", "table"), found, truth, strict=True)
            }
            row[f"{way}, same bits again"] = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
        results.add("errors", row)
    uniform = torch.randint(ITEMS, (TOKENS,), generator=torch.Generator().manual_seed(0))
    for targets, target in (("Zipf", zipf(TOKENS, ITEMS)), ("uniform", uniform)):
        for name, negatives in NEGATIVES.items():
            one = Loss(TOKENS, ITEMS, target, negatives)
            row = {"targets": targets, "different": len(target.unique()), "negatives": name}
            row["kernels ms"] = milliseconds(one)
            with in_chunks():
                row["chunks ms"] = milliseconds(one, 4)
            row["longest"] = longest(one, 8)
            results.add("loss", row)


def longest(run: Run, count: int) -> list[tuple[str, float, float]]:
    """Names, milliseconds and number of runs of the kernels that take longest, and the sum of all."""
    found = kernel_times(run, 3, before=1)
    total = ("all", round(sum(one.ms for one in found), 3), sum(one.times for one in found))
    return [total, *((one.name[:70], round(one.ms, 3), one.times) for one in found[:count])]


def tiles(results: Results) -> None:
    from models.gpu.tile_shape import TileShape
    from models.losses.kernels import shared_function

    one = Loss(TOKENS, ITEMS, zipf(TOKENS, ITEMS), NEGATIVES["in batch, logQ"])
    for shape in ((128, 64, 8, 2), (128, 64, 8, 3), (64, 64, 4, 2), (128, 32, 8, 3), (128, 128, 8, 2)):
        own = shared_function._LOSS[WIDTH], shared_function._ITEMS[WIDTH]
        shared_function._LOSS[WIDTH] = shared_function._ITEMS[WIDTH] = TileShape(*shape)
        try:
            found = kernel_times(one, 3, before=2)
            times = {k.name: round(k.ms, 3) for k in found if k.name.startswith("shared_")}
            results.add("tiles", {"tile, stream, warps, stages": shape, **times})
        except Exception as error:  # too much memory, say: the others are worth having
            results.add("tiles", {"tile, stream, warps, stages": shape, "error": repr(error)[:200]})
        shared_function._LOSS[WIDTH], shared_function._ITEMS[WIDTH] = own


def batch_of(items: int) -> PackedBatch:
    """Full batches of log-normal lengths, on the host."""
    generator = torch.Generator().manual_seed(0)
    lengths: list[int] = []
    while sum(lengths) < TOKENS:
        drawn = (LONGEST / 4 * torch.randn((), generator=generator).exp()).clamp(2, LONGEST)
        lengths.append(min(int(drawn), TOKENS - sum(lengths)))
    taken = (FIRST + zipf(TOKENS, items)).tolist()
    starts = np.cumsum([0, *lengths])
    times = np.cumsum(np.random.default_rng(0).lognormal(6.0, 2.0, TOKENS)).astype(int).tolist()
    batch = PackedBatch.from_lists(
        [taken[a:b] for a, b in pairwise(starts)],
        timestamps=[times[a:b] for a, b in pairwise(starts)],
    )
    batch.target.copy_(batch.item.roll(-1))
    return batch


class Step:
    """Whole steps on one batch: forward, backward, optimizer."""

    def __init__(self, items: int, negatives: Row, item_table: str) -> None:
        from models.distributed.tables import item_tables
        from models.training.cuda_graph import CudaGraphs

        torch.manual_seed(0)
        device = torch.device("cuda")
        counts = torch.ones(FIRST + items, dtype=torch.int64)
        with device:  # drawing millions of rows on the host takes minutes
            catalog = ItemCatalog(FIRST + items, FIRST, counts.to(device))
            embedding = InputEmbedding(EmbeddingConfig(), catalog, 1, WIDTH, LONGEST, dropout=0.2)
        config = BackboneConfig(kind="hstu", blocks=BLOCKS, dim=WIDTH, heads=4)
        backbone = build_backbone(config, max_length=LONGEST)
        model = RetrievalModel(embedding, backbone, first_item=FIRST, num_items=items)
        loss = RetrievalLoss(LossConfig(negatives=negatives), NegativeSampler(counts, FIRST))
        self.objective = RetrievalObjective(model, loss).to(device)
        settings = OptimizerConfig(item_table=item_table)  # type: ignore[arg-type]
        self.optimizer = build_optimizer(settings, self.objective)
        self.tables = item_tables(self.objective)
        host = LossBatch(batch_of(items))
        self.batch = LossBatch(host.batch.to(device), host.positions.to(device))
        self.optimizer.keep_rates_on(device)
        self.replay = CudaGraphs(device, self.optimizer)(self.once)

    def once(self) -> list[Tensor]:
        self.optimizer.zero_grad()
        with mixed_precision("cuda", cache_enabled=False):
            value = self.objective(self.batch)
        value.backward()
        for table in self.tables:
            table.finish_gradients()
        self.optimizer.step()
        return [value.detach()]


def steps(results: Results) -> None:
    rows = [
        (ITEMS, "shared", "adamw", False),
        (ITEMS, "shared", "adamw", True),
        (ITEMS, "shared", "sparse_rowwise_adagrad", True),
        (ITEMS, "shared", "sparse_adam", True),
        (ITEMS, "in batch, logQ", "adamw", False),
        (ITEMS, "in batch, logQ", "adamw", True),
        *(
            (items, "shared", optimizer, True)
            for items in (1_000_000, 10_000_000)
            for optimizer in ("adamw", "rowwise_adagrad", "sparse_rowwise_adagrad", "sparse_adam")
        ),
    ]
    for items, negatives, item_table, by_kernels in rows:
        row: Row = {"items": items, "negatives": negatives, "item table": item_table}
        row["loss"] = "kernels" if by_kernels else "chunks"
        try:
            with nullcontext() if by_kernels else in_chunks():
                torch.cuda.reset_peak_memory_stats()
                step = Step(items, NEGATIVES[negatives], item_table)
                row["replayed ms"] = milliseconds(step.replay)
                row["M tokens/s"] = TOKENS / row["replayed ms"] / 1e3
                row["GiB"] = torch.cuda.max_memory_allocated() / 2**30
                if items == ITEMS:
                    row["not captured ms"] = milliseconds(step.once, 4)
                    row["longest"] = longest(step.replay, 25)
        except Exception as error:  # the other lines are worth having
            row["error"] = repr(error)[:300]
        results.add("steps", row)
        step = None  # type: ignore[assignment]
        gc.collect()
        torch.cuda.empty_cache()


WAYS: dict[str, list[str]] = {
    "float32, not captured": ["train.precision=32-true", "train.cuda_graphs=false"],
    "not captured": ["train.cuda_graphs=false"],
    "defaults": [],
    "defaults, report every 100 steps": ["train.log_every_steps=100"],
    "defaults, sparse_rowwise_adagrad": ["optimizer.item_table=sparse_rowwise_adagrad"],
    "defaults, in batch, logQ": ["loss.negatives.source=in_batch", "loss.negatives.logq=true"],
}


def train(results: Results, events: int, epochs: int) -> None:
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
        for number, (way, settings) in enumerate(WAYS.items()):
            watched = Rates()
            begun = time.perf_counter()
            try:
                own = settings if "loss.negatives.source=in_batch" in settings else [*shared, *settings]
                config = load_config(overrides=[*common, *own])
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["loss", "steps", "train", "tiles"])
    parser.add_argument("--events", type=int, default=4_000_000, help="of the log of `train`")
    parser.add_argument("--epochs", type=int, default=5, help="of `train`")
    arguments = parser.parse_args()
    results = Results()
    results.add("device", {"name": torch.cuda.get_device_name(), "torch": torch.__version__})
    parts: dict[str, Callable[[], None]] = {
        "loss": lambda: loss(results),
        "tiles": lambda: tiles(results),
        "steps": lambda: steps(results),
        "train": lambda: train(results, arguments.events, arguments.epochs),
    }
    for part in arguments.parts:
        try:
            parts[part]()
        except Exception as error:  # the other parts are worth having
            results.add("errors of parts", {"part": part, "error": repr(error)[:500]})


if __name__ == "__main__":
    main()
