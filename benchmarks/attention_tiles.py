"""Tile sizes of the attention kernels beside each other: what `models/attention/silu/tuning.py` is made of.

    PYTHONPATH=. python benchmarks/attention_tiles.py [--shape 32 4 4099 256] [--bias none]
        [--kernels forward keys queries kept kept_summed]

One GPU; bf16, causal, milliseconds of each kernel by the profiler, with TFLOP/s of what it multiplies (half
of the square: two products forward, four for the keys, three for the queries, one where
gradients of scores are kept; with tables `kept_summed`). Variants compile side by side
in processes of their own, before any is measured. With $OUT set, numbers also go to
$OUT/attention_tiles.json, after each line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention import BIASES, Batch
from benchmarks.profiling import kernel_times
from models.attention.silu import specialization, wide
from models.gpu.tile_shape import TileShape

CANDIDATES: dict[str, list[TileShape]] = {
    "forward": [
        TileShape(128, 64, 8, 2), TileShape(128, 32, 8, 3),
    ],
    "keys": [
        TileShape(64, 64, 8, 2), TileShape(64, 32, 8, 2), TileShape(64, 32, 8, 3),
    ],
    "queries": [
        TileShape(128, 32, 8, 2), TileShape(128, 32, 8, 3), TileShape(64, 64, 8, 2),
    ],
    "kept": [
        TileShape(128, 64, 8, 3), TileShape(128, 64, 8, 4), TileShape(128, 32, 8, 4), TileShape(64, 64, 4, 3),
        TileShape(128, 64, 8, 2),
    ],
    "kept_summed": [
        TileShape(64, 64, 8, 3), TileShape(64, 32, 4, 3), TileShape(64, 64, 4, 2),
    ],
}  # fmt: skip
"""The first is the one of the table."""
NAMES = {"forward": "forward_kernel", "keys": "key_gradient_kernel", "queries": "query_gradient_kernel",
         "kept": "kept_query_gradient_kernel", "kept_summed": "query_gradient_kernel"}  # fmt: skip
PRODUCTS = {"forward": 2, "keys": 4, "queries": 3, "kept": 1, "kept_summed": 1}
CALLS = 3


def use(kernel: str, shape: TileShape) -> None:
    """From now on, one kernel is cut so; that for the queries finds scores again."""
    wide.most_bytes = (lambda device: 0) if kernel == "queries" else _KEPT  # type: ignore[assignment]
    specialization.kernel_set.cache_clear()
    chosen = _CHOOSE
    specialization.choose_tile_shapes = lambda kind: replace(chosen(kind), **{kernel: shape})


_KEPT, _CHOOSE = wide.most_bytes, specialization.choose_tile_shapes


def compile_kernel(kernel: str, shape: TileShape, heads: int, dim: int, bias: str) -> str:
    """Leave it in Triton's cache; what went wrong."""
    use(kernel, shape)
    gaps, tables = BIASES[bias]
    try:
        batch = Batch([300, 260], heads, dim, gaps, tables=tables)
        if kernel == "forward":
            batch.forward()
        else:
            batch.both()
        torch.cuda.synchronize()
    except Exception as error:
        return repr(error)[:300]
    return ""


def measure(kernel: str, shape: TileShape, batch: Batch) -> dict[str, Any]:
    use(kernel, shape)
    found = kernel_times(batch.both if kernel != "forward" else batch.forward, CALLS, before=1)
    ms = sum(one.ms for one in found if one.name == NAMES[kernel])
    return {"ms": round(ms, 4), "TFLOP/s": round(PRODUCTS[kernel] * batch.work() / 2 / ms / 1e9, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=4, default=[32, 4, 4099, 256])
    parser.add_argument("--bias", choices=[*BIASES], default="none")
    parser.add_argument("--kernels", nargs="+", choices=[*CANDIDATES], default=[*CANDIDATES][:4])
    options = parser.parse_args()
    count, heads, length, dim = options.shape
    variants = [(kernel, shape) for kernel in options.kernels for shape in CANDIDATES[kernel]]
    with multiprocessing.get_context("spawn").Pool(min(len(variants), os.cpu_count() or 1)) as pool:
        wrong = pool.starmap(
            compile_kernel, [(*variant, heads, dim, options.bias) for variant in variants], chunksize=1
        )
    gaps, tables = BIASES[options.bias]
    batch = Batch([length] * count, heads, dim, gaps, tables=tables)
    rows: list[Any] = []
    for (kernel, shape), error in zip(variants, wrong, strict=True):
        row: dict[str, Any] = {"kernel": kernel, "tile": str(shape), "bias": options.bias}
        rows.append(row)
        try:
            row |= {"error": error} if error else measure(kernel, shape, batch)
        except Exception as problem:  # the others still count
            row["error"] = repr(problem)[:300]
        print(json.dumps(row), flush=True)
        if "OUT" in os.environ:
            record = {"device": torch.cuda.get_device_name(), "options": vars(options), "rows": rows}
            Path(os.environ["OUT"], "attention_tiles.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
