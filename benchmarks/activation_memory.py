"""What a block keeps between the forward and the backward pass, counted on the CPU under bf16 autocast.

    PYTHONPATH=. python benchmarks/activation_memory.py [--compiled] [--only "hstu;llama"] [--dropout 0.2]

In bytes a token and unit of width, of every backbone and every `recompute` setting. Counted is what the
allocator gave out and did not get back, from passes that differ in blocks and in tokens: what does not
grow with both (weights, what blocks share, a result) falls out. Kernels are those of a GPU: Triton's,
interpreted, and torch's flash attention. The HSTU paper (arXiv 2402.17152) counts 14 for HSTU and 33 for a
Transformer, all numbers in bf16; here the residual path is in fp32. The last line is the table as JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
from torch import Tensor, nn

from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.tokens import Tokens
from models.training.compile import compile_blocks

DIM, HEADS, LENGTH, SEQUENCES = 512, 2, 64, 2
CASES: dict[str, dict[str, Any]] = {
    "hstu": {"kind": "hstu"},
    "hstu, no bias": {"kind": "hstu", "bias": "none"},
    "fuxi": {"kind": "fuxi"},
    "sasrec": {"kind": "sasrec"},
    "gpt": {"kind": "gpt"},
    "llama": {"kind": "llama"},
    "ligr": {"kind": "ligr"},
}


def kept_by_a_block(settings: dict[str, Any], *, compiled: bool = False) -> float:
    """Bytes a token and unit of width."""
    found = {blocks: _kept(settings, blocks, compiled) for blocks in (1, 3)}
    growth = [more - less for less, more in zip(found[1], found[3], strict=True)]
    return (growth[1] - growth[0]) / 2 / (SEQUENCES * LENGTH) / DIM


def _kept(settings: dict[str, Any], blocks: int, compiled: bool) -> list[int]:
    """Bytes held after a forward pass, of one batch and of one twice as large."""
    gc.freeze()  # What is imported stays: no need to look through it whenever bytes are counted.
    config = BackboneConfig(blocks=blocks, dim=DIM, heads=HEADS, **settings)
    if config.block_settings(LENGTH).activation == "silu":
        # The CPU's own kernel takes no bf16.
        config = config.model_copy(update={"attention": "triton"})
    backbone = build_backbone(config, max_length=LENGTH).train()
    if compiled:
        compile_blocks(backbone, torch.device("cpu"))
    kept = []
    for sequences in (SEQUENCES, 2 * SEQUENCES):
        batch = PackedBatch.from_lists(
            [[1] * LENGTH] * sequences, timestamps=[[60 * at for at in range(LENGTH)]] * sequences
        )
        tokens = OneTokenPerEvent().tokens(batch)
        x = torch.randn(batch.num_events, DIM, requires_grad=True)
        run(backbone, x, tokens)  # compiles, and makes what is made once a batch
        before = _allocated()
        out = run(backbone, x, tokens)
        kept.append(_allocated() - before)
        del out
    return kept


_FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def _allocated() -> int:
    """Bytes that this process holds from malloc, which is where tensors come from."""
    gc.collect()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo
    found = library.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def run(backbone: nn.Module, x: Tensor, tokens: Tokens) -> Tensor:
    """A forward pass in mixed precision."""
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = backbone(x, tokens)
    return out


def rows(names: list[str], dropout: float, compiled: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each case, what each way keeps."""
    for name in names:
        settings = {**CASES[name], "dropout": dropout}
        row = {
            mode: kept_by_a_block({**settings, "recompute": mode}) for mode in ("none", "pointwise", "block")
        }
        if compiled:
            for mode in ("none", "pointwise"):
                torch.compiler.reset()
                row[f"{mode}, compiled"] = kept_by_a_block({**settings, "recompute": mode}, compiled=True)
        yield name, row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true", help="compiled blocks too (needs a C++ compiler)")
    parser.add_argument("--only", default=";".join(CASES), help="cases, with semicolons between them")
    parser.add_argument("--dropout", type=float, default=0.2)
    options = parser.parse_args()
    table = {}
    for name, row in rows(options.only.split(";"), options.dropout, options.compiled):
        table[name] = row
        print(f"| {name} | " + " | ".join(f"{kept:.1f}" for kept in row.values()) + " |", flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
