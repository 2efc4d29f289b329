"""Steps of one process, alone or one of two. Run as a module, by `benchmarks.gpus.rates`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from behavior.shards.folder import open_shards
from benchmarks.gpus.cases import CASES, SCALES, Scale
from benchmarks.gpus.results import Row
from benchmarks.profiling import kernel_times
from models.config import load_config
from models.data.batch import PackedBatch
from models.distributed.join import join_torchrun, launched_by_torchrun
from models.distributed.processes import SINGLE, Processes
from models.distributed.tables import ShardedTable, whole
from models.training.setup import Setup, set_up
from models.training.step import steps_of

WINDOWS = 4
"""Of steps that are measured."""


def main() -> None:
    """Measure cases, in this process or in this one and others; a line of JSON each, of the first process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="of shards")
    parser.add_argument("--told", type=Path, required=True, help="where lines go")
    parser.add_argument("--go", type=Path, help="begins once this is there")
    parser.add_argument("--on", choices=list(SCALES), required=True)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), required=True)
    options = parser.parse_args()
    scale = SCALES[options.on]
    draw_on_device(scale)
    if scale.device == "cuda":
        torch.cuda.init()
    options.told.with_suffix(".ready").touch()
    while options.go is not None and not options.go.exists():
        time.sleep(0.05)
    processes: Any = SINGLE
    if launched_by_torchrun():
        processes = join_torchrun("nccl" if scale.device == "cuda" else "gloo")
        if scale.device == "cuda":
            torch.cuda.set_device(processes.local_rank)
    for case in options.cases:
        take_case(options.folder, case, scale, processes, options.told)
    if processes.count > 1:
        processes.close()


def draw_on_device(scale: Scale) -> None:
    """Have millions of rows drawn on the GPU; on the host that takes minutes."""
    if scale.device != "cuda":
        return

    def on_device(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            with torch.device("cuda", torch.cuda.current_device()):
                return make(*arguments)

        return made

    whole.fresh_rows = on_device(whole.fresh_rows)
    ShardedTable._fresh = on_device(ShardedTable._fresh)  # type: ignore[method-assign]


def take_case(folder: Path, case: str, scale: Scale, processes: Processes, told: Path) -> None:
    """Tell of one case. An error ends one of several processes, since the others would wait for it."""

    def tell(part: str, row: Row) -> None:
        if processes.is_first or part == "kernels":
            with told.open("a") as file:
                file.write(json.dumps([part, {"case": case, "GPUs": processes.count} | row]) + "\n")

    made = steps = None
    try:
        shards, _ = CASES[case]
        count = processes.count
        sizes = [f"train.batch_tokens={scale.tokens * count}", f"train.devices={count}", "train.epochs=1000"]
        begun = time.perf_counter()
        made = set_up(
            load_config(overrides=[*scale.settings(case), *sizes]), open_shards(folder / shards), processes
        )
        ready = time.perf_counter() - begun
        steps = Steps(made, scale.device)
        tell("rates", {"set up s": ready} | rates(steps, processes, scale))
        if scale.device == "cuda":
            tell("kernels", {"rank": processes.rank, "longest": longest(steps)})
    except Exception as error:
        traceback.print_exc()
        if processes.count > 1:
            sys.stderr.flush()
            os._exit(1)
        tell("rates", {"error": f"{type(error).__name__}: {error}"[:600]})
    finally:
        if made is not None:
            made.loader.close()
            made.stepper.close()
        del made, steps
    tell("done", {})
    gc.collect()
    if scale.device == "cuda":
        torch.cuda.empty_cache()


class Steps:
    """Steps as `lrm train` takes them, and what they gave.

    Args:
        made: all that is set up.
        device: `cuda` or `cpu`.
    """

    def __init__(self, made: Setup, device: str) -> None:
        self.made, self.device = made, device
        self.made.stepper.module.train()
        self.losses: list[torch.Tensor] = []
        self.host: list[float] = []
        """Seconds that the host was at each step."""
        self.parts = self._parts()

    def take(self, count: int) -> float:
        """So many steps, over the ends of epochs; returns tokens."""
        tokens = 0.0
        for _ in range(count):
            parts = next(self.parts)
            since = time.perf_counter()
            taken = self.made.stepper.take(parts, len(self.losses) + 1, self.made.loader.epoch)
            self.host.append(time.perf_counter() - since)
            assert taken is not None
            self.losses.append(taken.losses[0])
            tokens += taken.work.tokens
        return tokens

    def _parts(self) -> Iterator[list[PackedBatch]]:
        while True:
            yield from steps_of(self.made.loader, 1)

    @property
    def prepared(self) -> int:
        """Warm-ups and captures so far."""
        made = getattr(self.made.stepper, "steps", {}).values()
        return sum(1 + (getattr(update, "graph", None) is not None) for _, update in made)

    def now(self) -> float:
        """Seconds, once the device has done all of it."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def rates(steps: Steps, processes: Processes, scale: Scale) -> Row:
    """Tokens/s of windows of steps, after some in which they are captured."""
    if steps.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    steps.take(scale.before)
    before = steps.now() - begun
    found: list[float] = []
    seconds: list[float] = []
    prepared = [steps.prepared]
    steps.host.clear()
    waited = steps.made.loader.waited
    for _ in range(WINDOWS):
        since = steps.now()
        tokens = steps.take(scale.window)
        seconds.append(steps.now() - since)
        found.append(tokens / seconds[-1])
        prepared.append(steps.prepared)
    waited = steps.made.loader.waited - waited
    # Windows in which no size was warmed up or captured.
    steady = [rate for rate, a, b in zip(found, prepared, prepared[1:], strict=False) if a == b]
    middle = statistics.median(steady or found)
    values = torch.stack(steps.losses).tolist()
    return {
        "M tokens/s": middle / 1e6,
        "of windows": [round(rate / 1e6, 3) for rate in found],
        "ms a step": 1e3 * processes.count * scale.tokens / middle,
        "waiting": waited / sum(seconds),
        "host ms": 1e3 * statistics.median(steps.host),
        "GiB": torch.cuda.max_memory_allocated() / 2**30 if steps.device == "cuda" else None,
        "steps before s": before,
        "prepared": prepared,
        "losses": [values[0], statistics.fmean(values[-scale.window :])],
    }


def longest(steps: Steps) -> list[tuple[str, float, float]]:
    """Names, milliseconds and number of runs of the kernels of a step, and of all together."""
    found = kernel_times(lambda: steps.take(1), 3, before=1)
    total = ("all", round(sum(one.ms for one in found), 3), sum(one.times for one in found))
    sent = [one for one in found if "nccl" in one.name]
    between = ("sent", round(sum(one.ms for one in sent), 3), sum(one.times for one in sent))
    return [total, between, *((one.name[:60], round(one.ms, 3), round(one.times, 1)) for one in found[:24])]


if __name__ == "__main__":
    main()
