"""Kernels of history masses on one GPU: errors, time, memory, and their share of a training step.

    PYTHONPATH=. python benchmarks/history_logits.py [--parts errors speeds kernels] [--json FILE]

- `errors`: masses and all gradients against the dense reference in float64, relative.
- `speeds`: 65,536 events in sequences of log-normal lengths (median a quarter of the longest), all terms,
  bf16: milliseconds forward, and forward and backward, as calls and replayed as a CUDA graph; the memory that
  they add; and beside them a training step without history logits (HSTU, 4 blocks, width 256, both biases,
  200,000 items, 4,096 shared negatives, bf16; forward and backward).
- `kernels`: of each kernel, by the profiler, with all terms and without some.

Times are medians, but for those of `kernels`, which are means.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from benchmarks.attention import graph_milliseconds, kernel_milliseconds, milliseconds
from benchmarks.blocks import make_tokens
from models.attention import Sequences
from models.backbones import BackboneConfig, build_backbone
from models.history import HistoryBias, HistoryColumns, HistoryInputs, kernels, reference
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler

EVENTS, ITEMS, BEHAVIORS, BLOCKS, WIDTH = 65_536, 200_000, 4, 4, 256
LONGEST, DIMS = (200, 2_048, 4_096), (64, 256)
TERMS = ("behavior", "time", "recency", "latest", "closed")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Row = dict[str, Any]


def log_normal_lengths(events: int, longest: int) -> list[int]:
    """Lengths that add up to `events`."""
    generator = torch.Generator().manual_seed(0)
    lengths: list[int] = []
    while sum(lengths) < events:
        drawn = (longest / 4 * torch.randn((), generator=generator).exp()).clamp(1, longest)
        lengths.append(min(int(drawn), events - sum(lengths)))
    return lengths


def make_inputs(
    lengths: Sequence[int], dim: int, dtype: torch.dtype, terms: Sequence[str] = TERMS, items: int = 500
) -> HistoryInputs:
    """Events of few items, log-normal gaps (median an hour, a tenth ties), everything with gradients."""
    generator = torch.Generator("cuda").manual_seed(0)
    events = sum(lengths)

    def draw(most: int) -> Tensor:
        return torch.randint(most, (events,), device="cuda", generator=generator)

    def normal(*shape: int, scale: float = 0.3) -> Tensor:
        return (scale * torch.randn(shape, device="cuda", generator=generator)).requires_grad_()

    gaps = torch.exp(2 * torch.randn(events, device="cuda", generator=generator).double()) * 3600
    gaps[torch.rand(events, device="cuda", generator=generator) < 0.1] = 0
    timestamp = gaps.long().cumsum(0)
    index = torch.arange(events, device="cuda")
    columns = HistoryColumns(
        draw(items), draw(items), draw(BEHAVIORS) + 1, draw(BEHAVIORS) + 1, timestamp,
        timestamp + gaps.long().roll(-1), index + 1 + draw(90), index + 30 - draw(90),
    )  # fmt: skip
    sizes = {"time": (129,), "recency": (64,)}
    tables = {name: normal(*sizes.get(name, (BEHAVIORS + 1, BEHAVIORS + 1))) for name in terms}
    query, key = None, None
    if dim:
        query, key = (normal(events, dim, scale=dim**-0.25).detach().to(dtype) for _ in range(2))
        query, key = query.requires_grad_(), key.requires_grad_()
    return HistoryInputs(
        query, key, HistoryBias(normal(), **tables), columns, Sequences.from_lengths(lengths, "cuda")
    )


def leaves(inputs: HistoryInputs) -> dict[str, Tensor]:
    bias = inputs.bias
    found = {"query": inputs.query, "key": inputs.key, "constant": bias.constant}
    found |= {name: getattr(bias, name) for name in TERMS}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def in_float64(inputs: HistoryInputs) -> HistoryInputs:
    def precise(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().double().requires_grad_()

    tables = {name: precise(getattr(inputs.bias, name)) for name in TERMS}
    bias = HistoryBias(precise(inputs.bias.constant), **tables)
    return replace(inputs, query=precise(inputs.query), key=precise(inputs.key), bias=bias)


def both(inputs: HistoryInputs, run: Callable[[HistoryInputs], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Masses, and all gradients for fixed given ones."""
    masses = run(inputs)
    place = torch.arange(len(masses[0]), device="cuda")
    given = [(place * step).sin().to(masses[0].dtype) for step in (1.0, 2.0)]
    return [*masses, *torch.autograd.grad(masses, list(leaves(inputs).values()), given)]


def errors() -> list[Row]:
    rows = []
    for dtype in DTYPES:
        for dim in (50, 64, 256):
            inputs = make_inputs([700, 1, 0, 300, 64, 129], dim, dtype, items=40)
            found = both(inputs, kernels.run)
            truth = both(in_float64(inputs), reference.run)
            row: Row = {"dtype": str(dtype).removeprefix("torch."), "dim": dim}
            names = ["on target", "on rest", *leaves(inputs)]
            for name, one, other in zip(names, found, truth, strict=True):
                finite = other.isfinite()
                assert torch.equal(finite, one.isfinite()), name
                distance = (one.double() - other)[finite].norm() / other[finite].norm()
                row[name] = float(distance)
            again = both(inputs, kernels.run)
            row["same bits again"] = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
            rows.append(row)
    return rows


def training_step(lengths: Sequence[int]) -> Callable[[], None]:
    """A step without history logits: forward and backward."""
    torch.manual_seed(0)
    longest = max(lengths)
    config = BackboneConfig(kind="hstu", blocks=BLOCKS, dim=WIDTH, heads=4)
    backbone = build_backbone(config, max_length=longest).cuda()
    tokens = make_tokens(list(lengths))
    counts = torch.ones(ITEMS + 1)
    counts[0] = 0
    loss = RetrievalLoss(
        LossConfig(negatives={"count": 4096, "sharing": "batch"}), NegativeSampler(counts, 1).cuda()
    )
    items = torch.nn.Embedding(ITEMS, WIDTH).cuda()
    item, target = torch.randint(ITEMS, (2, sum(lengths)), device="cuda").unbind()

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            query = F.normalize(backbone(items(item), tokens), dim=-1)
            value = loss(query, target, lambda ranks: items.weight if ranks is None else items(ranks))
        value.backward()
        backbone.zero_grad()
        items.zero_grad()

    return step


def speeds() -> list[Row]:
    rows = []
    for longest in LONGEST:
        lengths = log_normal_lengths(EVENTS, longest)
        step = milliseconds(training_step(lengths))
        for dim in DIMS:
            inputs = make_inputs(lengths, dim, torch.bfloat16)

            def forward(inputs: HistoryInputs = inputs) -> object:
                with torch.no_grad():
                    return kernels.run(inputs)

            def all_of_it(inputs: HistoryInputs = inputs) -> object:
                return both(inputs, kernels.run)

            all_of_it()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            all_of_it()
            torch.cuda.synchronize()
            memory = (torch.cuda.max_memory_allocated() - before) / 2**20
            whole = graph_milliseconds(all_of_it)
            rows.append(
                {
                    "longest": longest,
                    "sequences": len(lengths),
                    "dim": dim,
                    "forward ms": milliseconds(forward),
                    "both ms": milliseconds(all_of_it),
                    "forward graph ms": graph_milliseconds(forward),
                    "both graph ms": whole,
                    "MiB": memory,
                    "step ms": step,
                    "of a step": whole / step,
                }
            )
    return rows


def profile() -> list[Row]:
    rows = []
    for longest in LONGEST:
        lengths = log_normal_lengths(EVENTS, longest)
        for dim, terms in ((256, TERMS), (64, TERMS), (64, ()), (64, ("time",)), (64, ("recency",)),
                           (64, ("behavior",)), (0, TERMS)):  # fmt: skip
            inputs = make_inputs(lengths, dim, torch.bfloat16, terms)
            taken = kernel_milliseconds(lambda inputs=inputs: both(inputs, kernels.run))
            rows.append({"longest": longest, "dim": dim, "terms": "+".join(terms) or "none", **taken})
    return rows


def print_rows(name: str, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(*columns, title=name)
    for row in rows:
        table.add_row(*(_short(row.get(column, "")) for column in columns))
    Console(width=200).print(table)


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if value < 1e-2 else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts: dict[str, Callable[[], list[Row]]] = {"errors": errors, "speeds": speeds, "kernels": profile}
    parser.add_argument("--parts", nargs="+", choices=parts, default=["errors", "speeds"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    print(found, flush=True)
    for part in options.parts:
        found[part] = parts[part]()
        print_rows(part, found[part])
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
