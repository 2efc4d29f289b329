"""Blocks of equal width beside each other on one GPU: tokens a second and memory, forward and backward.

    PYTHONPATH=. python benchmarks/blocks.py [--dim 512] [--heads 4] [--length 2048] [--sequences 16]
        [--dropout 0.2] [--only "HSTU, both biases"]

bf16 autocast, full sequences, medians; HSTU with both biases and without, Llama, GPT, and HSTU with softmax
(through xformers, and padded with a bias tensor); eager, with `recompute` pointwise or block, and compiled.
`kept` is what a block keeps for backward, in bytes a token and unit of width, measured as the memory that a
stack of four blocks adds, divided by four; the HSTU paper (arXiv 2402.17152) states 14 for HSTU and 33 for a
Transformer. With $OUT set, numbers go to $OUT/blocks.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.attention import milliseconds
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.tokens import Tokens
from models.layers.kinds import RecomputeMode
from models.training.compile import compile_blocks

BLOCKS = 4
VARIANTS: dict[str, tuple[bool, RecomputeMode]] = {
    "eager": (False, "none"),
    "pointwise": (False, "pointwise"),
    "block": (False, "block"),
    "compiled": (True, "none"),
    "compiled, pointwise": (True, "pointwise"),
}
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "HSTU, both biases": ({"kind": "hstu"}, [*VARIANTS]),
    "HSTU, no bias": ({"kind": "hstu", "bias": "none"}, ["eager", "pointwise"]),
    "HSTU, softmax, no bias": ({"kind": "hstu", "activation": "softmax", "bias": "none"}, ["eager"]),
    "HSTU, softmax, both biases": ({"kind": "hstu", "activation": "softmax"}, ["eager"]),
    "Llama": ({"kind": "llama"}, [*VARIANTS]),
    "GPT": ({"kind": "gpt"}, ["eager", "pointwise"]),
}


def make_batch(lengths: list[int]) -> PackedBatch:
    """Events an hour apart, on the GPU."""
    batch = PackedBatch.empty(np.array(lengths, np.int64), has_time=True)
    for values in batch.values.values():
        values.zero_()
    batch.timestamp.copy_(torch.arange(sum(lengths)) * 3600)
    batch.query_time.copy_(batch.timestamp + 3600)
    batch.position.copy_(torch.cat([torch.arange(length) for length in lengths]))
    return batch.to("cuda")


def make_tokens(lengths: list[int]) -> Tokens:
    """The same as tokens."""
    return OneTokenPerEvent().tokens(make_batch(lengths))


def measure(
    settings: dict[str, Any], options: argparse.Namespace, compiled: bool, recompute: RecomputeMode
) -> dict[str, float]:
    torch.manual_seed(0)
    sizes = {name: getattr(options, name) for name in ("dim", "heads", "dropout")}
    config = BackboneConfig(blocks=BLOCKS, recompute=recompute, **sizes, **settings)
    backbone = build_backbone(config, max_length=options.length).cuda()
    if compiled:
        torch.compiler.reset()
        compile_blocks(backbone, torch.device("cuda"))
    tokens = make_tokens([options.length] * options.sequences)
    count = tokens.sequences.num_tokens
    x = torch.randn(count, options.dim, device="cuda", requires_grad=True)

    def both() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            out = backbone(x, tokens)
        out.sum().backward()

    both()
    time = milliseconds(both)
    kept = _kept(backbone, x, tokens)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return {
        "tokens/s a block": count * BLOCKS / time * 1e3,
        "ms": time,
        "kept": kept / count / options.dim / BLOCKS,
        "peak MiB": peak / 2**20,
    }


def _kept(backbone: nn.Module, x: torch.Tensor, tokens: Tokens) -> float:
    """Bytes that are held between forward and backward."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.bfloat16):
        out = backbone(x, tokens)
    held = torch.cuda.memory_allocated() - before
    out.sum().backward()
    return float(held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("dim", 512), ("heads", 4), ("length", 2048), ("sequences", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--only", default="", help="cases and variants whose name contains this")
    options = parser.parse_args()
    record: dict[str, Any] = {"device": torch.cuda.get_device_name(), "options": vars(options)}
    for case, (settings, variants) in CASES.items():
        for name in (f"{case}, {variant}" for variant in variants if options.only in f"{case}, {variant}"):
            try:
                row: Any = measure(settings, options, *VARIANTS[name.removeprefix(f"{case}, ")])
            except Exception as error:  # the others still count
                row = repr(error)[:300]
            record[name] = row
            print(f"{name}: {json.dumps(row)}", flush=True)
    if "OUT" in os.environ:
        Path(os.environ["OUT"], "blocks.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
