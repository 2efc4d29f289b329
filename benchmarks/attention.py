"""HSTU attention on one GPU: the Triton kernels beside published speeds, with and without bias, and jagged.

    PYTHONPATH=. python benchmarks/attention.py
        [--parts small errors speeds dense long jagged kernels first-call]

- `small`: a layer of MovieLens-1M.
- `errors`: results and gradients against the dense reference in float64.
- `speeds`: full sequences, without a bias and with both.
- `dense`: both biases in plain torch.
- `long`: one sequence of 65,536 tokens, and the memory that it takes.
- `jagged`: sequences of different lengths, over what the sum of their squares predicts.
- `kernels`: each kernel of forward and backward by the profiler, without a bias, with each, and with both.
- `first-call`: seconds of the first forward and backward where no compiled kernel is on disk.

Work is counted as is usual: half of the square, and backward as 2.5 times forward. Times are medians of calls
as a model makes them, but for those of `kernels`, which are means; `graph` numbers replay a CUDA graph, which
leaves out what Python costs. With $OUT set, numbers also go to $OUT/attention.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import triton.testing
from torch import Tensor

from benchmarks.profiling import kernel_times
from models.attention import Causal, Mask, RelativeBias, RelativeTime, Sequences, attention

# Meta's Triton HSTU kernel without a bias, same card and rules: TFLOP/s forward, forward + backward.
PUBLISHED = {(8, 4, 8192, 128): (385, 206), (16, 4, 2048, 128): (310, 159), (32, 4, 1024, 64): (199, 63)}
PROFILED = [(16, 4, 2048, 128), (8, 4, 8192, 128)]
BIASES = {
    "none": ("none", "both"),
    "position": ("log-normal", "position"),
    "time": ("log-normal", "time"),
    "both": ("log-normal", "both"),
    "both, worst gaps": ("worst", "both"),
}
"""Gaps and tables of `Batch`."""
TARGETS = {(8, 4, 8192, 128): (440, 270), (16, 4, 2048, 128): (350, 210), (32, 4, 1024, 64): (220, 100)}


@dataclass
class Batch:
    """Random inputs of attention, leaves of autograd."""

    lengths: Sequence[int]
    heads: int
    dim: int
    gaps: str = "none"
    """`log-normal` (median an hour, a tenth ties), `wide` (log-uniform, 1 s to 12 days), `skewed`
    (log-normal, one time in a hundred changed places with one of the next 8), `shuffled` (log-normal, in no
    order), `worst` (log-uniform, in no order), `none`: no bias."""
    dtype: torch.dtype = torch.bfloat16
    tables: str = "both"
    """Of the bias: `position`, `time` or `both`."""
    mask: Mask = field(default_factory=Causal)

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
        if self.gaps in ("log-normal", "skewed", "shuffled"):
            gaps = torch.exp(2 * normal(tokens).double()) * 3600
            gaps[torch.rand(tokens, device="cuda", generator=generator) < 0.1] = 0
        else:
            gaps = torch.exp(torch.rand(tokens, device="cuda", generator=generator).double() * 13.85)
        ends = self.sequences.offsets[1:]
        timestamp = gaps.long() if self.gaps == "worst" else gaps.long().cumsum(0)
        timestamp = timestamp[disorder(self.lengths, self.gaps).to("cuda")]
        query_time = timestamp.roll(-1)
        query_time[ends - 1] = timestamp[ends - 1]
        position = (0.1 * normal(max(self.lengths))).requires_grad_() if self.tables != "time" else None
        table = (0.1 * normal(129)).requires_grad_() if self.tables != "position" else None
        times = None if table is None else RelativeTime(query_time, timestamp, self.sequences)
        self.bias = RelativeBias(position, table, times)
        self.leaves += [leaf for leaf in (position, table) if leaf is not None]

    def forward(self, kernel: str = "triton") -> Tensor:
        return attention(
            self.q, self.k, self.v, self.sequences, activation="silu", mask=self.mask, bias=self.bias,
            qk_scale=self.dim**-0.5, output_scale=1 / max(self.lengths), kernel=kernel,
        )  # fmt: skip

    def both(self, kernel: str = "triton") -> list[Tensor]:
        return list(torch.autograd.grad(self.forward(kernel), self.leaves, self.given))

    def work(self) -> float:
        """Operations of forward."""
        return sum(4 * self.heads * length**2 * self.dim / 2 for length in self.lengths)


def disorder(lengths: Sequence[int], gaps: str) -> Tensor:
    """[tokens] which event's time each event has; see `Batch.gaps`."""
    generator = torch.Generator().manual_seed(1)
    order = torch.arange(sum(lengths))
    for part in order.split(list(lengths)):
        if gaps == "shuffled":
            part.copy_(part[torch.randperm(len(part), generator=generator)])
        elif gaps == "skewed" and len(part) > 1:
            ahead = torch.randint(1, 9, (len(part),), generator=generator)
            for place in (torch.rand(len(part), generator=generator) < 0.01).nonzero().flatten().tolist():
                other = min(place + int(ahead[place]), len(part) - 1)
                part[[place, other]] = part[[other, place]]
    return order


def milliseconds(call: Callable[[], object]) -> float:
    return triton.testing.do_bench(call, warmup=15, rep=60, return_mode="median")


def graph_milliseconds(call: Callable[[], object]) -> float:
    return triton.testing.do_bench_cudagraph(call, rep=40, return_mode="median")


def kernel_milliseconds(call: Callable[[], object], calls: int = 20) -> dict[str, float]:
    """Of each Triton kernel that a call runs, of all `others`, and the `sum`: means by the profiler."""
    taken = {"others": 0.0, "sum": 0.0}
    for kernel in kernel_times(call, calls, before=3):
        name = kernel.name if kernel.name.endswith("_kernel") else "others"
        taken[name] = taken.get(name, 0.0) + kernel.ms
        taken["sum"] += kernel.ms
    return taken


def check(gaps: str, dim: int = 64) -> dict[str, float]:
    """Relative distance to the reference in float64, of the result and each gradient."""
    batch = Batch([700, 1, 300], 2, dim, gaps)
    exact = Batch([700, 1, 300], 2, dim, gaps, torch.float64)
    for leaf, rounded in zip([*exact.leaves[:3], exact.given], [*batch.leaves[:3], batch.given], strict=True):
        leaf.data.copy_(rounded)
    found = [batch.forward(), *batch.both()]
    truth = [exact.forward("reference"), *exact.both("reference")]
    names = ("out", "q", "k", "v", "position", "time")
    return {
        name: float((a.detach().double() - b.detach()).norm() / b.detach().norm())
        for name, a, b in zip(names, found, truth, strict=False)
    }


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
    return {
        "forward ms": milliseconds(batch.forward), "both ms": milliseconds(batch.both),
        "forward graph ms": graph_milliseconds(batch.forward),
        "both graph ms": graph_milliseconds(batch.both),
    }  # fmt: skip


def kernels(shape: tuple[int, int, int, int]) -> dict[str, dict[str, object]]:
    """Milliseconds of each kernel with each bias, and what its sum is times that without one."""
    count, heads, length, dim = shape
    rows: dict[str, dict[str, object]] = {}
    plain = 0.0
    for name, (gaps, tables) in BIASES.items():
        found = kernel_milliseconds(Batch([length] * count, heads, dim, gaps, tables=tables).both)
        plain = plain or found["sum"]
        rows[name] = {**found, "times no bias": found["sum"] / plain}
    return rows


FIRST_CALLS: dict[str, Callable[[], Batch]] = {
    "bf16, heads of 128, length 2048": lambda: Batch([2048] * 4, 4, 128, "log-normal"),
    "bf16, heads of 25, length 200": lambda: Batch([200] * 128, 2, 25, "log-normal"),
    "float32, heads of 25, length 200": lambda: Batch([200] * 128, 2, 25, "log-normal", torch.float32),
}
"""Both biases; the last is what `ml-1m/hstu-large` needs."""


def seconds_of_first_call(name: str) -> float:
    """In this process, with the kernels on disk that there are."""
    batch = FIRST_CALLS[name]()
    torch.cuda.synchronize()
    start = time.perf_counter()
    batch.both()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def first_call(name: str) -> dict[str, object]:
    """In a process of its own without any kernel on disk, nor the helpers that Triton compiles for itself."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--first-call", name],
            env=os.environ | {"TRITON_CACHE_DIR": folder},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    return {"seconds": float(done.stdout), "cores": os.cpu_count()}


def rows_of(part: str) -> Iterator[tuple[str, object]]:
    """What a part measures, by name."""
    if part == "small":
        yield "small", small()
    elif part == "errors":
        for gaps, dim in itertools.product(("none", "log-normal"), (64, 256)):
            errors = check(gaps, dim)
            assert max(errors.values()) < 1e-2, errors
            yield f"error {gaps}, heads of {dim}", errors
    elif part == "speeds":
        for shape in PUBLISHED:
            plain = no_bias(shape)
            yield f"no bias {shape}", plain
            for gaps in ("log-normal", "wide"):
                yield f"bias {gaps} {shape}", with_bias(shape, gaps, plain)
    elif part == "dense":
        yield "dense", dense()
    elif part == "long":
        yield "long", long()
    elif part == "jagged":
        zipf = [max(1, int(8192 / rank)) for rank in range(1, 65)]
        uniform = torch.randint(1843, 2049, (16,), generator=torch.Generator().manual_seed(0)).tolist()
        yield "zipf", jagged("8192 / rank, 64 sequences", zipf)
        yield "uniform", jagged("uniform, 0.9 N to N", uniform)
    elif part == "kernels":
        for shape in PROFILED:
            for name, row in kernels(shape).items():
                yield f"kernels {shape}, bias {name}", row
    else:
        for name in FIRST_CALLS:
            yield f"first call, {name}", first_call(name)


def main() -> None:
    parts = ["small", "errors", "speeds", "dense", "long", "jagged", "kernels", "first-call"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--first-call", choices=[*FIRST_CALLS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_call is not None:
        print(seconds_of_first_call(options.first_call))
        return
    record: dict[str, object] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for part in options.parts:
        for name, row in rows_of(part):
            record[name] = row
            print(name, json.dumps(row, default=str), flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "attention.json").write_text(json.dumps(record, default=str, indent=1))


if __name__ == "__main__":
    main()
