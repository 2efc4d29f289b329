"""Training steps on large catalogs, on one GPU: the loss, the item table, and what `lrm train` adds.

    PYTHONPATH=. python benchmarks/training_steps.py [--parts passes loss steps changes train tiles]

HSTU, 4 blocks, width 256, 4 heads, both biases, 65,536 tokens a step, 4,096 shared negatives; targets by
Zipf's law (exponent 1.05), as those of the log of benchmarks/prepare_peers.

- `passes`: errors of single passes around the blocks, relative to float64.
- `loss`: of 65,536 positions alone, forward and backward, by the kernels that never write scores and in
  chunks, with shared and with in-batch negatives; errors of the kernels, relative to float64.
- `tiles`: the two kernels of that loss with other tiles.
- `steps`: whole steps on one batch that stays on the GPU, replayed as CUDA graphs and not: by negatives,
  by the optimizer of the item table, by the number of items; with the memory of each, and the kernels that
  take longest of some.
- `changes`: such steps without single optimizations, and without all of them.
- `train`: tokens/s that `lrm train` reports after its first epoch, with its defaults and without; what the
  loader gives alone, and with what a step does on the host; steps on one batch of that log, replayed.

With $OUT set, numbers also go to $OUT/training_steps.json, after every line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.steps.losses import loss, tiles
from benchmarks.steps.measured import Results
from benchmarks.steps.passes import passes
from benchmarks.steps.trained import WAYS, train
from benchmarks.steps.whole import changes, steps

PARTS = ("passes", "loss", "steps", "changes", "train", "tiles")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--events", type=int, default=4_000_000, help="of the log of `train`")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="of `train`")
    parser.add_argument("--epochs", type=int, default=5, help="of `train`")
    arguments = parser.parse_args()
    results = Results()
    results.add("device", {"name": torch.cuda.get_device_name(), "torch": torch.__version__})
    parts: dict[str, Callable[[], None]] = {
        "passes": lambda: passes(results),
        "loss": lambda: loss(results),
        "tiles": lambda: tiles(results),
        "steps": lambda: steps(results),
        "changes": lambda: changes(results),
        "train": lambda: train(results, arguments.events, arguments.epochs, arguments.ways),
    }
    for part in arguments.parts:
        try:
            parts[part]()
        except Exception as error:  # the other parts are worth having
            results.add("errors of parts", {"part": part, "error": repr(error)[:500]})


if __name__ == "__main__":
    main()
