"""Training on a GPU: the share of time spent waiting for data, and what padding costs.

    python benchmarks/loader_gpu.py --shards data/ml-1m

HSTU-large (8 blocks, 2 heads of 25) on MovieLens-1M by the published recipe: batches of 128 sequences,
length 200. Three trainings of the same steps, same weights, same samples, same real tokens:

- as `lrm train` runs it, batches made in the background;
- on batches that lie on the device already, which no loader can beat: the difference is what data costs;
- on the same batches padded, each sequence to the longest of its batch and to the model's length. The events
  that fill up stand after the real ones and carry no loss, so real tokens get the same outputs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from behavior.shards.folder import open_shards
from models.attention.dispatch import kernel_table
from models.build import build_task, make_loader
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.data.loading import ShardSource
from models.gpu.precision import mixed_precision
from models.optim import build_optimizer
from models.tasks.loss_batch import LossBatch

LARGE = ["model.blocks=8", "model.heads=2"]


def padded(batch: PackedBatch, length: int | None) -> PackedBatch:
    """Every sequence filled up behind its end, to `length` or to the batch's longest."""
    lengths = batch.lengths.numpy()
    width = length or batch.max_length
    place = np.arange(width)
    # The last event of a sequence is repeated; what it predicts is not asked again.
    index = batch.offsets[:-1].numpy()[:, None] + np.minimum(place, lengths[:, None] - 1)
    full = PackedBatch.empty(np.full(len(lengths), width), has_time=batch.has_time, columns=batch.columns)
    for name, values in batch.values.items():
        full[name].copy_(values[torch.from_numpy(index.ravel())])
    full.position.copy_(torch.from_numpy(np.tile(place, len(lengths))))
    full.target[torch.from_numpy((place >= lengths[:, None]).ravel())] = 0
    full.sequence.copy_(batch.sequence)
    return full.validate()


class Training:
    """The steps of `lrm train`, without its reports."""

    def __init__(self, config: RunConfig, shards: Path, device: torch.device, precision: str) -> None:
        torch.manual_seed(0)
        self.device, self.bf16 = device, precision == "bf16"
        self.objective = build_task(config, open_shards(shards)).objective.to(device)
        self.optimizer = build_optimizer(config.optimizer, self.objective)

    def step(self, batch: LossBatch) -> None:
        with mixed_precision(self.device.type, enabled=self.bf16):
            loss = self.objective(batch.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def run(config: RunConfig, shards: Path, device: torch.device, precision: str, epochs: int) -> None:
    """All four trainings, each for `epochs` epochs after one to warm up."""
    opened = open_shards(shards)
    loader = make_loader(config, ShardSource(opened), opened.manifest.behaviors, pin=device.type == "cuda")
    training = Training(config, shards, device, precision)

    def train(batches: Iterable[PackedBatch | LossBatch]) -> Callable[[], None]:
        def work() -> None:
            for batch in batches:
                training.step(batch if isinstance(batch, LossBatch) else LossBatch(batch))

        return work

    timed(train(loader), device)  # compiles, and fills the cache
    waits, seconds = [], []
    for _ in range(epochs):
        before = loader.waited
        seconds.append(timed(train(loader), device))
        waits.append((loader.waited - before) / seconds[-1])
    made = list(loader)
    tokens = sum(batch.num_events for batch in made)
    print(
        f"{precision}: {len(made)} steps, {tokens:,} tokens an epoch; seconds an epoch, medians of {epochs}"
    )
    print(f"  from the loader          {median(seconds):.3f}  waiting for it {median(waits):.2%} of the time")
    kinds: dict[str, list[PackedBatch]] = {
        "packed, on the device": made,
        "padded to the longest": [padded(batch, None) for batch in made],
        "padded to the length": [padded(batch, config.model.max_length) for batch in made],
    }
    base = 0.0
    for kind, batches in kinds.items():
        there = [LossBatch(batch).to(device) for batch in batches]
        positions = sum(batch.num_events for batch in batches)
        timed(train(there), device)
        spent = median(timed(train(there), device) for _ in range(epochs))
        base = base or spent
        print(
            f"  {kind:<24} {spent:.3f}  {spent / base:.2f} times packed; {tokens / spent / 1e6:.2f} M real "
            f"tokens/s; {positions / tokens:.2f} positions a token"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--set", nargs="*", default=[], help="more settings, as of lrm train")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    usable = [kernel for kernel, status in kernel_table().items() if status["usable"]]
    print(f"{name}, torch {torch.__version__}; attention kernels that can run: {', '.join(usable)}")
    config = load_config("ml-1m/hstu", [*LARGE, *arguments.set])
    for precision in arguments.precision:
        run(config, arguments.shards, device, precision, arguments.epochs)


if __name__ == "__main__":
    main()
