"""Data quality: how fast it is measured, in how much memory, and what is found.

    python benchmarks/quality.py                            generated logs of 1, 4 and 16 million events
    python benchmarks/quality.py --events 1000000           one size
    python benchmarks/quality.py --shards A/ml-1m B/shop    what is found of shard folders

Each data set is measured in a process of its own by one thread, compiled code being on disk; seconds are
those of `measure_quality` with 200 replicates, memory is the largest resident size of the process (Linux),
imports included. With `--beam` the pipeline measures it too, and must find the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from synthetic import machine

import behavior
from behavior.quality import DataQuality, measure_quality
from behavior.synthetic import SyntheticConfig, generate

EVENTS_A_USER = 50
SIZES = (1_000_000, 4_000_000, 16_000_000)


def make(events: int, folder: Path) -> Path:
    """Shards of a generated log of about as many events."""
    users = events // EVENTS_A_USER
    items = max(100, users // 4)
    config = SyntheticConfig(
        users=users, items=items, interests=max(40, users // 400), mean_events=EVENTS_A_USER
    )
    spec = generate(config).write(folder / "raw")
    behavior.prepare(spec, folder / "shards")
    return folder / "shards"


def measure(shards: Path, part: str, beam: bool) -> dict[str, Any]:
    """One data set, in this process."""
    measure_quality(
        shards, "all", replicates=2, threads=1
    )  # the code is compiled and read, and the files are
    begin, cpu = time.perf_counter(), time.process_time()
    found = measure_quality(shards, part, threads=1)  # type: ignore[arg-type]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    status = Path("/proc/self/status").read_text()
    record = {"seconds": seconds, "cpu": cpu, "quality": found.to_record()}
    record["peak"] = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    if beam:
        from pipelines.quality import measure_quality as on_beam
        from pipelines.runner import RunnerOptions

        with tempfile.TemporaryDirectory() as out:
            begin = time.perf_counter()
            same = on_beam(shards, out, part, runner=RunnerOptions(workers=1))  # type: ignore[arg-type]
            record["beam"] = time.perf_counter() - begin
        if same != found:
            sys.exit(f"the pipeline finds something else of {shards}")
    return record


def in_a_process(shards: Path, part: str, beam: bool) -> dict[str, Any]:
    """One data set, in a process of its own."""
    command = [sys.executable, __file__, "--one", str(shards), "--part", part, *(["--beam"] if beam else [])]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


def speeds(records: dict[str, dict[str, Any]], beam: bool) -> None:
    print("| data | events | users | seconds | CPU seconds | users/s | million events/s | peak GB |", end="")
    print(" on Beam, seconds |" if beam else "")
    print(f"|{' --- |' * (9 if beam else 8)}")
    for name, record in records.items():
        quality = DataQuality.from_record(record["quality"])
        rates = f"{quality.users / record['cpu']:,.0f} | {quality.events / record['cpu'] / 1e6:.2f}"
        cells = (
            f"{name} | {quality.events:,} | {quality.users:,} | {record['seconds']:.1f} | {record['cpu']:.1f}"
        )
        extra = f" {record['beam']:.1f} |" if beam else ""
        print(f"| {cells} | {rates} | {record['peak'] / 1e9:.2f} |{extra}")


def findings(records: dict[str, dict[str, Any]]) -> None:
    qualities = {name: DataQuality.from_record(record["quality"]) for name, record in records.items()}
    print(f"\n| measure | {' | '.join(qualities)} |")
    print(f"|{' --- |' * (1 + len(qualities))}")
    first = next(iter(qualities.values()))
    for measure_ in first.estimates:
        cells = []
        for quality in qualities.values():
            estimate = quality.estimates[measure_]
            cells.append(f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})")
        print(f"| {measure_} | {' | '.join(cells)} |")
    for entropy in ("approximate_entropy_by_events", "lempel_ziv_entropy_by_events"):
        values = [quality.effective_events(entropy) for quality in qualities.values()]
        print(f"| events / {entropy} | {' | '.join('-' if v != v else f'{v:,.0f}' for v in values)} |")
    for name, quality in qualities.items():
        for note in quality.notes:
            print(f"\n{name}: {note}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--shards", type=Path, nargs="+", help="shard folders, instead of generated logs")
    parser.add_argument("--part", default="train")
    parser.add_argument("--beam", action="store_true", help="on Beam, too")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.part, options.beam)))
        return
    print(f"{machine()}, one thread; part: {options.part}\n")
    records = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.shards:
            for shards in options.shards:
                records[shards.name] = in_a_process(shards, options.part, options.beam)
        else:
            for events in options.events:
                shards = make(events, Path(folder) / str(events))
                records[f"generated, {events / 1e6:g} M"] = in_a_process(shards, options.part, options.beam)
    speeds(records, options.beam)
    findings(records)


if __name__ == "__main__":
    main()
