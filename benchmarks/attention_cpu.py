"""Attention on the CPU: the dense reference against the blocked kernel, forward and backward, one table.

    python benchmarks/attention_cpu.py [--threads 2] [--repeats 7]

Shapes: a training batch like ML-1M's (128 sequences of up to 200 events, one head of 50), and long sequences.
Every measurement runs in a process of its own. Memory is the peak of the resident set over what the process
had after a first pass over a tiny batch (compiled code and thread pools do not count).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from models.attention import Causal, RelativeBias, RelativeTime, Sequences, attention
from models.attention.bias import NUM_BUCKETS

KERNELS = ("reference", "blocked")


class Case(NamedTuple):
    """One line of the table."""

    name: str
    lengths: tuple[int, ...]
    heads: int
    dim: int
    activation: str
    layers: int


class Measurement(NamedTuple):
    """Medians, in milliseconds, and mebibytes."""

    forward: float
    both: float
    memory: float


def ml1m_lengths() -> tuple[int, ...]:
    """128 lengths as in ML-1M: log-normal around 96 events, 19 at least, 200 at most; about 14,000 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.empty(128).log_normal_(4.56, 0.9, generator=generator).clamp(19, 200)
    return tuple(lengths.int().tolist())


def cases() -> list[Case]:
    return [
        Case("ML-1M, HSTU, 2 layers", ml1m_lengths(), 1, 50, "silu", 2),
        Case("ML-1M, softmax with bias, 2 layers", ml1m_lengths(), 1, 50, "softmax", 2),
        Case("2 x 2,048, HSTU", (2048, 2048), 4, 64, "silu", 1),
        Case("2 x 2,048, softmax with bias", (2048, 2048), 4, 64, "softmax", 1),
        Case("8,192, HSTU", (8192,), 4, 64, "silu", 1),
    ]


def one_pass(case: Case, lengths: tuple[int, ...], kernel: str) -> tuple[float, float]:
    """Seconds of forward, and of forward and backward, over all layers of one batch."""
    torch.manual_seed(0)
    sequences = Sequences.from_lengths(lengths)
    tokens = sequences.num_tokens
    times = torch.randint(0, 3600, (tokens,)).cumsum(0)
    layers = [
        [torch.randn(tokens, case.heads, case.dim, requires_grad=True) for _ in range(3)]
        + [torch.randn(size, requires_grad=True) for size in (max(lengths), NUM_BUCKETS)]
        for _ in range(case.layers)
    ]
    gradient = torch.randn(tokens, case.heads, case.dim)
    start = time.perf_counter()
    relative_time = RelativeTime(times, times, sequences)
    outs = []
    for q, k, v, position, table in layers:
        bias = RelativeBias(position, table, relative_time)
        outs.append(
            attention(
                q,
                k,
                v,
                sequences,
                activation=case.activation,  # type: ignore[arg-type]
                mask=Causal(),
                bias=bias,
                qk_scale=case.dim**-0.5,
                output_scale=1 / max(lengths) if case.activation == "silu" else 1.0,
                kernel=kernel,
            )
        )
    forward = time.perf_counter() - start
    torch.autograd.backward(outs, [gradient] * len(outs))
    return forward, time.perf_counter() - start


def peak_memory() -> float:
    """Peak of the resident set, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: Case, kernel: str, threads: int, repeats: int) -> Measurement:
    torch.set_num_threads(threads)
    one_pass(case, (3, 2), kernel)
    before = peak_memory()
    passes = [one_pass(case, case.lengths, kernel) for _ in range(repeats)]
    forward, both = (statistics.median(column) * 1000 for column in zip(*passes, strict=True))
    return Measurement(forward, both, peak_memory() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    table = Table(
        title=f"attention on the CPU, float32, {options.threads} threads, medians of {options.repeats}"
    )
    for column in ("batch", "tokens", "kernel", "forward", "forward + backward", "memory added"):
        table.add_column(column, justify="left" if column in ("batch", "kernel") else "right")
    context = multiprocessing.get_context("spawn")
    for case in cases():
        for kernel in KERNELS:
            with context.Pool(1) as pool:
                result = pool.apply(measure, (case, kernel, options.threads, options.repeats))
            table.add_row(
                case.name,
                f"{sum(case.lengths):,}",
                kernel,
                f"{result.forward:,.1f} ms",
                f"{result.both:,.1f} ms",
                f"{result.memory:,.0f} MiB",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
