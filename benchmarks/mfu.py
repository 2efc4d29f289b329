"""Model FLOPs utilization at two published shapes of HSTU, and where the time on the GPU goes.

    PYTHONPATH=. python benchmarks/mfu.py [--shapes nvidia meta] [--bias none both]
        [--parts errors forward step] [--ways eager recorded compiled] [--dropout 0]
        [--without "" chain chain,parts,written,halved,kept,apart,tiles] [--name mfu]

- `nvidia`: 8 blocks of width 1,024, 4 heads of 256, 32 sequences of 4,099 tokens. NVIDIA's recsys-examples
  state 187 ms a training step on an H100: 701,000 tokens/s, MFU 34.5 %.
- `meta`: 5 blocks of width 512, 4 heads of 128, 32 sequences of a history (112 to 1,972 tokens, 1,042 in the
  mean) and 2,048 candidates each, 98,880 tokens. Issue 530 of Meta's generative-recommenders states 9.30 ms
  of a forward pass on an H100: 10.6 million tokens/s. `meta-causal` is the same where candidates are tokens
  like all others, which is nearly twice the attention.

Blocks alone, in bf16 autocast: `forward` without gradients, in the mode of evaluation; `step` forward,
backward and AdamW, without embeddings and loss; `errors` is the distance to float64. Events are apart by
log-normal gaps.

FLOPs are those of matrix products, a multiplication and an addition as two. Linear layers: twice their
matrices' elements a token forward, three times that in a step. Attention: two products forward, 3.5 times
that in a step, since scores are made again in the backward pass; of a causal square half is counted, of
candidates the history and themselves. That is the count by which 187 ms are 34.5 %. MFU is of 989 TFLOP/s,
the dense peak of an H100 or H200 in bfloat16. `MFU by 3` counts attention three times in a step: what the
mathematics needs, with nothing made again.

`--without` measures with optimizations of wide heads turned off, those of each argument together: `kept`
(gradients of scores kept for those of queries), `apart` (layouts of a tile's first products), `halved`
(half of a product begun one tile ahead), `written` (the bias written once for all heads), `tiles`; and of
what stands around attention: `parts` (SiLU and the gradients of projections), `chain` (sums with norms).

With $OUT set, numbers also go to $OUT/NAME.json, after each line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention import milliseconds
from benchmarks.blocks import make_tokens
from benchmarks.profiling import KernelTime, kernel_times
from models.attention.masks import Mask
from models.attention.silu import launch, specialization
from models.backbones import BackboneConfig, backbone, build_backbone
from models.gpu.availability import without_kernels
from models.gpu.cuda_graph import CudaGraphs
from models.gpu.precision import mixed_precision
from models.gpu.tile_shape import TileShape
from models.inputs.tokens import Tokens
from models.layers import attention_layer
from models.optim import OptimizerConfig, build_optimizer
from models.training.compile import compile_blocks

_CHOOSE, _COMPILED_FOR = specialization.choose_tile_shapes, specialization.KernelSet._compiled_for
_ROOM, _WRITE = launch.room_for_scores, launch.write_bias
_FITS, _CAN_CHAIN = attention_layer.fits_parts, backbone.can_chain
PEAK = 989e12
"""FLOP/s of an H100 SXM or H200, dense, bfloat16."""
KINDS: dict[str, tuple[str, ...]] = {
    "attention forward": ("forward_kernel",),
    "attention backward": ("key_gradient", "query_gradient", "finalize_kernel"),
    "found once a batch": ("boundary_count", "bucket_table", "find_times"),
    "products": ("gemm", "nvjet", "cutlass", "cublas"),
    "optimizer": ("multi_tensor",),
    "norm, gate, dropout": ("norm_",),
    "copies": ("cat", "copy", "memcpy", "memset", "fill"),
}  # fmt: skip
"""Kernels by parts of their names; all others are elementwise."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a stack of blocks and of a batch."""

    blocks: int
    dim: int
    heads: int
    histories: tuple[int, ...]
    candidates: int = 0
    """A sequence, after its history."""
    masked: bool = True
    """Whether candidates do not see each other."""

    @property
    def lengths(self) -> list[int]:
        return [history + self.candidates for history in self.histories]

    @property
    def pairs(self) -> float:
        """Of a query and a key that it sees, as they are counted: half of a square."""
        if not self.masked:
            return sum(length**2 / 2 for length in self.lengths)
        return sum(history**2 / 2 + history * self.candidates for history in self.histories)

    def flops(self, step: bool, attention: float = 3.5) -> float:
        """Of a forward pass, or a step, whose attention counts so many times that of forward."""
        matrices = self.blocks * 5 * self.dim**2
        linear, pairs = 2.0 * matrices * sum(self.lengths), 4.0 * self.blocks * self.dim * self.pairs
        return 3.0 * linear + attention * pairs if step else linear + pairs


_HISTORIES = tuple(112 + 60 * place for place in range(32))
SHAPES = {
    "nvidia": Shape(8, 1024, 4, (4099,) * 32),
    "meta": Shape(5, 512, 4, _HISTORIES, 2048),
    "meta-causal": Shape(5, 512, 4, _HISTORIES, 2048, masked=False),
}
PUBLISHED = {("nvidia", "step"): 187.0, ("meta", "forward"): 9.30}
"""Milliseconds on an H100, without a bias."""


def tokens_of(shape: Shape) -> Tokens:
    """A batch, with log-normal gaps between its events, of a median of an hour."""
    tokens = make_tokens(shape.lengths)
    generator = torch.Generator("cuda").manual_seed(0)
    drawn = torch.randn(len(tokens.timestamp), device="cuda", generator=generator, dtype=torch.float64)
    timestamp = (torch.exp(2 * drawn) * 3600).long().cumsum(0)
    query_time = timestamp.roll(-1)
    ends = tokens.sequences.offsets[1:] - 1
    query_time[ends] = timestamp[ends]
    mask = tokens.mask
    if shape.candidates and shape.masked:
        mask = Mask(candidates=torch.full((len(shape.histories),), shape.candidates, device="cuda"))
    return replace(tokens, timestamp=timestamp, query_time=query_time, mask=mask)


class Blocks:
    """A stack of blocks and a batch on the GPU."""

    def __init__(self, shape: Shape, bias: str, way: str, dropout: float) -> None:
        torch.manual_seed(0)
        config = BackboneConfig.model_validate({
            "kind": "hstu", "blocks": shape.blocks, "dim": shape.dim, "heads": shape.heads,
            "bias": bias, "dropout": dropout,
        })  # fmt: skip
        self.backbone = build_backbone(config, max_length=max(shape.lengths)).cuda()
        assert all(isinstance(block, attention_layer.AttentionLayer) for block in self.backbone.blocks)
        self.tokens, device = tokens_of(shape), torch.device("cuda")
        self.x = torch.randn(sum(shape.lengths), shape.dim, device=device, requires_grad=True)
        self.given = torch.randn_like(self.x)
        if way == "compiled":
            compile_blocks(self.backbone, device)
        self.optimizer = build_optimizer(OptimizerConfig(), self.backbone)
        if way == "recorded":
            self.optimizer.keep_rates_on(device)
        graphs = CudaGraphs(device, self.optimizer.capturable) if way == "recorded" else None
        self.calls: dict[str, Callable[[], Any]] = {
            "forward": self._evaluated if graphs is None else CudaGraphs(device)(self._evaluated),
            "step": self._step if graphs is None else graphs(self._step),
        }

    def _forward(self) -> torch.Tensor:
        with mixed_precision("cuda", cache_enabled=False):
            out: torch.Tensor = self.backbone(self.x, self.tokens)
        return out

    def gradients(self, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        """In float64, by name: the result, and gradients; computed in a type, or in mixed precision."""
        x = self.x.detach().to(dtype or self.x.dtype).requires_grad_()
        with nullcontext() if dtype else mixed_precision("cuda", cache_enabled=False):
            out = self.backbone(x, self.tokens)
        names, leaves = zip(*self.backbone.named_parameters(), strict=True)
        found = torch.autograd.grad(out, [x, *leaves], self.given.to(out.dtype))
        return {
            name: one.detach().double() for name, one in zip(["out", "x", *names], [out, *found], strict=True)
        }

    def _evaluated(self) -> list[torch.Tensor]:
        with torch.no_grad():
            return [self._forward()]

    def _step(self) -> list[torch.Tensor]:
        self.optimizer.zero_grad()
        self.x.grad = None
        self._forward().backward(self.given)
        self.optimizer.step()
        return []


def turn_off(names: str) -> None:
    """Some optimizations, by name; all others are on."""
    small = TileShape(64, 32, 8, 2)
    off = names.split(",")

    def choose(kind: Any) -> Any:
        wide = "tiles" in off and kind.v_dim > 128
        return replace(_CHOOSE(kind), keys=small, queries=small) if wide else _CHOOSE(kind)

    def compiled_for(*given: Any, **more: Any) -> Any:
        found = _COMPILED_FOR(*given, **more)
        found = found._replace(APART=False) if "apart" in off else found
        return found._replace(HALVED=False) if "halved" in off else found

    attention_layer.fits_parts = (lambda given: False) if "parts" in off else _FITS
    backbone.can_chain = (lambda *given: False) if "chain" in off else _CAN_CHAIN
    specialization.choose_tile_shapes = choose
    specialization.KernelSet._compiled_for = compiled_for  # type: ignore[method-assign]
    launch.room_for_scores = (lambda *given: None) if "kept" in off else _ROOM
    launch.write_bias = (lambda *given: None) if "written" in off else _WRITE
    specialization.kernel_set.cache_clear()


def kind_of(kernel: KernelTime) -> str:
    name = kernel.name.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "elementwise")


def measure(name: str, bias: str, part: str, way: str, dropout: float) -> dict[str, Any]:
    shape = SHAPES[name]
    blocks = Blocks(shape, bias, way, dropout)
    blocks.backbone.train(part == "step")
    call, step = blocks.calls[part], part == "step"
    for _ in range(3):
        call()
    torch.cuda.reset_peak_memory_stats()
    ms = milliseconds(call)
    peak = torch.cuda.max_memory_allocated()
    kernels = kernel_times(call, 3, before=0)
    total = sum(kernel.ms for kernel in kernels)
    kinds: dict[str, float] = {}
    for kernel in kernels:
        kinds[kind_of(kernel)] = kinds.get(kind_of(kernel), 0.0) + kernel.ms
    count = sum(shape.lengths)
    published = PUBLISHED.get((name, part))
    return {
        "shape": name, "bias": bias, "part": part, "way": way, "dropout": dropout, "tokens": count,
        "ms": round(ms, 3), "tokens/s": round(count / ms * 1e3),
        "MFU": round(shape.flops(step) / ms * 1e3 / PEAK, 4),
        "MFU by 3": round(shape.flops(step, 3.0) / ms * 1e3 / PEAK, 4),
        "published ms": published if bias == "none" else None,
        "peak GiB": round(peak / 2**30, 2), "kernels ms": round(total, 3),
        "kinds": {kind: round(found, 3) for kind, found in sorted(kinds.items(), key=lambda one: -one[1])},
        "kernels": [(kernel.name[:110], round(kernel.ms, 3), kernel.times) for kernel in kernels[:24]],
    }  # fmt: skip


def compile_case(name: str, bias: str, part: str, way: str, without: str) -> None:
    """Leave kernels in Triton's cache; what does not compile is told of when it is measured."""
    turn_off(without)
    shape = SHAPES[name]
    small = replace(shape, blocks=2, histories=(300, 260), candidates=min(shape.candidates, 40))
    with suppress(Exception):
        blocks = Blocks(small, bias, "eager", 0.0)
        blocks.backbone.train(part == "step")
        blocks.calls[part]()
        torch.cuda.synchronize()


def errors(bias: str, without: str) -> dict[str, Any]:
    """Of two blocks' result and gradients, with heads of 256: distances to those by torch in float64,
    relative to their norms."""
    turn_off(without)
    small = replace(SHAPES["nvidia"], blocks=2, histories=(700, 1, 300))
    blocks = Blocks(small, bias, "eager", 0.0)
    found = blocks.gradients()
    with without_kernels():
        for layer in blocks.backbone.attention_layers:
            layer.settings = replace(layer.settings, kernel="reference")
        blocks.backbone.double()
        exact = blocks.gradients(torch.float64)
    distances = {name: float((one - exact[name]).norm() / exact[name].norm()) for name, one in found.items()}
    worst = max(distances, key=lambda name: distances[name])
    return {"errors": bias, "without": without, "out": distances["out"], "x": distances["x"],
            "worst": worst, "of it": distances[worst]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=["nvidia", "meta"])
    parser.add_argument("--bias", nargs="+", default=["none", "both"])
    parser.add_argument(
        "--parts", nargs="+", choices=["errors", "forward", "step"], default=["errors", "forward", "step"]
    )
    parser.add_argument("--ways", nargs="+", choices=["eager", "recorded", "compiled"], default=["eager"])
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--without", nargs="+", default=[""])
    parser.add_argument("--name", default="mfu")
    options = parser.parse_args()
    rows: list[Any] = []
    cases = [
        (shape, bias, part, way, without)
        for shape in options.shapes for bias in options.bias for part in options.parts if part != "errors"
        for without in options.without for way in options.ways
    ]  # fmt: skip
    # Side by side, in processes of their own.
    with multiprocessing.get_context("spawn").Pool(min(len(cases), os.cpu_count() or 1)) as pool:
        pool.starmap(compile_case, cases, chunksize=1)
    if "errors" in options.parts:
        for bias, without in itertools.product(options.bias, options.without):
            try:
                rows.append(errors(bias, without))
            except Exception as error:
                rows.append({"errors": bias, "without": without, "error": repr(error)[:1000]})
            print(json.dumps(rows[-1]), flush=True)
    for *case, without in cases:
        turn_off(without)
        try:
            row = {"without": without} | measure(*case, options.dropout)
        except Exception as error:  # the others still count
            row = {"case": case, "without": without, "error": repr(error)[:1000]}
        rows.append(row)
        torch.cuda.empty_cache()
        kernels = row.pop("kernels", [])
        print(json.dumps(row), flush=True)
        for kernel, ms, times in kernels:
            print(f"    {ms:8.3f} ms {times:5.1f} times  {kernel}", flush=True)
        row["kernels"] = kernels
        if "OUT" in os.environ:
            record = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
            Path(os.environ["OUT"], f"{options.name}.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
