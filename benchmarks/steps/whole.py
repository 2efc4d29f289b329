"""Whole training steps on one batch that stays on the GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from benchmarks.steps.measured import (
    BLOCKS,
    CHANGES,
    FIRST,
    ITEMS,
    LONGEST,
    NEGATIVES,
    TOKENS,
    WIDTH,
    Results,
    Row,
    Run,
    in_chunks,
    is_off,
    longest,
    milliseconds,
    without,
    zipf,
)
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.gpu.precision import mixed_precision
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.optim import OptimizerConfig, build_optimizer
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.objective import RetrievalObjective


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
    """Whole steps on one batch: forward, backward, optimizer.

    Args:
        items: known ones.
        negatives: settings of them.
        item_table: its optimizer.
        batch: gives the batch, within each step; by default one of log-normal lengths.
    """

    def __init__(
        self, items: int, negatives: Row, item_table: str, batch: Callable[[], LossBatch] | None = None
    ) -> None:
        from models.distributed.tables import WholeTable, item_tables
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
        if not is_off("at once"):
            for table in self.tables:
                if isinstance(table, WholeTable):
                    table.sum_at_once()
        if batch is None:
            host = LossBatch(batch_of(items))
            own = LossBatch(host.batch.to(device), host.positions.to(device))
            self.batch: Callable[[], LossBatch] = lambda: own
        else:
            self.batch = batch
        self.optimizer.keep_rates_on(device)
        self.replay = CudaGraphs(device, self.optimizer)(self.once)

    def once(self) -> list[Tensor]:
        self.optimizer.zero_grad()
        with mixed_precision("cuda", cache_enabled=False):
            value = self.objective(self.batch())
        value.backward()
        for table in self.tables:
            table.finish_gradients()
        self.optimizer.step()
        return [value.detach()]


def changes(results: Results) -> None:
    """Steps with and without what `CHANGES` names."""
    for negatives, item_table in (
        ("shared", "adamw"),
        ("shared", "sparse_rowwise_adagrad"),
        ("in batch, logQ", "adamw"),
    ):
        every = tuple(CHANGES)
        for names in ((), every, *((name,) for name in every)):
            row: Row = {"negatives": negatives, "item table": item_table, "without": list(names)}
            with without(*names):
                _measured(row, ITEMS, 0 if names else 40)
            results.add("changes", row)


def timed(run: Run, tokens: int) -> Row:
    """Milliseconds of a step, and its tokens/s."""
    found = milliseconds(run)
    return {"replayed ms": found, "M tokens/s": tokens / found / 1e3}


def steps(results: Results) -> None:
    """Steps by negatives, by the optimizer of the item table, and by the number of items."""
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
        with nullcontext() if by_kernels else in_chunks():
            _measured(row, items, 25 if items == ITEMS else 0)
        results.add("steps", row)


def _measured(row: Row, items: int, count: int) -> None:
    """Add to a row what a step of its negatives and item table takes; the other rows are worth having where
    this one fails.

    Args:
        row: what is measured.
        items: known ones.
        count: of kernels that are listed, with the step that is not captured; 0: neither.
    """
    try:
        torch.cuda.reset_peak_memory_stats()
        step = Step(items, NEGATIVES[row["negatives"]], row["item table"])
        row |= timed(step.replay, TOKENS)
        row["GiB"] = torch.cuda.max_memory_allocated() / 2**30
        if count:
            row["not captured ms"] = milliseconds(step.once, 4)
            row["longest"] = longest(step.replay, count)
    except Exception as error:
        row["error"] = repr(error)[:300]
    step = None  # type: ignore[assignment]
    gc.collect()
    torch.cuda.empty_cache()
