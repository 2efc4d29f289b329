"""What rejected rows cost: a log of 1.07 million rows of which 243,007 are bad, beside the same log without.

    python benchmarks/rejects.py                     a minute
    python benchmarks/rejects.py --runs 5 --json rejects.json

A quarter each has a behavior that nobody knows, a time that is no number (each another one), no user, or too
few columns; the log without them has the same good events. Whole processes as a user starts them, in turn,
the input in the page cache; CPU seconds hold on a busy machine, too. Memory is the sum of the PSS of all
processes, sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from prepare_cores import measured
from prepare_peers import events, measure

EVENTS, BAD = 1_070_000, 243_007


def write_logs(folder: Path) -> dict[str, Path]:
    """The log without bad rows and with them: the paths of their specs."""
    whole = folder / "whole"
    events.write_events(whole, EVENTS, "csv")
    bad = np.zeros(EVENTS, bool)
    bad[np.random.default_rng(1).choice(EVENTS, BAD, replace=False)] = True
    specs = {name: folder / name / "spec.yaml" for name in ("without", "with")}
    text = (whole / "spec.yaml").read_text()
    for name, spec in specs.items():
        spec.parent.mkdir(exist_ok=True)
        spec.write_text(text + ("max_rejects: 0.5\n" if name == "with" else ""))
    begin = 0
    for path in sorted(whole.glob("*.csv")):
        head, *lines = path.read_text().splitlines(keepends=True)
        own = bad[begin : begin + len(lines)]
        begin += len(lines)
        good = [line for line, is_bad in zip(lines, own, strict=True) if not is_bad]
        mixed = [_spoiled(line, n) if own[n] else line for n, line in enumerate(lines)]
        for name, kept in (("without", good), ("with", mixed)):
            (specs[name].parent / path.name).write_text("".join([head, *kept]))
    shutil.rmtree(whole)
    return specs


def _spoiled(line: str, number: int) -> str:
    user, item, behavior, time = line.rstrip("\n").split(",")
    ways = (
        (user, item, "lick", time),
        (user, item, behavior, f"{time}x"),
        ("", item, behavior, time),
        (user, item),
    )
    return ",".join(ways[number % len(ways)]) + "\n"


def prepare(spec: Path, out: Path) -> dict[str, Any]:
    """One run: seconds, CPU seconds, peak bytes; rejected rows, bytes of rejects and of sequences."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "cli.main", "prepare", str(spec), "--out", str(out), "--json"]
    run, printed = measured(command, len(os.sched_getaffinity(0)), {})
    sizes = {
        part: sum(path.stat().st_size for path in (out / part).rglob("*") if path.is_file())
        for part in ("rejected", "sequences")
    }
    counts = json.loads(printed)["counts"]
    return {
        "seconds": run.seconds,
        "cpu_seconds": run.user + run.system,
        "peak_bytes": run.peak,
        "events": counts["events"],
        "rejected": counts["rejected"],
        "rejects_bytes": sizes["rejected"],
        "sequences_bytes": sizes["sequences"],
    }


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    print("; ".join(f"{name} {value}" for name, value in measure.machine().items()), flush=True)
    results: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory(prefix="lrm-bench-") as temporary:
        folder = Path(temporary)
        specs = write_logs(folder)
        prepare(specs["with"], folder / "out")  # Numba compiles
        for _ in range(options.runs):
            for name, spec in specs.items():
                results[name].append(prepare(spec, folder / "out"))
    middle = {
        name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()
    }
    for name, found in middle.items():
        print(
            f"{name:<8} {found['events']:>9,} events, {found['rejected']:>7,} rejected: "
            f"{found['seconds']:.2f} s, CPU {found['cpu_seconds']:.2f}, {found['peak_bytes'] / 1e6:.0f} MB; "
            f"rejects {found['rejects_bytes'] / 1e6:.2f}, sequences {found['sequences_bytes'] / 1e6:.2f} MB"
        )
    ratio = {key: middle["with"][key] / middle["without"][key] for key in ("seconds", "cpu_seconds")}
    more = (middle["with"]["peak_bytes"] - middle["without"]["peak_bytes"]) / 1e6
    print(
        f"with them {ratio['seconds']:.2f} times the time, {ratio['cpu_seconds']:.2f} of the CPU, "
        f"{more:+.0f} MB"
    )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
