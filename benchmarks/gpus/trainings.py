"""`lrm train --devices 2`: its losses, and what happens when one of its processes is killed."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.gpus.cases import CAPTURED, DIVIDED, Scale
from benchmarks.gpus.results import Process, Results, Row, begin, end, ended, tail

TOLD_BY_SIGNAL = """\
import faulthandler, runpy, signal, sys
faulthandler.register(signal.SIGUSR1)
sys.argv = ["lrm", *sys.argv[1:]]
runpy.run_module("cli.main", run_name="__main__", alter_sys=True)
"""
"""A program that says where it stands when it gets a signal."""


def ends(results: Results, folder: Path, scale: Scale) -> None:
    """A run of which the second process is killed, and runs for their losses, all at once."""
    with ThreadPoolExecutor(2) as threads:
        works = killed, losses
        for one in [threads.submit(work, results, folder, scale) for work in works]:
            one.result()


def command(folder: Path, shards: str, run: str, devices: int, settings: Sequence[str]) -> list[str]:
    """Of `lrm train`, which prints where it stands when it gets a signal."""
    given = [word for setting in settings for word in ("--set", setting)]
    own = ["--data", str(folder / shards), "--out", str(folder / run), "--devices", str(devices)]
    return [sys.executable, "-c", TOLD_BY_SIGNAL, "train", *own, *given]


@contextmanager
def training(folder: Path, words: list[str], name: str) -> Iterator[tuple[Process, Path]]:
    """A running `lrm`, and the file of its output."""
    log = folder / f"{name}.log"
    process = begin(words, log)
    try:
        yield process, log
    finally:
        end(process)


def killed(results: Results, folder: Path, scale: Scale) -> None:
    """Seconds from the end of one process to that of the run, and what it says; and going on with one."""
    settings = [*scale.common, *scale.possible([CAPTURED])]
    settings += [f"train.batch_tokens={2 * scale.tokens}", "train.epochs=1000"]
    run = folder / "run"
    with training(folder, command(folder, "small", "run", 2, settings), "killed") as (process, log):
        begun = time.perf_counter()
        lines = reports(run, process, 3, max(5.0, min(48.0, results.left - 22)))
        until = time.perf_counter() - begun
        others = {one: named(one) for one in children(process.pid)}
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        told = len(log.read_bytes())
        for one in (one for one, words in others.items() if "training.worker" in words):
            os.kill(one, signal.SIGKILL)
        since = time.perf_counter()
        if ended(process, 0.9) is None:
            process.send_signal(signal.SIGUSR1)
        code = ended(process, max(1.0, min(14.0, results.left - 3)))
        seconds = time.perf_counter() - since
    row: Row = {"killed": "rank 1", "children": list(others.values()), "exit code": code}
    row |= {"seconds to the end": seconds, "seconds before": until, **summary(lines)}
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
        lines, said = reports_of(run), log.read_text(errors="replace")[-500:]
    results.add(
        "ends",
        {"resumed with": 1, "last report before": before[-1:], "reports": lines[-2:], "said": said},
    )
    if not lines or lines[-1]["step"] <= last:
        tail(log)


def losses(results: Results, folder: Path, scale: Scale) -> None:
    """20 steps of one global batch in float32: one device, two, and two with a divided table."""
    exact = [*scale.model, f"train.device={scale.device}", "loader.part=train+valid", "model.dropout=0"]
    exact += ["loss.kind=full_softmax", "train.precision=32-true", "train.epochs=1"]
    exact += ["train.batch_sequences=256", "train.log_every_steps=1"]
    exact += scale.possible([CAPTURED])
    ways = {"one": (1, exact), "two": (2, exact), "two, divided": (2, [*exact, DIVIDED])}
    found: dict[str, list[float]] = {}
    running = {}
    for way, (devices, settings) in ways.items():
        name = f"losses-{way.replace(', ', '-')}"
        log = folder / f"{name}.log"
        running[way] = begin(command(folder, "few", name, devices, settings), log), log, folder / name
    until = time.perf_counter() + results.left - 4
    for way, (process, log, run) in running.items():
        code = ended(process, max(0.1, until - time.perf_counter()))
        end(process)
        found[way] = [line["loss"] for line in reports_of(run)]
        row: Row = {"way": way, "exit code": code, "steps": len(found[way]), "losses": found[way]}
        if found["one"] and len(found["one"]) == len(found[way]):
            pairs = zip(found[way], found["one"], strict=True)
            row["largest relative difference"] = max(abs(a / b - 1) for a, b in pairs)
        results.add("losses", row)
        if code != 0:
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
    """What a run has reported of its training."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["kind"] == "train"]


def reports(run: Path, process: Process, epoch: int, most: float) -> list[Row]:
    """Reports of a run, once it is well within an epoch, has ended, or so many seconds have passed."""
    since = time.perf_counter()
    while process.poll() is None and time.perf_counter() - since < most:
        found = reports_of(run)
        if found and found[-1]["epoch"] >= epoch:
            break
        time.sleep(0.05)
    return reports_of(run)


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
