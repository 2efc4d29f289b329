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
to $OUT/two_gpus_logs.txt.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EXPERIMENTAL = "LRM_EXPERIMENTAL_KERNELS"
BACKEND = "nccl"
TOKENS, SHARED, LARGE = 65_536, 4_096, 10_000_000
MODEL = ["model.blocks=4", "model.dim=256", "model.heads=4", "model.max_length=512"]
SAMPLED = ["loss.negatives.sharing=batch", f"loss.negatives.count={SHARED}"]
COMMON = [*MODEL, *SAMPLED, "loader.part=train+valid", "train.checkpoint_every_steps=1000000"]
BY_ROWS = ["optimizer.item_table=sparse_rowwise_adagrad", "optimizer.item_learning_rate=0.01"]
CAPTURED, DIVIDED = "train.cuda_graphs=true", "train.item_table=sharded"
CASES: dict[str, tuple[str, list[str]]] = {
    "200k adamw": ("small", [CAPTURED]),
    "200k adamw, divided": ("small", [CAPTURED, DIVIDED]),
    "200k by rows": ("small", [CAPTURED, *BY_ROWS]),
    "200k by rows, divided": ("small", [CAPTURED, *BY_ROWS, DIVIDED]),
    "10M by rows": ("large", [CAPTURED, *BY_ROWS]),
    "10M by rows, divided": ("large", [CAPTURED, *BY_ROWS, DIVIDED]),
    "10M rowwise": ("large", [CAPTURED, "optimizer.item_table=rowwise_adagrad"]),
    "10M rowwise, divided": ("large", [CAPTURED, "optimizer.item_table=rowwise_adagrad", DIVIDED]),
    "200k adamw, not captured": ("small", ["train.cuda_graphs=false"]),
    "10M by rows, divided, not captured": ("large", ["train.cuda_graphs=false", *BY_ROWS, DIVIDED]),
}
ALONE = [["200k adamw", "200k by rows"], ["10M by rows"]]  # of the first GPU, and of the second
TOGETHER = [
    "200k adamw", "10M by rows, divided", "10M by rows", "200k adamw, divided", "200k by rows",
    "200k adamw, not captured", "10M rowwise, divided", "200k by rows, divided",
]  # fmt: skip
WITHOUT = ["200k adamw, not captured", "10M by rows, divided, not captured"]
"""Where captured steps hang."""
UNTOLD = "importlib._bootstrap", "/typer/", "runpy", "Extension modules", "threading.py", "torch/nn/modules"
"""What is left out of what processes printed."""
FOR_THE_REST = 50.0
"""Seconds that `rates` leaves to what comes after it."""
Row = dict[str, Any]


class Results:
    """Printed, and written down at once."""

    def __init__(self, limit: float, reserve: float) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.since, self.limit, self.reserve = time.perf_counter(), limit, reserve

    @property
    def left(self) -> float:
        """Seconds."""
        return self.limit - (time.perf_counter() - self.since)

    def add(self, part: str, row: Row) -> None:
        """Note one line of a part."""
        self.rows.setdefault(part, []).append(row)
        print(f"{time.perf_counter() - self.since:6.1f} s  {part}: {row}", flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "two_gpus.json").write_text(json.dumps(self.rows, indent=1))


# Data.


def make_data(folder: Path, events: int) -> None:
    """The shards of both catalogs, and of few users; by several processes at once."""
    made = [
        subprocess.Popen(
            [sys.executable, __file__, "--make", name, "--folder", folder, "--events", str(events)]
        )
        for name in ("small", "large", "few", "imports")
    ]
    if any(one.wait() for one in made):
        sys.exit("shards could not be made")


def make_shards(folder: Path, name: str, events: int) -> None:
    if name == "imports":  # files that are read from a slow disk once
        import models.training.run  # noqa: F401

        return
    import behavior
    from benchmarks.prepare_peers.events import ITEMS, scattered, write_events

    if name == "few":  # 5,000 users of some 50 events: 20 steps of 256
        events = 256_000
    spec = write_events(folder / f"{name}-log", events, "parquet")
    if name == "large":
        count = LARGE - ITEMS
        behaviors = pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), pa.array(["pv"]))
        table = pa.table(
            {
                # The last 512 of 10,000 events of each user are trained on.
                "user": scattered(np.arange(count) // 10_000 + 100_000_000),
                "item": scattered(np.arange(ITEMS, LARGE)),
                "behavior": behaviors,
                "timestamp": 1_600_000_000_000 + np.arange(count) * 10,
            }
        )
        pq.write_table(table, spec.parent / "events-more.parquet", row_group_size=1_000_000)
    behavior.prepare(spec, folder / name)


# Steps of one process, alone or one of two.


def take_cases(folder: Path, cases: Sequence[str], go: Path | None, told: Path) -> None:
    """Measure cases, in this process or in this one and others; a line of JSON each, of the first process."""
    import torch

    from models.distributed.join import join_torchrun, launched_by_torchrun
    from models.distributed.processes import SINGLE
    from models.distributed.tables import ShardedTable, whole
    from models.training import setup, step  # noqa: F401  before the clock starts

    whole.fresh_rows = on_device(whole.fresh_rows)
    ShardedTable._fresh = on_device(ShardedTable._fresh)  # type: ignore[method-assign]
    torch.cuda.init()
    with told.with_suffix(".ready").open("w"):
        pass
    while go is not None and not go.exists():
        time.sleep(0.05)
    processes = join_torchrun(BACKEND) if launched_by_torchrun() else SINGLE
    if processes.count > 1 and BACKEND == "nccl":
        torch.cuda.set_device(processes.local_rank)

    def tell(row: Row) -> None:
        if processes.is_first:
            with told.open("a") as file:
                file.write(json.dumps(row) + "\n")

    for case in cases:
        row: Row = {"case": case, "GPUs": processes.count, "done": True}
        for again in (False, True):
            try:
                row |= measured(folder, case, processes, tell)
            except Exception as error:  # the other cases are worth having
                traceback.print_exc()
                if processes.count > 1:  # the others would wait for this one: all begin anew
                    sys.stderr.flush()
                    os._exit(1)
                row["error, again" if again else "error"] = f"{type(error).__name__}: {error}"[:600]
            gc.collect()
            torch.cuda.empty_cache()
            if "told" in row or os.environ.get(EXPERIMENTAL) != "1":
                break
            os.environ[EXPERIMENTAL] = "0"
        tell(row)
    if processes.count > 1:
        processes.close()


def on_device(make: Callable[..., Any]) -> Callable[..., Any]:
    """Draws millions of rows on the GPU; on the host that takes minutes."""
    import torch

    def made(*arguments: Any) -> Any:
        with torch.device("cuda", torch.cuda.current_device()):
            return make(*arguments)

    return made


def measured(folder: Path, case: str, processes: Any, tell: Callable[[Row], None]) -> Row:
    """Tell tokens/s of the steps of whole epochs, after one of warm-up and captures; returns the kernels."""
    import torch

    from behavior.shards.folder import open_shards
    from models.config import load_config
    from models.training.setup import set_up
    from models.training.step import steps_of

    shards, settings = CASES[case]
    overrides = [
        *COMMON,
        *settings,
        f"train.batch_tokens={TOKENS * processes.count}",
        "train.precision=bf16-mixed",
    ]
    config = load_config(overrides=[*overrides, f"train.devices={processes.count}", "train.epochs=1000"])
    begun = time.perf_counter()
    torch.cuda.reset_peak_memory_stats()
    made = set_up(config, open_shards(folder / shards), processes)
    ready = time.perf_counter() - begun
    made.stepper.module.train()
    number, losses, host = 0, [], []

    def epoch(most: int | None = None) -> float:
        nonlocal number
        tokens = 0.0
        for parts in steps_of(made.loader, 1):
            number += 1
            since = time.perf_counter()
            taken = made.stepper.take(parts, number, made.loader.epoch)
            host.append(time.perf_counter() - since)
            assert taken is not None
            losses.append(taken.losses[0])
            tokens += taken.work.tokens
            if most is not None and number >= most:
                break
        return tokens

    def synchronized() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    try:
        begun = time.perf_counter()
        epoch()
        first = synchronized() - begun
        steps, rates, waits = number, [], []
        host.clear()
        # All processes stop after the same epoch.
        while len(rates) < 3 or (
            len(rates) < 8 and processes.broadcast_object(time.perf_counter() - begun < first + 1.5)
        ):
            since, waited = synchronized(), made.loader.waited
            tokens = epoch()
            seconds = synchronized() - since
            rates.append(tokens / seconds)
            waits.append((made.loader.waited - waited) / seconds)
        values = torch.stack(losses).tolist()
        row: Row = {
            "case": case,
            "GPUs": processes.count,
            "experimental kernels": os.environ.get(EXPERIMENTAL),
            "M tokens/s": statistics.median(rates) / 1e6,
            "of epochs": [round(rate / 1e6, 3) for rate in rates],
            "ms a step": 1e3 * processes.count * TOKENS / statistics.median(rates),
            "waiting": max(waits),
            "host ms": 1e3 * statistics.median(host),
            "GiB": torch.cuda.max_memory_allocated() / 2**30,
            "set up s": ready,
            "first epoch s": first,
            "steps an epoch": steps,
            "graphs": len(getattr(made.stepper, "steps", ())),
            "losses": [values[0], statistics.fmean(values[-steps:])],
        }
        tell(row)
        return {"told": True, "longest": longest(lambda: epoch(number + 1), processes)}
    finally:
        made.loader.close()
        made.stepper.close()


def longest(step: Callable[[], object], processes: Any) -> list[tuple[str, float, float]]:
    """Names, milliseconds and number of runs of the kernels of a step, and of all together."""
    from benchmarks.profiling import kernel_times

    if not processes.is_first:  # which steps along
        for _ in range(4):
            step()
        return []
    found = kernel_times(step, 3, before=1)
    total = ("all", round(sum(one.ms for one in found), 3), sum(one.times for one in found))
    return [total, *((one.name[:60], round(one.ms, 3), round(one.times, 1)) for one in found[:16])]


# The processes of `rates`.


def rates(results: Results, folder: Path) -> None:
    go = folder / "go"
    port = str(20_000 + os.getpid() % 20_000)
    alone = [
        spawned(folder, cases, None, folder / f"alone-{gpu}", {"CUDA_VISIBLE_DEVICES": str(gpu)})
        for gpu, cases in enumerate(ALONE)
    ]
    cases = list(TOGETHER)
    while cases and results.left > results.reserve + 10:
        ranks = [
            spawned(
                folder, cases, go, folder / f"rank-{rank}-of-{len(cases)}",
                {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                },
            )
            for rank in range(2)
        ]  # fmt: skip
        if alone:
            follow(results, alone, 1, 40)
            alone = []
            go.touch()
        done = follow(results, ranks, 2, 25)
        if done < len(cases) and results.left > results.reserve + 10:
            results.add("rates", {"case": cases[done], "GPUs": 2, "error": "ended, or took too long"})
            # With none done, others that are captured would not be done either.
            cases = cases[done + 1 :] if done else WITHOUT if "captured" not in cases[0] else cases[1:]
        else:
            cases = []
        port = str(int(port) + 1)


Child = tuple[subprocess.Popen[bytes], Path]


def spawned(
    folder: Path, cases: Sequence[str], go: Path | None, log: Path, environment: dict[str, str]
) -> Child:
    """A process that measures cases, and where it tells of them."""
    told = log.with_suffix(".jsonl")
    command = [sys.executable, __file__, "--folder", folder, "--told", told, "--cases", *cases]
    command += ["--go", go] if go is not None else []
    with log.with_suffix(".log").open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    return process, told


def follow(results: Results, children: list[Child], gpus: int, most: float) -> int:
    """Tell of cases as they are measured, until all is done or nothing came for so many seconds; how many."""
    seen: dict[Path, int] = {told: 0 for _, told in children}
    done, ready = 0, False
    since = time.perf_counter()
    try:
        while True:
            over = all(process.poll() is not None for process, _ in children)
            for told in seen:
                lines = told.read_text().splitlines() if told.exists() else []
                for row in map(json.loads, lines[seen[told] :]):
                    results.add("kernels" if row.get("told") else "rates", row)
                    done += bool(row.get("done"))
                    since = time.perf_counter()
                seen[told] = len(lines)
            if not ready and all(told.with_suffix(".ready").exists() for told in seen):
                ready, since = True, time.perf_counter()
            failed = gpus > 1 and any(process.poll() for process, _ in children)
            if over or failed or time.perf_counter() - since > most or results.left < results.reserve:
                return done
            time.sleep(0.1)
    finally:
        stuck = [one for one in children if one[0].poll() is None]
        for process, _ in stuck:
            process.send_signal(signal.SIGABRT)  # tells where it stands
        time.sleep(0.5)
        for process, told in children:
            end(process)
            if stuck or process.returncode:
                tail(told.with_suffix(".log"))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(log: Path) -> None:
    """Print how the output of a process ends."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [line[:300] for line in lines if not any(word in line for word in UNTOLD)]
    print("\n".join([f"-- {log.name} ends with:", *told[-40:]]), flush=True)


# `lrm train`.


TOLD_BY_SIGNAL = """\
import faulthandler, runpy, signal, sys
faulthandler.register(signal.SIGUSR1)
sys.argv = ["lrm", *sys.argv[1:]]
runpy.run_module("cli.main", run_name="__main__", alter_sys=True)
"""


def command(folder: Path, shards: str, run: str, devices: int, settings: Sequence[str]) -> list[str]:
    """Of `lrm train`, which prints where it stands when it gets a signal."""
    given = [word for setting in settings for word in ("--set", setting)]
    own = ["--data", str(folder / shards), "--out", str(folder / run), "--devices", str(devices)]
    return [sys.executable, "-c", TOLD_BY_SIGNAL, "train", *own, *given]


@contextmanager
def training(folder: Path, words: list[str], name: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A running `lrm`, and the file of its output."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, process_group=0)
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGABRT)
            ended(process, 2)
        end(process)


def ends(results: Results, folder: Path) -> None:
    """A run of which the second process is killed, and runs for their losses, all at once."""
    with ThreadPoolExecutor(2) as threads:
        for one in [threads.submit(killed, results, folder), threads.submit(losses, results, folder)]:
            one.result()


def killed(results: Results, folder: Path) -> None:
    settings = [*COMMON, CAPTURED, f"train.batch_tokens={2 * TOKENS}", "train.epochs=1000"]
    words = command(folder, "small", "run", 2, settings)
    run = folder / "run"
    with training(folder, words, "killed") as (process, log):
        lines = reports(run, process, 3, max(5.0, min(33.0, results.left - 20)))
        others = {one: named(one) for one in children(process.pid)}
        process.send_signal(signal.SIGUSR1)  # tells where it stands
        time.sleep(0.1)
        told = len(log.read_bytes())
        workers = [one for one, words in others.items() if "training.worker" in words]
        for one in workers:
            os.kill(one, signal.SIGKILL)
        since = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.9)
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
        code = ended(process, max(1.0, min(14.0, results.left - 3)))
        seconds = time.perf_counter() - since
    row: Row = {"killed": "rank 1", "children": list(others.values()), "exit code": code}
    row |= {"seconds to the end": seconds, **summary(lines)}
    results.add("ends", row | {"said": log.read_bytes()[told:].decode(errors="replace")[-1500:]})
    if code != 1 or not lines:
        tail(log)
    with suppress(OSError):
        going_on(results, folder, run, lines)


def going_on(results: Results, folder: Path, run: Path, before: list[Row]) -> None:
    """Resume with one device."""
    words = [*command(folder, "small", run.name, 1, []), "--resume"]
    last = max((line["step"] for line in reports_of(run)), default=0)
    with training(folder, words, "resumed") as (process, log):
        since = time.perf_counter()
        while process.poll() is None and time.perf_counter() - since < min(45.0, results.left - 2):
            if any(line["step"] > last for line in reports_of(run)):
                break
            time.sleep(0.05)
        lines = reports_of(run)
    row: Row = {"resumed with": 1, "last report before": before[-1:], "reports": lines[-2:]}
    results.add("ends", row | {"said": log.read_text(errors="replace")[-500:]})
    if not lines or lines[-1]["step"] <= last:
        tail(log)


def summary(lines: list[Row]) -> Row:
    """Of reports: the pace of the later half, losses."""
    late = lines[len(lines) // 2 :]
    if not late:
        return {"reports": 0}
    return {
        "reports": len(lines),
        "epoch": late[-1]["epoch"],
        "M tokens/s": statistics.median(line["tokens_per_second"] for line in late) / 1e6,
        "waiting": statistics.fmean(line["waiting"] for line in late),
        "losses": [lines[0]["loss"], late[-1]["loss"]],
    }


def reports_of(run: Path) -> list[Row]:
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["kind"] == "train"]


def reports(run: Path, process: subprocess.Popen[bytes], epoch: int, most: float) -> list[Row]:
    """Reports of a run, once it is well within an epoch, has ended, or so many seconds have passed."""
    since = time.perf_counter()
    while process.poll() is None and time.perf_counter() - since < most:
        found = reports_of(run)
        if found and found[-1]["epoch"] >= epoch:
            break
        time.sleep(0.05)
    return reports_of(run)


def ended(process: subprocess.Popen[bytes], most: float) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(most)
    return None


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def named(pid: int) -> str:
    """The command line of a process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    return ""


def losses(results: Results, folder: Path) -> None:
    exact = [*MODEL, "model.dropout=0", "loss.kind=full_softmax", "train.precision=32-true", "train.epochs=1"]
    exact += ["train.batch_sequences=256", "train.log_every_steps=1", "loader.part=train+valid", CAPTURED]
    ways = {"one": (1, exact), "two": (2, exact), "two, divided": (2, [*exact, DIVIDED])}
    found: dict[str, list[float]] = {}
    running = {}
    for way, (devices, settings) in ways.items():
        name = way.replace(", ", "-")
        words = command(folder, "few", f"losses-{name}", devices, settings)
        log = folder / f"losses-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, process_group=0)
            running[way] = process, log, name
    until = time.perf_counter() + results.left - 4
    for way, (process, log, name) in running.items():
        code = ended(process, max(0.1, until - time.perf_counter()))
        if code is None:
            process.send_signal(signal.SIGABRT)
            ended(process, 2)
        end(process)
        found[way] = [line["loss"] for line in reports_of(folder / f"losses-{name}")]
        row: Row = {"way": way, "exit code": code, "steps": len(found[way]), "losses": found[way]}
        if found.get("one") and len(found["one"]) == len(found[way]):
            pairs = zip(found[way], found["one"], strict=True)
            row["largest relative difference"] = max(abs(a / b - 1) for a, b in pairs)
        results.add("losses", row)
        if code != 0:
            tail(log)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["rates", "ends"])
    parser.add_argument("--events", type=int, default=6_000_000, help="of the log")
    parser.add_argument("--limit", type=float, default=195, help="seconds, of all of it")
    parser.add_argument(
        "--folder", type=Path, help="of logs, shards and runs; by default one that is removed"
    )
    parser.add_argument("--make", help="all: make the shards in --folder, and nothing else")
    parser.add_argument("--cases", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--told", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--go", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make == "all":
        make_data(options.folder, options.events)
    elif options.make:
        make_shards(options.folder, options.make, options.events)
    elif options.cases:
        take_cases(options.folder, options.cases, options.go, options.told)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    os.environ.setdefault(EXPERIMENTAL, "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # and all processes with it
    os.environ["PYTHONFAULTHANDLER"] = "1"  # what hangs tells where it stands before it is killed
    results = Results(options.limit, FOR_THE_REST if len(options.parts) > 1 else 3.0)
    with tempfile.TemporaryDirectory() if options.folder is None else nullcontext(options.folder) as name:
        folder = Path(name)
        if not (folder / "large" / "manifest.json").exists():
            make_data(folder, options.events)
            results.add("data", {"events": options.events})
        parts: dict[str, Callable[[Results, Path], None]] = {"rates": rates, "ends": ends, "losses": losses}
        for part in options.parts:
            try:
                parts[part](results, folder)
            except Exception as error:  # the other parts are worth having
                results.add("errors of parts", {"part": part, "error": repr(error)[:500]})
        if "OUT" in os.environ:
            texts = [
                f"== {log.name}\n{log.read_text(errors='replace')[-20_000:]}" for log in folder.glob("*.log")
            ]
            Path(os.environ["OUT"], "two_gpus_logs.txt").write_text("\n".join(texts))


if __name__ == "__main__":
    main()
