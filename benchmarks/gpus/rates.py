"""Tokens/s of one GPU and of two: starts the processes that measure them, and tells of what they find."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpus.cases import ALONE, TOGETHER, WITHOUT
from benchmarks.gpus.results import Process, Results, begin, end, tail

Child = tuple[Process, Path]
"""A process that measures cases, and where it tells of them."""
FIRST, NEXT = 90.0, 25.0
"""Seconds without news after which processes are ended: those that come first also compile."""


def rates(
    results: Results, folder: Path, device: str, reserve: float, cases: Sequence[str] | None = None
) -> None:
    """Measure one GPU, both at the same time, and then both together.

    Args:
        results: where numbers go.
        folder: of shards.
        device: `cuda` or `cpu`.
        reserve: seconds to leave to what comes next.
        cases: of both together; all by default.
    """
    go, port = folder / "go", 20_000 + os.getpid() % 20_000
    alone = [
        begun(folder, device, of_one, None, folder / f"alone-{gpu}", {"CUDA_VISIBLE_DEVICES": str(gpu)})
        for gpu, of_one in enumerate(ALONE)
    ]
    left = list(cases or TOGETHER)
    while left and results.left > reserve + 10:
        environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        environment["MASTER_PORT"] = str(port)
        ranks = [
            begun(
                folder, device, left, go, folder / f"rank-{rank}-of-{len(left)}",
                environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]  # fmt: skip
        if alone:
            follow(results, alone, FIRST, reserve)
            alone = []
            go.touch()
        done = follow(results, ranks, NEXT, reserve)
        if done == len(left) or results.left < reserve + 10:
            return
        results.add("rates", {"case": left[done], "GPUs": 2, "error": "ended, or took too long"})
        hang = not done and "captured" not in left[0] and all(one.returncode < 0 for one, _ in ranks)
        # Where captured steps hang, others that are captured would, too.
        left = WITHOUT if hang else left[done + 1 :]
        port += 1


def begun(
    folder: Path, device: str, cases: Sequence[str], go: Path | None, name: Path, environment: dict[str, str]
) -> Child:
    """Start a process."""
    told = name.with_suffix(".jsonl")
    words = [sys.executable, "-m", "benchmarks.gpus.ranks", "--folder", folder, "--told", told]
    words += ["--on", device, *(["--go", go] if go else []), "--cases", *cases]
    return begin(words, name.with_suffix(".log"), environment), told


def follow(results: Results, children: list[Child], most: float, reserve: float) -> int:
    """Tell of cases as they are measured, until all are, or nothing came for so many seconds; how many."""
    seen = {told: 0 for _, told in children}
    done, ready, since = 0, False, time.perf_counter()
    try:
        while True:
            over = all(process.poll() is not None for process, _ in children)
            if not ready and all(told.with_suffix(".ready").exists() for told in seen):
                ready, since = True, time.perf_counter()
            for told in seen:
                lines = told.read_text().splitlines() if told.exists() else []
                for part, row in map(json.loads, lines[seen[told] :]):
                    if part == "done":
                        done += 1
                    else:
                        results.add(part, row)
                    since = time.perf_counter()
                seen[told] = len(lines)
            failed = any(process.poll() for process, _ in children)
            if over or failed or time.perf_counter() - since > most or results.left < reserve:
                return done
            time.sleep(0.1)
    finally:
        stuck = any(process.poll() is None for process, _ in children)
        for process, told in children:
            end(process)
            if stuck or process.returncode:
                tail(told.with_suffix(".log"))
