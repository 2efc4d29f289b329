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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from behavior.shards.folder import open_shards
from benchmarks.gpus.cases import CASES, SCALES, Scale
from benchmarks.gpus.results import Row
from benchmarks.profiling import kernel_times
from models.config import load_config
from models.distributed.join import join_torchrun, launched_by_torchrun
from models.distributed.processes import SINGLE, Processes
from models.distributed.tables import ShardedTable, whole
from models.training.setup import Setup, set_up
from models.training.step import steps_of

EPOCHS = 3, 8
"""That are measured: at least, and at most."""


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
        if processes.is_first:
            with told.open("a") as file:
                file.write(json.dumps([part, {"case": case, "GPUs": processes.count} | row]) + "\n")

    made = None
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
        tell("rates", {"set up s": ready} | rates(steps, processes, scale.tokens))
        if scale.device == "cuda":
            tell("kernels", {"longest": longest(steps, processes)})
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
        del made
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

    def epoch(self, most: int | None = None) -> float:
        """The rest of an epoch, or so many steps of it; returns tokens."""
        tokens = 0.0
        for taken_now, parts in enumerate(steps_of(self.made.loader, 1), 1):
            since = time.perf_counter()
            taken = self.made.stepper.take(parts, len(self.losses) + 1, self.made.loader.epoch)
            self.host.append(time.perf_counter() - since)
            assert taken is not None
            self.losses.append(taken.losses[0])
            tokens += taken.work.tokens
            if taken_now == most:
                break
        return tokens

    def now(self) -> float:
        """Seconds, once the device has done all of it."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def rates(steps: Steps, processes: Processes, tokens_each: int) -> Row:
    """Tokens/s of the steps of whole epochs, after one of warm-up and captures."""
    if steps.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    steps.epoch()
    first = steps.now() - begun
    in_epoch = len(steps.losses)
    found: list[float] = []
    waits: list[float] = []
    steps.host.clear()
    least, most = EPOCHS
    # All processes stop after the same epoch.
    while len(found) < least or (
        len(found) < most and processes.broadcast_object(time.perf_counter() - begun < first + 1.5)
    ):
        since, waited = steps.now(), steps.made.loader.waited
        tokens = steps.epoch()
        seconds = steps.now() - since
        found.append(tokens / seconds)
        waits.append((steps.made.loader.waited - waited) / seconds)
    values = torch.stack(steps.losses).tolist()
    return {
        "M tokens/s": statistics.median(found) / 1e6,
        "of epochs": [round(rate / 1e6, 3) for rate in found],
        "ms a step": 1e3 * processes.count * tokens_each / statistics.median(found),
        "waiting": max(waits),
        "host ms": 1e3 * statistics.median(steps.host),
        "GiB": torch.cuda.max_memory_allocated() / 2**30 if steps.device == "cuda" else None,
        "first epoch s": first,
        "steps an epoch": in_epoch,
        "graphs": len(getattr(steps.made.stepper, "steps", ())),
        "losses": [values[0], statistics.fmean(values[-in_epoch:])],
    }


def longest(steps: Steps, processes: Processes) -> list[tuple[str, float, float]]:
    """Names, milliseconds and number of runs of the kernels of a step, and of all together."""
    if not processes.is_first:  # steps along
        for _ in range(4):
            steps.epoch(1)
        return []
    found = kernel_times(lambda: steps.epoch(1), 3, before=1)
    total = ("all", round(sum(one.ms for one in found), 3), sum(one.times for one in found))
    return [total, *((one.name[:60], round(one.ms, 3), round(one.times, 1)) for one in found[:16])]


if __name__ == "__main__":
    main()
