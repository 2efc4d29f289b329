"""What each optimization of the Triton attention kernels brings: all off, then on one after the other.

    PYTHONPATH=. python benchmarks/attention_steps.py [--only "tuned|dense"]

One GPU; bf16, causal, both biases, all gradients, (16 sequences, 4 heads, length 2048, dimension 128),
medians. Before them the dense reference, as it is and compiled; after them the two floors: arithmetic at the
card's peak, and every operand read or written once. Each line is measured in a process of its own, since a
compiled kernel keeps what it was compiled with. With $OUT set, numbers also go to $OUT/attention_steps.json.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import triton
import triton.language as tl

from models.attention.silu.mma_loads import load_at

SHAPE = (16, 4, 2048, 128)
PEAK_FLOPS = 989e12  # H100 SXM, dense bf16
PEAK_BYTES = 3.35e12  # HBM3


def _plain_tiles() -> None:
    from models.attention.silu import specialization
    from models.gpu.tile_shape import TileShape

    choose, small = specialization.choose_tile_shapes, TileShape(64, 32, 4, 2)

    def patched(*arguments: Any) -> Any:
        return replace(choose(*arguments), forward=small, keys=small, queries=small)

    specialization.choose_tile_shapes = patched


def _mask_everywhere() -> None:
    from models.attention.silu import specialization

    choose = specialization.choose_tile_shapes
    specialization.choose_tile_shapes = lambda *arguments: replace(choose(*arguments), split=False)


def _exact_sigmoid() -> None:
    from models.attention.silu import specialization

    specialization.INTERPRETED = True  # there, it only says whether tanh.approx is to be had


def _plain_loads() -> None:
    from models.attention.silu import mma_loads

    mma_loads._NATIVE = tl.constexpr(False)


@triton.jit
def _not_waited_for(tile):
    return tile


def _products_under_way() -> None:
    from models.attention.silu import forward, query_gradients

    query_gradients.wait_for_product = forward.wait_for_product = _not_waited_for


@triton.jit
def _load_every_pair(table, start, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIGN: tl.constexpr, most=None):
    place = start + SIGN * (tl.arange(0, ROWS)[:, None] - tl.arange(0, COLUMNS)[None, :])
    if most is not None:
        place = tl.maximum(tl.minimum(place, most), 0)
    return load_at(table, place)


def _position_of_every_pair() -> None:
    from models.attention.silu import simple_tiles, tile_bias

    tile_bias.load_diagonals = simple_tiles.load_diagonals = _load_every_pair


@triton.jit
def _exact_log2(x):
    return tl.log2(x)


def _exact_logarithm() -> None:
    from models.attention.silu import buckets

    buckets.fast_log2 = _exact_log2


def _bucket_of_every_pair() -> None:
    from models.attention.silu import simple_tiles

    simple_tiles._FEW = tl.constexpr(0)


def _times_in_every_layer() -> None:
    from models.attention.silu import attention_call, times
    from models.attention.silu.tiles import BLOCK, tile_list

    attention_call.times_of = lambda given: times.find_times(
        given.query_time, given.timestamp, tile_list(given.sequences, BLOCK)
    )


# What turns each one off, in the order in which they come on.
STEPS: dict[str, Callable[[], None]] = {
    "silu by one tanh": _exact_sigmoid,
    "no mask where all is seen": _mask_everywhere,
    "no product under way into the next step": _products_under_way,
    "table reads in the layout of the matrix units": _plain_loads,
    "positions read by diagonals": _position_of_every_pair,
    "logarithms by the hardware": _exact_logarithm,
    "few bucket boundaries: compare instead of look up": _bucket_of_every_pair,
    "times found once a batch": _times_in_every_layer,
    "tuned tiles": _plain_tiles,
}


def measure(off: list[str]) -> tuple[float, float]:
    """Milliseconds of forward and of both with some optimizations off."""
    for name in off:
        STEPS[name]()
    from benchmarks.attention import Batch, milliseconds

    count, heads, length, dim = SHAPE
    batch = Batch([length] * count, heads, dim, "log-normal")
    return milliseconds(batch.forward), milliseconds(batch.both)


def compile_kernels(off: list[str]) -> None:
    """Leave the kernels in Triton's cache."""
    for name in off:
        STEPS[name]()
    from benchmarks.attention import Batch

    _, heads, _, dim = SHAPE
    Batch([300], heads, dim, "log-normal").both()


def measure_dense(compiled: bool) -> tuple[float, float]:
    """The same of the dense reference."""
    import torch

    from benchmarks.attention import Batch, milliseconds

    count, heads, length, dim = SHAPE
    batch = Batch([length] * count, heads, dim, "log-normal")
    forward = torch.compile(lambda: batch.forward("reference")) if compiled else None

    def run() -> Any:
        return forward() if forward else batch.forward("reference")

    def both() -> Any:
        return torch.autograd.grad(run(), batch.leaves, batch.given)

    return milliseconds(run), milliseconds(both)


def floors() -> dict[str, tuple[float, float]]:
    """Milliseconds of forward and of both that arithmetic and memory allow."""
    count, heads, length, dim = SHAPE
    flops = 4 * count * heads * length**2 * dim / 2
    operand = 2 * count * heads * length * dim
    # Forward reads three and writes one; backward reads those three and the given gradient, writes three.
    return {
        "floor: arithmetic": (1e3 * flops / PEAK_FLOPS, 1e3 * 3.5 * flops / PEAK_FLOPS),
        "floor: bytes": (1e3 * 4 * operand / PEAK_BYTES, 1e3 * 11 * operand / PEAK_BYTES),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="lines whose name this regular expression finds")
    only = re.compile(parser.parse_args().only)
    record: dict[str, tuple[float, float]] = {}
    context = multiprocessing.get_context("spawn")

    def show(name: str, call: Callable[..., tuple[float, float]], *arguments: Any) -> None:
        with context.Pool(1) as pool:
            try:
                record[name] = pool.apply(call, arguments)
            except Exception as error:  # a step may not compile on another card: the others still count
                print(f"{name}: {error!r}"[:500], flush=True)
                return
        forward, both = record[name]
        print(f"{name}: forward {forward:.3f} ms, both {both:.3f} ms", flush=True)

    for name, compiled in (("dense, plain torch", False), ("dense, torch.compile", True)):
        if only.search(name):
            show(name, measure_dense, compiled)
    names = list(STEPS)
    lines = {"fused kernels, nothing else": names}
    lines |= {f"+ {name}": names[number:] for number, name in enumerate(names, start=1)}
    chosen = {name: off for name, off in lines.items() if only.search(name)}
    with context.Pool() as pool:
        # Side by side; what does not compile is told of below.
        for waiting in [pool.apply_async(compile_kernels, (off,)) for off in chosen.values()]:
            waiting.wait()
    for name, off in chosen.items():
        show(name, measure, off)
    record |= floors()
    for name, (forward, both) in floors().items():
        print(f"{name}: forward {forward:.3f} ms, both {both:.3f} ms", flush=True)
    if "OUT" in os.environ:
        Path(os.environ["OUT"], "attention_steps.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
