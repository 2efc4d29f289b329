"""The loss of a training step alone: how long, and how exact; tiles of its kernels."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.profiling import kernel_times
from benchmarks.steps.measured import (
    FIRST,
    ITEMS,
    NEGATIVES,
    SHARED,
    TOKENS,
    WIDTH,
    Results,
    Row,
    in_chunks,
    longest,
    milliseconds,
    without,
    zipf,
)
from models.gpu.precision import mixed_precision
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler


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


def tiles(results: Results) -> None:
    """The kernels of the loss with other tiles; what comes after in this process has the fastest."""
    from models.gpu.tile_shape import TileShape
    from models.losses.kernels import shared_function

    shapes = (
        (64, 64, 4, 2), (64, 32, 4, 2), (64, 32, 4, 3), (64, 64, 4, 3), (128, 64, 8, 4), (128, 64, 8, 3),
        (128, 64, 8, 2), (128, 32, 8, 2),
    )  # fmt: skip
    cuts = {"shared_loss_kernel": shared_function._LOSS, "shared_items_kernel": shared_function._ITEMS}
    own = {name: cut[WIDTH] for name, cut in cuts.items()}
    best: dict[str, tuple[float, TileShape]] = {}
    one = Loss(TOKENS, ITEMS, zipf(TOKENS, ITEMS), NEGATIVES["in batch, logQ"])
    for shape in shapes:
        for cut in cuts.values():
            cut[WIDTH] = TileShape(*shape)
        row: Row = {"tile, stream, warps, stages": shape}
        try:
            found = kernel_times(one, 3, before=2)
            row |= {k.name: round(k.ms, 3) for k in found if k.name.startswith("shared_")}
            for name in cuts:
                best[name] = min(best.get(name, (math.inf, own[name])), (row[name], TileShape(*shape)))
        except Exception as error:  # too much memory, say: the others are worth having
            row["error"] = repr(error)[:200]
        results.add("tiles", row)
    for name, cut in cuts.items():
        cut[WIDTH] = best[name][1] if name in best else own[name]
    for name in ("ahead", "lazy"):
        with without(name):
            found = kernel_times(one, 3, before=2)
            times = {k.name: round(k.ms, 3) for k in found if k.name.startswith("shared_")}
            results.add("tiles", {"without": name, **times})
    results.add("tiles", {"fastest": {name: str(cut[WIDTH]) for name, cut in cuts.items()}})
