"""`lrm prepare` against polars and a naive Beam pipeline: time, memory, growth, CSV, workers, public data.

    python benchmarks/prepare.py                                     everything, 20 million events: an hour
    python benchmarks/prepare.py --events 1000000 --runs 1           a quick look
    LRM_DATA=... python benchmarks/prepare.py --only public

Whole processes are measured as a user runs them, with the input in the page cache. Each system runs once
with its memory sampled, which also warms it up, and then --runs times for time, all systems in turn. A time
is the median, with the fastest and the slowest run beside it.

Needs polars besides the package: pip install '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from prepare_peers import check, events, measure

SECTIONS = ("synthetic", "growth", "csv", "workers", "public")
NAIVE_EVENTS = 1_000_000
"""The naive pipeline takes minutes for more; its time is linear at best, so events/s compare."""
FILE_BYTES = 8 << 20
"""Parquet input that makes one sequence file of the peers."""
GROWTH = (0.25, 1, 3)
"""Sizes of the growth table, in terms of --events."""
LRM, LRM_1, LRM_2 = "lrm", "lrm, 1 worker", "lrm, 2 workers"
POLARS, WHOLE, NAIVE = "polars", "polars, log not dealt out", "Beam, an element an event"
WORKERS = {LRM: 0, LRM_1: 1, LRM_2: 2}
"""0 is the default: one process with a thread a core."""
STAGES = ("plan", "start", "read", "sort", "count", "vocabulary", "write", "tables", "summary", "commit")
"""What `lrm prepare --json` tells the seconds of."""
PARALLEL_STAGES = ("read", "sort", "count", "write")
"""Stages whose parts go to several workers; the others are one element."""
PUBLIC = (
    ("ml-1m", "ml-1m"),
    ("taobao", "taobao"),
    ("completejourney", "completejourney"),
    ("amazon-three", "amazon"),
    ("amazon-beauty", "amazon"),
    ("amazon-sports", "amazon"),
    ("amazon-toys", "amazon"),
)
"""Ready specs, and their folders under $LRM_DATA."""
PEERS = Path(__file__).parent / "prepare_peers"


def lrm(spec: str, out: Path, workers: int, *arguments: str) -> list[str]:
    """The command line as a user writes it."""
    command = [sys.executable, "-m", "cli.main", "prepare", spec, "--out", str(out)]
    return [*command, "--workers", str(workers), "--json", *arguments]


def peer(program: str, source: Path, out: Path, files: int | None = None) -> list[str]:
    """A peer's command; unless told, it writes about as many sequence files as `lrm prepare` does."""
    size = sum(path.stat().st_size for path in source.glob("*.parquet"))
    files = files or max(1, round(size / FILE_BYTES))
    return [sys.executable, str(PEERS / f"{program}.py"), str(source), str(out), str(files)]


@dataclass
class Measured:
    """All runs of one system on one input."""

    system: str
    events: int
    memory: measure.Usage
    runs: list[measure.Usage] = field(default_factory=list)
    written: int = 0

    @property
    def seconds(self) -> float:
        return median(run.seconds for run in self.runs)

    @property
    def span(self) -> str:
        times = [run.seconds for run in self.runs]
        return f"{min(times):.1f} to {max(times):.1f}"

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def stages(self) -> dict[str, float]:
        """Median seconds of each stage, where the command tells them; `rest`: imports, exit."""
        records = [json.loads(run.output) for run in self.runs if run.output.startswith("{")]
        told = [record["seconds"] for record in records if "seconds" in record]
        known = [name for name in STAGES if told and all(name in one for one in told)]
        stages = {name: median(one[name] for one in told) for name in known}
        return stages | {"rest": self.seconds - sum(stages.values())} if stages else {}

    def record(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "events": self.events,
            "seconds": self.seconds,
            "all_seconds": [run.seconds for run in self.runs],
            "cpu_seconds": median(run.cpu_seconds for run in self.runs),
            "events_per_second": self.rate,
            "peak_bytes": self.memory.peak,
            "peak_anonymous_bytes": self.memory.peak_anonymous,
            "peak_process_bytes": self.memory.peak_process,
            "output_bytes": self.written,
            "stages": self.stages,
        }


class Bench:
    """Makes inputs, measures systems on them, and keeps what is measured: no section measures it again."""

    def __init__(self, folder: Path, runs: int, sink: Path | None) -> None:
        self.folder = folder
        self.runs = runs
        self.sink = sink
        self.measured: dict[tuple[str, str, int], Measured] = {}

    def emit(self, section: str, record: dict[str, Any]) -> None:
        """Add a line to the JSON file."""
        if self.sink is not None:
            with self.sink.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"section": section, **record}) + "\n")

    def input(self, kind: str, size: int) -> Path:
        """The folder of a log, made where it is not there, and read once."""
        folder = self.folder / f"{kind}-{size}"
        if not (folder / "spec.yaml").exists():
            progress(f"making {size:,} events, {kind}")
            events.write_events(folder, size, kind)
        events.warm(folder)
        return folder

    def out(self, system: str) -> Path:
        return self.folder / ("out-" + "".join(c if c.isalnum() else "-" for c in system))

    def compare(self, systems: Iterable[str], size: int, kind: str = "parquet") -> list[Measured]:
        """Measure systems on a log, in turn; outputs stay until `clear`."""
        wanted = [name for name in systems if (name, kind, size) not in self.measured]
        commands = {name: self.command(name, size, kind) for name in wanted}
        sizes = {name: min(size, NAIVE_EVENTS) if name == NAIVE else size for name in wanted}
        found = self.take_turns(commands, sizes, f"{size:,} events, {kind}: ")
        self.measured |= {(name, kind, size): result for name, result in found.items()}
        return [self.measured[name, kind, size] for name in systems]

    def command(self, system: str, size: int, kind: str) -> list[str]:
        out = self.out(system)
        if system in WORKERS:
            return lrm(str(self.input(kind, size) / "spec.yaml"), out, WORKERS[system])
        if system == POLARS:
            return peer("polars_program", self.input("parquet", size), out)
        if system == WHOLE:  # as one would write it first: all users in one partition
            return peer("polars_program", self.input("parquet", size), out, files=1)
        return peer("naive_beam", self.input("parquet", min(size, NAIVE_EVENTS)), out)

    def take_turns(
        self, commands: dict[str, list[str]], sizes: dict[str, int], label: str = ""
    ) -> dict[str, Measured]:
        """Once each with memory sampled, then A B A B for time."""
        found: dict[str, Measured] = {}
        for turn in range(self.runs + 1):
            for name, command in commands.items():
                progress(f"{label}{name}, " + (f"run {turn}" if turn else "memory"))
                shutil.rmtree(self.out(name), ignore_errors=True)
                usage = measure.run(command, memory=turn == 0)
                if turn == 0:
                    written = sum(p.stat().st_size for p in self.out(name).rglob("*") if p.is_file())
                    found[name] = Measured(name, sizes[name], usage, written=written)
                else:
                    found[name].runs.append(usage)
        return found

    def clear(self) -> None:
        """Take the outputs away."""
        for folder in self.folder.glob("out-*"):
            shutil.rmtree(folder)


def progress(text: str) -> None:
    """What is being done, on standard error."""
    print(f"  .. {text}", file=sys.stderr, flush=True)


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def synthetic(bench: Bench, size: int) -> None:
    """All systems on one log, and whether lrm and polars found the same."""
    results = bench.compare([*WORKERS, POLARS, WHOLE, NAIVE], size)
    found = check_outputs(bench)
    bench.clear()
    polars = next(result for result in results if result.system == POLARS)
    rows = []
    for result in results:
        record = result.record()
        bench.emit("synthetic", {**record, "rate_to_polars": result.rate / polars.rate})
        rows.append(
            [
                result.system,
                f"{result.events:,}",
                f"{result.seconds:.1f}",
                result.span,
                f"{record['cpu_seconds']:.1f}",
                f"{result.rate:,.0f}",
                f"{result.rate / polars.rate:.3g}",
                *(megabytes(record[f"peak{part}_bytes"]) for part in ("", "_anonymous", "_process")),
                f"{result.memory.peak / polars.memory.peak:.2g}",
                megabytes(result.written),
            ]
        )
    header = ["system", "events", "seconds", "from, to", "CPU seconds", "events/s", "to polars"]
    header += ["peak MB", "without file pages", "largest process", "peak to polars", "output MB"]
    print_table(
        f"Synthetic events: {events.FILES} Parquet files, a user for {events.EVENTS_A_USER} events, "
        f"{events.ITEMS:,} items, one user with {events.HEAVY_SHARE:.0%} of all events",
        header,
        rows,
    )
    print(
        "\nPeak: the sum of the PSS of all processes, sampled every 50 ms in a run of its own; what processes"
        "\nshare counts once, and pages of mapped files count too. Largest process: its highest RSS."
        f"\nThe naive pipeline is measured on {min(size, NAIVE_EVENTS):,} events. {found}"
    )
    bench.emit("synthetic", {"check": found})


def check_outputs(bench: Bench) -> str:
    """lrm must write the same bytes however many workers it has, and lrm and polars find the same."""
    first, *others = (json.loads((bench.out(name) / "manifest.json").read_text()) for name in WORKERS)
    if any(other != first for other in others):
        sys.exit("lrm prepare wrote different data sets with threads, 1 and 2 workers")
    found = check.check_equal(bench.out(LRM_1), bench.out(POLARS))
    return f"lrm with threads, 1 and 2 workers: equal bytes. lrm and polars, {found}."


def growth(bench: Bench, size: int) -> None:
    """Events a second and memory as the log grows."""
    rows = []
    for part in GROWTH:
        for result in bench.compare([LRM, LRM_2, POLARS, WHOLE], int(size * part)):
            bench.emit("growth", result.record())
            memory = [megabytes(size) for size in (result.memory.peak, result.memory.peak_anonymous)]
            speed = [f"{result.seconds:.1f}", f"{result.rate:,.0f}"]
            rows.append([f"{result.events:,}", result.system, *speed, *memory])
        bench.clear()
    header = ["events", "system", "seconds", "events/s", "peak MB", "without file pages"]
    print_table("Growth (what another section has measured is shown again, not measured again)", header, rows)


def csv(bench: Bench, size: int) -> None:
    """The same events as CSV, stage by stage."""
    rows = []
    base: dict[str, float] = {}
    for kind in ("parquet", "csv"):
        for result in bench.compare([LRM, LRM_1], size, kind):
            bench.emit("csv", {"kind": kind, **result.record()})
            ratio = result.seconds / base.setdefault(result.system, result.seconds)
            rows.append([kind, result.system, f"{result.seconds:.1f}", f"{ratio:.2f}"])
            told = result.stages
            rows[-1] += [f"{told[name]:.2f}" if name in told else "" for name in (*STAGES, "rest")]
        bench.clear()
    header = ["input", "system", "seconds", "to Parquet", *STAGES, "rest"]
    print_table(f"Parquet and CSV, {size:,} events, seconds by stage", header, rows)


def workers(bench: Bench, size: int) -> None:
    """Two workers against one: the whole, and each stage."""
    one, two = bench.compare([LRM_1, LRM_2], size)
    bench.clear()
    rows = [["whole process", f"{one.seconds:.2f}", f"{two.seconds:.2f}", f"{one.seconds / two.seconds:.2f}"]]
    stages = [name for name in one.stages if name in two.stages]
    parallel = [name for name in stages if name in PARALLEL_STAGES]
    parts = {"parallel stages": parallel, "other stages": [n for n in stages if n not in parallel]}
    for label, names in {**parts, **{name: [name] for name in stages}}.items():
        before, after = (sum(result.stages[name] for name in names) for result in (one, two))
        if names:
            rows.append([label, f"{before:.2f}", f"{after:.2f}", f"{before / after:.2f}" if after else ""])
    note = "" if stages else "; this version's --json does not tell the seconds of stages"
    print_table(
        f"Two workers against one, each pinned to one thread, {size:,} events{note}",
        ["part", "1 worker", "2 workers", "times faster"],
        rows,
    )
    for label, before_text, after_text, _ in rows:
        bench.emit("workers", {"part": label, "one": float(before_text), "two": float(after_text)})


def public(bench: Bench, data: Path | None) -> None:
    """Public data sets by their ready specs."""
    from behavior import datasets

    rows = []
    for name, folder in PUBLIC:
        if data is None or not (data / folder).is_dir():
            print(f"{name}: skipped, no folder {folder}/ under $LRM_DATA")
        elif name not in datasets.names():
            print(f"{name}: skipped, there is no ready spec of that name")
        else:
            rows.append(_public_row(bench, name, data / folder))
    listed = {name for name, _ in PUBLIC}
    if others := sorted(set(datasets.names()) - listed):
        print(f"skipped, ready specs whose data this benchmark does not look for: {', '.join(others)}")
    header = ["data set", "events", "users", "items", "seconds", "from, to", "peak MB"]
    if rows:
        print_table("Public data sets by their ready specs, whole process", header, rows)


def _public_row(bench: Bench, name: str, source: Path) -> list[str]:
    for path in source.iterdir():
        if path.is_file():
            path.read_bytes()
    out = bench.out(name)
    result = bench.take_turns({name: lrm(name, out, 0, "--input", str(source))}, {name: 0}, "public: ")[name]
    counts = json.loads(result.memory.output)["counts"]
    result.events = counts["events"]
    bench.clear()
    bench.emit("public", {**result.record(), "counts": counts})
    sizes = [f"{counts[key]:,}" for key in ("events", "users", "items")]
    return [name, *sizes, f"{result.seconds:.1f}", result.span, megabytes(result.memory.peak)]


def _sections(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section '{unknown[0]}'; there are: {', '.join(SECTIONS)}")
    return names


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), help=f"of: {','.join(SECTIONS)}")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each system")
    parser.add_argument("--folder", type=Path, help="keep the generated logs here; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file for the results, a JSON object a line")
    options = parser.parse_args()
    if options.runs < 1 or options.events < 1000:
        parser.error("--runs must be at least 1, --events at least 1000")
    data = Path(os.environ["LRM_DATA"]) if os.environ.get("LRM_DATA") else None
    facts = measure.machine()
    shown = facts | {"memory": f"{int(facts['memory']) / 2**30:.0f} GiB"}
    print("; ".join(f"{name} {value}" for name, value in shown.items()))
    todo: dict[str, Callable[[Bench], None]] = {
        "synthetic": partial(synthetic, size=options.events),
        "growth": partial(growth, size=options.events),
        "csv": partial(csv, size=options.events),
        "workers": partial(workers, size=options.events),
        "public": partial(public, data=data),
    }
    with tempfile.TemporaryDirectory(prefix="lrm-bench-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, options.runs, options.json)
        if options.json:
            options.json.unlink(missing_ok=True)
        bench.emit("machine", facts)
        for name in SECTIONS:
            if name in options.only:
                todo[name](bench)


if __name__ == "__main__":
    main()
