"""What times in order, nearly in order and in no order cost HSTU's attention, as ratios to no bias, by width.

    PYTHONPATH=. python benchmarks/attention_order.py
        [--widths 64 128 256] [--parts errors speeds masks first-call]

- `errors`: results and gradients against the dense reference in float64.
- `speeds`: full sequences, both biases and all gradients: each kernel by the profiler, and calls as a model
  makes them, beside those without a bias.
- `masks`: the same kernels with masks of every kind, at width 128, without a bias and with both.
- `first-call`: seconds of the first forward and backward in a process of its own, where no compiled kernel is
  on disk, and what compiling each kernel and its stages took.

One GPU, bf16, causal. With $OUT set, lines also go to $OUT/attention_order.json, after each of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHAPES = {64: (32, 4, 1024, 64), 128: (16, 4, 2048, 128), 256: (8, 4, 2048, 256)}
"""Sequences, heads, length and width of a head."""
ORDERS = ("none", "log-normal", "skewed", "shuffled", "worst")
"""Times of `benchmarks.attention.Batch`."""


MASKS: dict[str, dict[str, int]] = {
    "causal": {},
    "window 512": {"window": 512},
    "window 512, prefix 64": {"window": 512, "prefix": 64},
    "context 4": {"context": 4},
    "256 candidates": {"candidates": 256},
}


def make(width: int, gaps: str, mask: str = "causal") -> Any:
    import torch

    from benchmarks.attention import Batch
    from models.attention import Mask

    count, heads, length, dim = SHAPES[width]
    settings: dict[str, Any] = {**MASKS[mask]}
    if "candidates" in settings:
        settings["candidates"] = torch.full((count,), settings["candidates"], device="cuda")
    return Batch([length] * count, heads, dim, gaps, mask=Mask(**settings))


def warm(width: int, gaps: str, mask: str = "causal") -> None:
    """Leave the kernels in Triton's cache."""
    make(width, gaps, mask).both()


def errors(width: int, gaps: str) -> dict[str, float]:
    """Relative distance to the reference in float64, of the result and each gradient."""
    from benchmarks.attention import check

    return check(gaps, width)


def speeds(width: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Of each order of times, beside no bias in the same run."""
    from benchmarks.attention import kernel_milliseconds, milliseconds

    plain: dict[str, float] = {}
    for gaps in ORDERS:
        batch = make(width, gaps)
        kernels = kernel_milliseconds(batch.both)
        found = {
            "forward": milliseconds(batch.forward), "both": milliseconds(batch.both),
            "forward kernel": kernels["forward_kernel"], "kernels": kernels["sum"],
        }  # fmt: skip
        plain = plain or found
        ratios = {name: round(number / plain[name], 3) for name, number in found.items()}
        yield gaps, {"times no bias": ratios, "ms": found, "each ms": kernels}


def masks(width: int = 128) -> Iterator[tuple[str, dict[str, object]]]:
    """Milliseconds of the kernels, without a bias and with both."""
    from benchmarks.attention import kernel_milliseconds

    for mask in MASKS:
        found = {gaps: kernel_milliseconds(make(width, gaps, mask).both) for gaps in ORDERS[:2]}
        plain, both = (found[gaps]["sum"] for gaps in ORDERS[:2])
        yield mask, {"times no bias": both / plain, "each ms": found}


def first_call(gaps: str) -> None:
    """Print seconds until the first gradients are there; what ran before: a product and gradients that are
    given, so that CUDA is up and torch has imported what it wants for these (sympy, for seconds)."""
    import torch
    import triton

    compiled: dict[str, dict[str, float]] = {}

    def heard(*, src: Any, times: Any, **_: Any) -> None:
        stages = {stage: round(took / 1e6, 2) for stage, took in times.lowering_stages}
        compiled[src.name] = {
            "done at": round(time.perf_counter() - start, 2), "took": round(times.total / 1e6, 2),
            "ir": round(times.ir_initialization / 1e6, 2), **stages,
        }  # fmt: skip

    triton.knobs.compilation.listener = heard
    batch = make(128, gaps)
    ones = torch.ones(64, 64, device="cuda", requires_grad=True)
    torch.autograd.grad(ones @ ones, [ones], torch.ones(64, 64, device="cuda"))
    torch.cuda.synchronize()
    start = time.perf_counter()
    batch.forward()
    torch.cuda.synchronize()
    forward = time.perf_counter() - start
    batch.both()
    torch.cuda.synchronize()
    print(json.dumps({
        "forward and its compilations": forward, "seconds": time.perf_counter() - start, "cores":
        os.cpu_count(), "compiled": compiled,
    }))  # fmt: skip


def first_calls() -> Iterator[tuple[str, dict[str, object]]]:
    """Without any kernel on disk, nor the helpers that Triton compiles for itself."""
    for gaps in ("none", "log-normal"):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, __file__, "--first-call", gaps],
                env=os.environ | {"TRITON_CACHE_DIR": folder},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
        yield gaps, json.loads(done.stdout.splitlines()[-1])


def rows(parts: list[str], widths: list[int]) -> Iterator[tuple[str, object]]:
    """What each part measures, by name."""
    if "first-call" in parts:
        for gaps, row in first_calls():
            yield f"first call, {gaps}", row
    kinds = [(width, gaps, "causal") for width in widths for gaps in ORDERS[:2]]
    if "masks" in parts:
        kinds += [(128, gaps, mask) for mask in MASKS for gaps in ORDERS[:2]]
    if parts != ["first-call"]:
        start = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(8) as pool:
            # What does not compile is told of below.
            for one in [pool.apply_async(warm, kind) for kind in kinds]:
                one.wait()
        yield "compiled side by side", time.perf_counter() - start
    for width in widths:
        if "errors" in parts:
            for gaps in ORDERS:
                yield f"errors, width {width}, {gaps}", errors(width, gaps)
        if "speeds" in parts:
            for gaps, found in speeds(width):
                yield f"width {width}, {gaps}", found
    if "masks" in parts:
        for mask, found in masks():
            yield f"mask {mask}", found


def main() -> None:
    parts = ["errors", "speeds", "masks", "first-call"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--widths", nargs="+", type=int, choices=[*SHAPES], default=[*SHAPES])
    parser.add_argument("--first-call", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_call is not None:
        first_call(options.first_call)
        return
    record: dict[str, object] = {}
    for name, row in rows(options.parts, options.widths):
        record[name] = row
        print(name, json.dumps(row, default=str), flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "attention_order.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
