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
import os
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from benchmarks.steps.losses import loss, tiles
from benchmarks.steps.measured import (
    BLOCKS,
    FIRST,
    ITEMS,
    LONGEST,
    NEGATIVES,
    TOKENS,
    WIDTH,
    Results,
    Row,
    in_chunks,
    longest,
    milliseconds,
    zipf,
)
from benchmarks.steps.trained import train
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.gpu.availability import EXPERIMENTAL
from models.gpu.precision import mixed_precision
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.optim import OptimizerConfig, build_optimizer
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.objective import RetrievalObjective

os.environ.setdefault(EXPERIMENTAL, "1")


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
