"""Losses on the CPU against the plain way in torch, forward and backward, one table.

    python benchmarks/losses.py [--threads 2] [--repeats 5]

14,000 positions, as many as a batch of ML-1M has, width 50; items as in ML-1M (3,706) and 100,000. Plain: all
scores in one matrix, drawn vectors gathered for each position, gradients by autograd. Every measurement runs
in a process of its own. Memory is the peak of the resident set over what the process had after a first pass
over few positions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from models.losses import LossConfig, RetrievalLoss, binary_cross_entropy, sampled_softmax
from models.losses.negatives import NegativeSampler

POSITIONS, DIM, FIRST = 14_000, 50, 2
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

CASES: list[tuple[str, int, dict[str, Any]]] = [
    ("full softmax", 3_706, {"kind": "full_softmax"}),
    ("full softmax", 100_000, {"kind": "full_softmax"}),
    ("128 a position", 3_706, {"negatives": {"count": 128}}),
    ("1,024 a position", 100_000, {"negatives": {"count": 1024}}),
    ("4,096 shared", 100_000, {"negatives": {"count": 4096, "sharing": "batch"}}),
    ("in batch, logQ", 3_706, {"negatives": {"source": "in_batch", "logq": True}}),
    ("BCE, 1 a position", 3_706, {"kind": "bce", "negatives": {"count": 1}}),
    ("gBCE, 256 a position", 3_706, {"kind": "gbce", "negatives": {"count": 256}}),
]
# Where the plain way needs more memory than such a machine has.
TOO_LARGE = {("full softmax", 100_000), ("1,024 a position", 100_000)}


def ours(loss: RetrievalLoss) -> Loss:
    """The loss of the package."""

    def run(query: Tensor, items: Tensor, target: Tensor) -> Tensor:
        value: Tensor = loss(
            query, target, lambda ranks: items if ranks is None else F.embedding(ranks, items)
        )
        return value

    return run


def plain(loss: RetrievalLoss) -> Loss:
    """The same from whole matrices of scores."""
    config, sampler = loss.config, loss.sampler

    def run(query: Tensor, items: Tensor, target: Tensor) -> Tensor:
        if config.kind == "full_softmax":
            return F.cross_entropy(query @ items.T / config.temperature, target)
        negatives = config.negatives
        if negatives.source == "in_batch":
            ranks = target[None]
            scores = query @ F.embedding(target, items).T
        elif negatives.sharing == "batch":
            ranks = sampler.draw(1, negatives.count)
            scores = query @ F.embedding(ranks[0], items).T
        else:
            ranks = sampler.draw(len(target), negatives.count)
            scores = torch.einsum("pd,pcd->pc", query, F.embedding(ranks, items))
        positive = (query * F.embedding(target, items)).sum(-1) / config.temperature
        scores, collides = scores / config.temperature, ranks == target[:, None]
        if config.kind != "sampled_softmax":
            return binary_cross_entropy(positive, scores, collides, loss.power).mean()
        correction = None
        if negatives.logq:
            correction = sampler.log_expected(ranks, drawn=0, in_batch=len(target) - 1)
        return sampled_softmax(positive, scores, collides, correction).mean()

    return run


def one_pass(way: Callable[[RetrievalLoss], Loss], items: int, settings: dict[str, Any], rows: int) -> float:
    """Seconds of forward and backward."""
    torch.manual_seed(0)
    config = LossConfig(**settings)
    loss = RetrievalLoss(config, NegativeSampler(torch.ones(items + FIRST), FIRST))
    query = F.normalize(torch.randn(rows, DIM), dim=-1).requires_grad_()
    table = F.normalize(torch.randn(items, DIM), dim=-1).requires_grad_()
    target = torch.randint(items, (rows,))
    start = time.perf_counter()
    way(loss)(query, table, target).backward()
    return time.perf_counter() - start


def peak_memory() -> float:
    """Peak of the resident set, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    way: Callable[[RetrievalLoss], Loss], items: int, settings: dict[str, Any], threads: int, repeats: int
) -> tuple[float, float]:
    """Median milliseconds, and MiB."""
    torch.set_num_threads(threads)
    one_pass(way, items, settings, 10)
    before = peak_memory()
    passes = [one_pass(way, items, settings, POSITIONS) for _ in range(repeats)]
    return statistics.median(passes) * 1000, peak_memory() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    title = f"{POSITIONS:,} positions, width {DIM}, float32, {options.threads} threads, forward + backward"
    table = Table(title=f"{title}, medians of {options.repeats}")
    for column in ("loss", "items", "time", "plain", "memory added", "plain "):
        table.add_column(column, justify="left" if column == "loss" else "right")
    context = multiprocessing.get_context("spawn")
    for name, items, settings in CASES:
        cells = []
        for way in (ours, plain):
            if way is plain and (name, items) in TOO_LARGE:
                cells.append(("-", "-"))
                continue
            with context.Pool(1) as pool:
                ms, memory = pool.apply(measure, (way, items, settings, options.threads, options.repeats))
            cells.append((f"{ms:,.0f} ms", f"{memory:,.0f} MiB"))
        (our_time, our_memory), (plain_time, plain_memory) = cells
        table.add_row(name, f"{items:,}", our_time, plain_time, our_memory, plain_memory)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
