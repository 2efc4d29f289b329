"""Training on one GPU: seconds an epoch, where they go, and utilization at a size that fills the card.

    PYTHONPATH=. python benchmarks/training_gpu.py --shards data/ml-1m
        [--parts epochs softmax profile whole filled]

On MovieLens-1M prepared by `lrm prepare ml-1m`:

- `epochs`: HSTU and HSTU-large as published (batches of 128 sequences), seconds of an epoch, validation left
  out, in the ways that `lrm train` has; beside RecTools 0.19 with these settings on the same kind of card.
- `softmax`: the same of HSTU with softmax instead of SiLU, with and without bias, through xformers and
  through torch's own attention.
- `profile`: of one step of HSTU-large, the kernels that take longest, and how long all take.
- `whole`: 101 epochs of HSTU-large as `lrm train` runs them, each validated and saved; wall time.

And `filled`: 8 blocks, width 512, 4 heads, full sequences of 2048 and bf16: tokens/s and model FLOPs
utilization (models/training/flops.py, of 989 TFLOP/s) with and without bias, and what attention takes by
itself.

With $OUT set, numbers also go to $OUT/training_gpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from behavior.shards.folder import open_shards
from benchmarks.profiling import kernel_times
from models.build import build_task
from models.config import RunConfig, load_config
from models.gpu.precision import mixed_precision
from models.optim import build_optimizer
from models.training import train
from models.training.observer import Silent, StepProgress, TrainStart

RECTOOLS = {"ml-1m/hstu": 2.56, "ml-1m/hstu-large": 4.90}
"""Median seconds of an epoch: RecTools 0.19, fp32, dense padded attention, H100, same settings."""
WAYS: dict[str, list[str]] = {
    "as it is": [],
    "recorded": ["train.cuda_graphs=true"],
    "recorded, compiled": ["train.cuda_graphs=true", "train.compile=true"],
    "recorded, bf16": ["train.cuda_graphs=true", "train.precision=bf16-mixed"],
    "recorded, compiled, bf16": [
        "train.cuda_graphs=true",
        "train.compile=true",
        "train.precision=bf16-mixed",
    ],
}
SOFTMAX = {
    f"{bias} bias, {kernel}": ["model.activation=softmax", f"model.bias={bias}", f"model.attention={kernel}"]
    for bias in ("none", "both")
    for kernel in ("xformers", "sdpa")
}
FILLED = {"blocks": 8, "dim": 512, "heads": 4, "qk_dim": 128, "v_dim": 128, "max_length": 2048}
Row = dict[str, Any]


class Epochs(Silent):
    """Notes when epochs' last reports came."""

    def __init__(self) -> None:
        self.begun: dict[int, float] = {}
        self.ended: dict[int, tuple[float, int]] = {}
        self.rates: dict[int, list[float]] = {}
        self.first = 0.0

    def started(self, start: TrainStart) -> None:
        self.first, self.tokens = time.perf_counter(), start.tokens_per_epoch

    def stepped(self, progress: StepProgress) -> None:
        now = time.perf_counter()
        self.begun.setdefault(progress.epoch, now)
        self.ended[progress.epoch] = now, progress.step
        self.rates.setdefault(progress.epoch, []).append(progress.tokens_per_second)

    def seconds(self) -> float:
        """Of an epoch: the median over all but the first two, by the tokens a second of its reports."""
        means = [statistics.harmonic_mean(rates) for epoch, rates in self.rates.items() if epoch > 2]
        return self.tokens / statistics.median(means)


def epochs(shards: Path, count: int, recipes: list[str], ways: dict[str, list[str]]) -> list[Row]:
    rows = []
    for recipe in recipes:
        for way, settings in ways.items():
            observer = Epochs()
            run = [*settings, f"train.epochs={count}", f"train.validate_every_epochs={count}"]
            with tempfile.TemporaryDirectory() as folder:
                begin = time.perf_counter()
                train(load_config(recipe, run), shards, Path(folder) / "run", observer=observer)
            seconds = observer.seconds()
            row = {
                "recipe": recipe,
                "way": way,
                "s an epoch": round(seconds, 4),
                "tokens/s": round(observer.tokens / seconds),
                "RecTools over this": round(RECTOOLS[recipe] / seconds, 1),
                "whole run s": round(time.perf_counter() - begin, 1),
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def whole(shards: Path, ways: list[str]) -> list[Row]:
    rows = []
    for way in ways:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            result = train(load_config("ml-1m/hstu-large", WAYS[way]), shards, Path(folder) / "run")
            seconds = time.perf_counter() - begin
        row = {
            "way": way,
            "epochs": result.epochs,
            "wall s": round(seconds, 1),
            "best epoch": result.best_epoch,
            "valid ndcg@10": result.best_metrics["ndcg@10"],
        }
        print(row, flush=True)
        rows.append(row)
    return rows


class Steps:
    """Steps of a model on one batch that stays on the GPU, without reports; recorded if settings say so."""

    def __init__(self, config: RunConfig, shards: Path, batch: Any) -> None:
        from models.training.compile import compile_blocks
        from models.training.cuda_graph import CudaGraphs

        torch.manual_seed(0)
        device = torch.device("cuda")
        self.bf16 = config.train.precision.startswith("bf16")
        self.task = build_task(config, open_shards(shards))
        self.objective = self.task.objective.to(device)
        if config.train.compile:
            compile_blocks(self.task.model.backbone, device)
        self.optimizer = build_optimizer(config.optimizer, self.objective)
        self.batch = self.task.prepare(batch).to(device)
        self.take: Callable[[], Any] = self._step
        if config.train.cuda_graphs:
            self.optimizer.keep_rates_on(device)
            self.take = CudaGraphs(device, self.optimizer.capturable)(self._step)

    def __call__(self) -> None:
        self.take()

    def _step(self) -> list[torch.Tensor]:
        self.optimizer.zero_grad()
        with mixed_precision("cuda", enabled=self.bf16, cache_enabled=False):
            loss = self.objective(self.batch)
        loss.backward()
        self.optimizer.step()
        return [loss.detach()]


def profile(shards: Path) -> Row:
    from models.build import make_loader
    from models.data.loading import ShardSource

    config = load_config("ml-1m/hstu-large")
    opened = open_shards(shards)
    batch = next(iter(make_loader(config, ShardSource(opened), opened.manifest.behaviors)))
    return kernels_of(f"HSTU-large, {batch.num_events} tokens", Steps(config, shards, batch))


def kernels_of(name: str, step: Steps) -> Row:
    """What a step's time on the GPU goes into."""
    kernels = kernel_times(step, 5, before=5)
    total = sum(kernel.ms for kernel in kernels)
    print(f"{name}: {total:.2f} ms of kernels a step", flush=True)
    rows = []
    for kernel in kernels[:25]:
        row = (kernel.name[:90], kernel.ms, kernel.times)
        rows.append(row)
        print(f"  {row[1]:.3f} ms {row[2]:5.0f} times  {row[0]}", flush=True)
    return {"ms of kernels": total, "kernels": rows}


def filled(shards: Path, sequences: int) -> list[Row]:
    from benchmarks.attention import Batch, milliseconds
    from benchmarks.blocks import make_batch
    from models.training.flops import peak_flops

    length, rows = FILLED["max_length"], []
    batch = make_batch([length] * sequences)
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(2, 3000, (batch.num_events,), generator=generator)
    batch.item.copy_(items)
    batch.target.copy_(items.roll(-1))
    batch.behavior.fill_(1)
    batch.target_behavior.fill_(1)
    for bias, recompute, compiled, recorded in (
        ("none", "none", True, True),
        ("none", "none", False, True),
        ("both", "none", True, True),
        ("none", "pointwise", False, True),
        ("both", "pointwise", False, True),
        ("none", "none", False, False),
    ):
        settings = [f"model.{name}={value}" for name, value in FILLED.items()]
        settings += [f"model.bias={bias}", "train.precision=bf16-mixed", f"train.compile={compiled}"]
        settings += [f"model.recompute={recompute}", f"train.cuda_graphs={recorded}"]
        settings += ["loss.negatives.sharing=batch", "loss.negatives.count=4096"]
        config = load_config("ml-1m/hstu", settings)
        step = Steps(config, shards, batch)
        torch.cuda.reset_peak_memory_stats()
        ms = milliseconds(step)
        flops = step.task.flops()
        tokens = float(batch.num_events)
        peak = peak_flops(torch.device("cuda"), "bf16-mixed")
        assert peak is not None
        alone = Batch([length] * sequences, 4, 128, "log-normal" if bias == "both" else "none")
        attention = FILLED["blocks"] * milliseconds(alone.both)
        products = flops.squared_length * sequences * length**2
        all_flops = flops.token * tokens + products + flops.position * (tokens - sequences)
        row = {
            "bias": bias,
            "compiled": compiled,
            "recompute": recompute,
            "recorded": recorded,
            "sequences": sequences,
            "ms": round(ms, 2),
            "tokens/s": round(tokens / ms * 1e3),
            "MFU": round(all_flops / ms / peak * 1e3, 4),
            "attention alone ms": round(attention, 2),
            "attention's own utilization": round(products / attention / peak * 1e3, 4),
            "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        }
        print(row, flush=True)
        rows.append(row | kernels_of("the same", step))
        del step
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["epochs", "softmax", "profile", "whole", "filled"])
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--sequences", type=int, default=16, help="of `filled`")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], help="of `epochs` (all) and `whole` (recorded)")
    arguments = parser.parse_args()
    ways = {way: WAYS[way] for way in arguments.ways or WAYS}
    parts: dict[str, Callable[[], Any]] = {
        "epochs": lambda: epochs(arguments.shards, arguments.epochs, [*RECTOOLS], ways),
        "softmax": lambda: epochs(arguments.shards, arguments.epochs, ["ml-1m/hstu"], SOFTMAX),
        "profile": lambda: profile(arguments.shards),
        "whole": lambda: whole(arguments.shards, arguments.ways or ["recorded"]),
        "filled": lambda: filled(arguments.shards, arguments.sequences),
    }
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    found: Row = {"device": torch.cuda.get_device_name()}
    for part in arguments.parts:
        try:
            found[part] = parts[part]()
        except Exception as error:  # the other parts are worth having
            print(part, repr(error), flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "training_gpu.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
