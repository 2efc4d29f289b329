"""HSTU attention on one GPU: the Triton kernels beside published speeds, with and without bias, and jagged.

    PYTHONPATH=. python benchmarks/attention.py [--quick]

Work is counted as is usual: half of the square, and backward as 2.5 times forward. Times are medians of calls
as a model makes them; `graph` numbers replay a CUDA graph, which leaves out what Python costs. Results are
compared with the dense reference in float64 first. With $OUT set, numbers also go to $OUT/attention.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import triton.testing
from torch import Tensor

from models.attention import Causal, RelativeBias, RelativeTime, Sequences, attention

# Meta's Triton HSTU kernel without a bias, same card and rules: TFLOP/s forward, forward + backward.
PUBLISHED = {(8, 4, 8192, 128): (385, 206), (16, 4, 2048, 128): (310, 159), (32, 4, 1024, 64): (199, 63)}
TARGETS = {(8, 4, 8192, 128): (440, 270), (16, 4, 2048, 128): (350, 210), (32, 4, 1024, 64): (220, 100)}


@dataclass
class Batch:
    """Random inputs of attention, leaves of autograd."""

    lengths: Sequence[int]
    heads: int
    dim: int
    gaps: str = "none"
    """`log-normal` (median an hour, a tenth ties), `wide` (log-uniform, 1 s to 12 days), `none`: no bias."""
    dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        generator = torch.Generator("cuda").manual_seed(0)
        tokens = sum(self.lengths)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, device="cuda", generator=generator)

        shape = (tokens, self.heads, self.dim)
        self.q, self.k, self.v = (normal(*shape).to(self.dtype).requires_grad_() for _ in range(3))
        self.given = normal(*shape).to(self.dtype)
        self.sequences = Sequences.from_lengths(self.lengths, "cuda")
        self.bias, self.leaves = None, [self.q, self.k, self.v]
        if self.gaps == "none":
            return
        if self.gaps == "log-normal":
            gaps = torch.exp(2 * normal(tokens).double()) * 3600
            gaps[torch.rand(tokens, device="cuda", generator=generator) < 0.1] = 0
        else:
            gaps = torch.exp(torch.rand(tokens, device="cuda", generator=generator).double() * 13.85)
        ends = self.sequences.offsets[1:]
        timestamp = gaps.long().cumsum(0)
        query_time = timestamp.roll(-1)
        query_time[ends - 1] = timestamp[ends - 1]
        position = (0.1 * normal(max(self.lengths))).requires_grad_()
        table = (0.1 * normal(129)).requires_grad_()
        self.bias = RelativeBias(position, table, RelativeTime(query_time, timestamp, self.sequences))
        self.leaves += [position, table]

    def forward(self, kernel: str = "triton") -> Tensor:
        return attention(
            self.q, self.k, self.v, self.sequences, activation="silu", mask=Causal(), bias=self.bias,
            qk_scale=self.dim**-0.5, output_scale=1 / max(self.lengths), kernel=kernel,
        )  # fmt: skip

    def both(self, kernel: str = "triton") -> list[Tensor]:
        return list(torch.autograd.grad(self.forward(kernel), self.leaves, self.given))

    def work(self) -> float:
        """Operations of forward."""
        return sum(4 * self.heads * length**2 * self.dim / 2 for length in self.lengths)


def milliseconds(call: Callable[[], object]) -> float:
    return triton.testing.do_bench(call, warmup=15, rep=60, return_mode="median")


def graph_milliseconds(call: Callable[[], object]) -> float:
    return triton.testing.do_bench_cudagraph(call, rep=40, return_mode="median")


def check(gaps: str) -> dict[str, float]:
    """Relative distance to the reference in float64, of the result and each gradient."""
    batch = Batch([700, 1, 300], 2, 64, gaps)
    exact = Batch([700, 1, 300], 2, 64, gaps, torch.float64)
    for leaf, rounded in zip([*exact.leaves[:3], exact.given], [*batch.leaves[:3], batch.given], strict=True):
        leaf.data.copy_(rounded)
    found = [batch.forward(), *batch.both()]
    truth = [exact.forward("reference"), *exact.both("reference")]
    names = ("out", "q", "k", "v", "position", "time")
    errors = {
        name: float((a.detach().double() - b.detach()).norm() / b.detach().norm())
        for name, a, b in zip(names, found, truth, strict=False)
    }
    assert max(errors.values()) < 1e-2, errors
    return errors


def no_bias(shape: tuple[int, int, int, int]) -> dict[str, object]:
    count, heads, length, dim = shape
    batch = Batch([length] * count, heads, dim)
    forward, both = milliseconds(batch.forward), milliseconds(batch.both)
    rates = (batch.work() / forward / 1e9, 3.5 * batch.work() / both / 1e9)
    return {
        "shape": shape, "forward ms": forward, "both ms": both,
        "forward graph ms": graph_milliseconds(batch.forward),
        "both graph ms": graph_milliseconds(batch.both),
        "TFLOP/s": rates, "Meta": PUBLISHED[shape], "target": TARGETS[shape],
    }  # fmt: skip


def with_bias(shape: tuple[int, int, int, int], gaps: str, plain: dict[str, object]) -> dict[str, object]:
    count, heads, length, dim = shape
    batch = Batch([length] * count, heads, dim, gaps)
    forward, both = milliseconds(batch.forward), milliseconds(batch.both)
    ratios = (forward / float(plain["forward ms"]), both / float(plain["both ms"]))  # type: ignore[arg-type]
    return {"shape": shape, "gaps": gaps, "forward ms": forward, "both ms": both, "times no bias": ratios}


def dense() -> dict[str, object]:
    """The dense bias in plain torch, in bfloat16, forward and backward."""
    batch = Batch([2048] * 16, 4, 128, "log-normal")
    fused, plain = milliseconds(batch.both), milliseconds(lambda: batch.both("reference"))
    return {"fused ms": fused, "dense ms": plain, "times faster": plain / fused}


def long(length: int = 65_536) -> dict[str, object]:
    """One long sequence: time, and the memory that a call adds."""
    batch = Batch([length], 4, 128, "log-normal")
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    batch.both()
    torch.cuda.synchronize()
    added = torch.cuda.max_memory_allocated() - before
    return {"length": length, "both ms": milliseconds(batch.both), "added bytes a token": added / length}


def jagged(name: str, lengths: list[int]) -> dict[str, object]:
    """Time against that of full sequences with the same sum of squares."""
    rows = []
    for gaps in ("none", "log-normal"):
        batch, full = Batch(lengths, 4, 128, gaps), Batch([2048] * 16, 4, 128, gaps)
        share = batch.work() / full.work()
        rows.append(tuple(milliseconds(getattr(batch, call)) / milliseconds(getattr(full, call)) / share
                          for call in ("forward", "both")))  # fmt: skip
    return {"lengths": name, "over proportional, no bias": rows[0], "with bias": rows[1]}


def small() -> dict[str, object]:
    """A layer of ML-1M: 128 sequences of 110 events or so, 2 heads of 25."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 201, (128,), generator=generator).tolist()
    batch = Batch(lengths, 2, 25, "log-normal")
    start = time.perf_counter()
    batch.both()
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    return {
        "first call s": first, "forward ms": milliseconds(batch.forward), "both ms": milliseconds(batch.both),
        "forward graph ms": graph_milliseconds(batch.forward),
        "both graph ms": graph_milliseconds(batch.both),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the first shapes, with and without bias")
    quick = parser.parse_args().quick
    record: dict[str, object] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}

    def show(name: str, row: object) -> None:
        record[name] = row
        print(name, json.dumps(row, default=str), flush=True)

    show("small", small())
    for gaps in ("none", "log-normal"):
        show(f"error {gaps}", check(gaps))
    for shape in PUBLISHED:
        plain = no_bias(shape)
        show(f"no bias {shape}", plain)
        for gaps in ("log-normal", "wide"):
            show(f"bias {gaps} {shape}", with_bias(shape, gaps, plain))
    if not quick:
        show("dense", dense())
        show("long", long())
        zipf = [max(1, int(8192 / rank)) for rank in range(1, 65)]
        uniform = torch.randint(1843, 2049, (16,), generator=torch.Generator().manual_seed(0)).tolist()
        show("zipf", jagged("8192 / rank, 64 sequences", zipf))
        show("uniform", jagged("uniform, 0.9 N to N", uniform))
    if "OUT" in os.environ:
        Path(os.environ["OUT"], "attention.json").write_text(json.dumps(record, default=str, indent=1))


if __name__ == "__main__":
    main()
