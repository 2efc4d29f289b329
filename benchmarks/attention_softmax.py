"""Softmax attention on one GPU: xformers beside torch's own, with a bias tensor, packed and padded.

    PYTHONPATH=. python benchmarks/attention_softmax.py

Work is counted as is usual: half of the square of the real lengths, and backward as 2.5 times forward; a bias
tensor makes kernels compute the whole square, which is not counted. Times are medians. Results are compared
with the dense reference in float64 first. With $OUT set, numbers also go to $OUT/attention_softmax.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from attention import Batch, milliseconds
from torch import Tensor

from models.attention import Causal, reference, sdpa, xformers
from models.attention.inputs import AttentionInputs

SHAPES = ((16, 4, 2048, 128), (8, 4, 8192, 128))
"""Sequences, heads, length, head dimension."""
Row = dict[str, object]
Run = Callable[[AttentionInputs], Tensor]


def inputs_of(batch: Batch) -> AttentionInputs:
    q, k, v = batch.leaves[:3]
    scale = batch.dim**-0.5
    return AttentionInputs(q, k, v, batch.sequences, "softmax", Causal(), batch.bias, scale, 1.0)


def gradients(run: Run, batch: Batch) -> list[Tensor]:
    return list(torch.autograd.grad(run(inputs_of(batch)), batch.leaves, batch.given))


def check(run: Run, gaps: str) -> Row:
    """Relative distance to the reference in float64, of the result and each gradient."""
    batch = Batch([700, 1, 300], 2, 64, gaps)
    exact = Batch([700, 1, 300], 2, 64, gaps, torch.float64)
    for leaf, rounded in zip([*exact.leaves[:3], exact.given], [*batch.leaves[:3], batch.given], strict=True):
        leaf.data.copy_(rounded)
    found = [run(inputs_of(batch)), *gradients(run, batch)]
    truth = [reference.run(inputs_of(exact)), *gradients(reference.run, exact)]
    names = ("out", "q", "k", "v", "position", "time")
    errors: Row = {
        name: float((a.detach().double() - b.detach()).norm() / b.detach().norm())
        for name, a, b in zip(names, found, truth, strict=False)
    }
    assert all(error < 2e-2 for error in errors.values()), errors  # type: ignore[operator]
    return errors


def time_kernel(run: Run, batch: Batch) -> Row:
    """Forward, and forward and backward, of one kernel, and the memory that both add."""
    both = milliseconds(lambda: gradients(run, batch))
    return rates(milliseconds(lambda: run(inputs_of(batch))), both, batch.work()) | {
        "added MiB": added_memory(lambda: gradients(run, batch))
    }


def rates(forward: float, both: float, work: float) -> Row:
    tera = (work / forward / 1e9, 3.5 * work / both / 1e9)
    return {"forward ms": forward, "both ms": both, "TFLOP/s": tera}


def added_memory(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def time_torch(shape: tuple[int, int, int, int]) -> Row:
    """torch's function itself, on contiguous [sequences, heads, length, dim]."""
    count, heads, length, dim = shape
    made = (torch.randn(count, heads, length, dim, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    q, k, v, given = made
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]

    def run() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    both = milliseconds(lambda: torch.autograd.grad(run(), leaves, given))
    return rates(milliseconds(run), both, 4 * count * heads * length**2 * dim / 2)


def full_lengths(shape: tuple[int, int, int, int]) -> Row:
    count, heads, length, dim = shape
    batch = Batch([length] * count, heads, dim)
    return {
        "xformers": time_kernel(xformers.run, batch),
        "sdpa kernel": time_kernel(sdpa.run, batch),
        "torch's function": time_torch(shape),
    }


def with_bias() -> Row:
    """The relative bias as a tensor: xformers, torch, and the dense reference in bfloat16."""
    count, heads, length, dim = SHAPES[0]
    batch = Batch([length] * count, heads, dim, "log-normal")
    kernels = {"xformers": xformers.run, "sdpa kernel": sdpa.run, "dense": reference.run}
    return {name: time_kernel(run, batch) for name, run in kernels.items()}


def ragged(lengths: Sequence[int]) -> Row:
    """Packed tokens with a block-diagonal mask against rows padded to the longest."""
    batch = Batch(lengths, 4, 128)
    packed, padded = time_kernel(xformers.run, batch), time_kernel(sdpa.run, batch)
    return {
        "tokens": sum(lengths), "padded tokens": len(lengths) * max(lengths),
        "packed (xformers)": packed, "padded (sdpa kernel)": padded,
    }  # fmt: skip


def main() -> None:
    reasons = xformers.unavailable()
    if reasons:
        raise SystemExit("; ".join(reasons))
    record: Row = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}

    def show(name: str, row: Row) -> None:
        record[name] = row
        print(name, json.dumps(row), flush=True)

    for gaps in ("none", "log-normal"):
        show(f"error xformers, bias {gaps}", check(xformers.run, gaps))
        show(f"error sdpa, bias {gaps}", check(sdpa.run, gaps))
    for shape in SHAPES:
        show(f"full lengths {shape}", full_lengths(shape))
    show(f"bias tensor {SHAPES[0]}", with_bias())
    show("zipf, 8192 / rank, 64 sequences", ragged([max(1, 8192 // rank) for rank in range(1, 65)]))
    generator = torch.Generator().manual_seed(0)
    show("uniform, 0.9 N to N", ragged(torch.randint(1843, 2049, (16,), generator=generator).tolist()))
    if "OUT" in os.environ:
        Path(os.environ["OUT"], "attention_softmax.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
