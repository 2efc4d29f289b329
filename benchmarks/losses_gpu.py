"""Negatives that each position draws for itself, on a GPU: the kernels against torch's own operations.

    PYTHONPATH=. python benchmarks/losses_gpu.py [--cases ml-1m popular large] [--kernels]

Ways: `kernel` (models/losses/kernels); `product`, scores of all items, of which the drawn ones are picked;
`bags`, sums of rows by torch's embedding bags. Time is that of the GPU, in milliseconds: of scores alone, of
scores with both gradients, and of the whole loss (sampled softmax, forward and backward, draws included).
Memory is the peak of the whole loss over what was there before. With --kernels also what each kernel takes of
a whole loss in the kernel way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.profiling import kernel_times
from models.gpu.availability import without_kernels
from models.losses import LossConfig, RetrievalLoss, drawn
from models.losses.drawn import OwnNegatives
from models.losses.negatives import NegativeSampler

FIRST = 2
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """How much is scored, in float32."""

    positions: int
    items: int
    dim: int
    count: int = 128
    power: float = 0.0
    """Items are drawn in proportion to their counts, which fall as one over their rank, to this power."""
    ways: tuple[str, ...] = ("kernel", "product", "bags")


CASES = {
    "ml-1m": Case(13_500, 3_706, 50),
    "popular": Case(13_500, 3_706, 50, power=1.0),
    "large": Case(65_536, 500_000, 256, ways=("kernel", "bags")),  # a product of 131 GB
}


def take(way: str) -> AbstractContextManager[None]:
    """Have losses go one way, the kernels' within the block only."""
    drawn._ROWS_A_DRAW = 1 << 40 if way == "product" else 0
    return nullcontext() if way == "kernel" else without_kernels()


def milliseconds(run: Run, repeats: int = 5) -> float:
    """A run's time on the GPU, which is kept busy until all runs are queued."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(50_000_000)
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats


def mebibytes(run: Run) -> float:
    """Peak of allocated memory over what there is before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


class Batch:
    """Tensors of a case."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        counts = torch.zeros(FIRST + case.items)
        counts[FIRST:] = (1e6 / torch.arange(1, case.items + 1)).ceil()
        sampler = NegativeSampler(counts, FIRST, case.power).cuda()
        config = LossConfig(negatives={"count": case.count, "popularity_power": case.power})
        self.loss = RetrievalLoss(config, sampler)
        self.query = F.normalize(torch.randn(case.positions, case.dim, device="cuda")).requires_grad_()
        self.table = F.normalize(torch.randn(case.items, case.dim, device="cuda")).requires_grad_()
        self.target = torch.randint(case.items, (case.positions,), device="cuda")
        rows = sampler.draw(case.positions, case.count)
        self.own = OwnNegatives(rows, rows, self.table)
        self.grad = torch.randn(rows.shape, device="cuda")

    def scores(self) -> Tensor:
        return self.own.scores(slice(None), self.query, self.table)

    def scores_and_gradients(self) -> object:
        return torch.autograd.grad(self.scores(), (self.query, self.table), self.grad)

    def whole(self) -> object:
        value = self.loss(
            self.query, self.target, lambda ranks: self.table if ranks is None else self.table[ranks]
        )
        return torch.autograd.grad(value, (self.query, self.table))


def print_kernels(run: Run, repeats: int = 5) -> None:
    """What the time on the GPU goes into."""
    for kernel in kernel_times(run, repeats, before=1)[:16]:
        print(f"    {kernel.ms:.3f} ms {kernel.times:4.0f} times  {kernel.name[:100]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--kernels", action="store_true")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, float32")
    print(f"{'':8} {'way':8} {'scores':>9} {'gradients too':>14} {'whole loss':>11} {'memory':>10}")
    for name in options.cases:
        batch = Batch(CASES[name])
        for way in CASES[name].ways:
            runs: list[Run] = [batch.scores, batch.scores_and_gradients, batch.whole]
            with take(way):
                scores, both, whole = (f"{milliseconds(run):,.3f}" for run in runs)
                memory = f"{mebibytes(batch.whole):,.0f} MiB"
            print(f"{name:8} {way:8} {scores:>9} {both:>14} {whole:>11} {memory:>10}", flush=True)
        if options.kernels:
            with take("kernel"):
                print_kernels(batch.whole)
        del batch


if __name__ == "__main__":
    main()
