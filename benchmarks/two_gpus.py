"""Training on two GPUs beside one: tokens/s, losses, and what happens when a process is killed.

    PYTHONPATH=. python benchmarks/two_gpus.py [--parts rates ends] [--limit 195]

HSTU, 4 blocks, width 256, 4 heads, both biases, bf16, 65,536 tokens a step and GPU, 4,096 shared negatives;
targets by Zipf's law. Catalogs: that of the log of benchmarks/prepare_peers (200,000 items), and the same
with 10 million, of which all but these have one event each.

- `rates`: the steps of `lrm train`, with its loader, from set-up on, without checkpoints: of one GPU (each of
  the two is one, at the same time), then of both, with a copy of the item table each and with its rows
  divided; the kernels that take longest.
- `ends`: `lrm train --devices 2`; one of its processes is killed: seconds until it has ended, and what it
  said. It goes on with one device. At the same time:
- `losses`: 20 steps of one global batch by `lrm train`, float32: one device, two, two with a divided table.

With $OUT set, numbers also go to $OUT/two_gpus.json, after every line, and at the end what processes printed
to $OUT/two_gpus_logs.txt. `--on cpu` tries the script, at small sizes, where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from benchmarks.gpus.cases import CASES, SCALES, make_data, make_shards
from benchmarks.gpus.rates import rates
from benchmarks.gpus.results import Results
from benchmarks.gpus.trainings import ends, losses

FOR_THE_REST = 70.0
"""Seconds that `rates` leaves to what comes after it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["rates", "ends"], choices=["rates", "ends", "losses"])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), help="of two GPUs, in `rates`")
    parser.add_argument("--events", type=int, default=6_000_000, help="of the log")
    parser.add_argument("--limit", type=float, default=195, help="seconds, of all of it")
    parser.add_argument("--on", choices=list(SCALES), default="cuda")
    parser.add_argument(
        "--folder", type=Path, help="of logs, shards and runs; by default one that is removed"
    )
    parser.add_argument("--make", help="all: make the shards in --folder, and nothing else")
    options = parser.parse_args()
    if options.make == "all":
        make_data(options.folder, options.events, options.on)
    elif options.make:
        make_shards(options.folder, options.make, options.events, SCALES[options.on])
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # and all processes with it
    os.environ["PYTHONFAULTHANDLER"] = "1"  # what hangs tells where it stands before it is killed
    results, scale = Results(options.limit), SCALES[options.on]
    reserve = FOR_THE_REST if options.parts[-1] != "rates" else 3.0
    with tempfile.TemporaryDirectory() if options.folder is None else nullcontext(options.folder) as name:
        folder = Path(name)
        if not (folder / "large" / "manifest.json").exists():
            make_data(folder, options.events, options.on)
            results.add("data", {"events": options.events})
        parts: dict[str, Callable[[], None]] = {
            "rates": lambda: rates(results, folder, options.on, reserve, options.cases),
            "ends": lambda: ends(results, folder, scale),
            "losses": lambda: losses(results, folder, scale),
        }
        try:
            for part in options.parts:
                try:
                    parts[part]()
                except Exception as error:  # the other parts are worth having
                    results.add("errors of parts", {"part": part, "error": repr(error)[:500]})
        finally:
            keep_logs(folder)


def keep_logs(folder: Path) -> None:
    """Write down what processes printed."""
    if "OUT" in os.environ:
        texts = [
            f"== {log.name}\n{log.read_text(errors='replace')[-20_000:]}" for log in folder.glob("*.log")
        ]
        Path(os.environ["OUT"], "two_gpus_logs.txt").write_text("\n".join(texts))


if __name__ == "__main__":
    main()
