"""Where a run of `lrm prepare` is when it does not work on events: its process, from exec to exit.

    python benchmarks/prepare_timeline.py                     4 million events, all free cores
    python benchmarks/prepare_timeline.py --events 100000000 --cores 16 --runs 3 --json timeline.json
    python benchmarks/prepare_timeline.py --imports           what its imports take, module by module

A thread looks every few milliseconds at where the threads of the process are. Time is told by the innermost
function of ours that is being called, and beside it the work of the stages by their own clock. The first run
is not counted: it has Numba compile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from prepare_cores import make_log
from prepare_peers import measure

OBSERVED = """
import json, os, sys, threading, time

began, seen, names = time.time(), [], {}
idle = {"wait", "_wait_for_tstate_lock", "get", "select", "accept", "_recv", "poll", "_worker", "result"}

def name_of(frame):
    code = frame.f_code
    path = code.co_filename
    for root in roots:
        if path.startswith(root):
            path = path[len(root):]
            break
    return f"{path}:{code.co_name}:{frame.f_lineno}"

def stack_of(frame):
    found = []
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith("<frozen importlib") and "site-packages/typer" not in path:
            found.append(name_of(frame))
        frame = frame.f_back
    return found[::-1]

def look():
    own = threading.get_ident()
    while True:
        now = time.time()
        known = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident == own or (ident != main and frame.f_code.co_name in idle):
                continue
            stack = ";".join(stack_of(frame))
            seen.append((round(now - began, 4), known.get(ident, "?"), names.setdefault(stack, len(names))))
        time.sleep(0.004)

roots = sorted((os.path.abspath(one) + os.sep for one in sys.path), key=len, reverse=True)
main = threading.main_thread().ident
threading.Thread(target=look, daemon=True, name="observer").start()
leave = os._exit

def note(code):
    ended = time.time()
    with open(os.environ["SEEN"], "w") as file:
        json.dump({"began": began, "ended": ended, "seen": list(seen), "stacks": list(names)}, file)
    leave(code)

pid = os.getpid()
os._exit = lambda code: note(code) if os.getpid() == pid else leave(code)
sys.argv = ["lrm", *sys.argv[1:]]
from cli.main import command
command()
"""


def observe(arguments: list[str], seen: Path, cores: list[int], threads: dict[str, str]) -> dict[str, Any]:
    """One run: when its process was started, came to its first line and ended, where it was, what it told."""
    begin = time.time()
    process = subprocess.run(
        [sys.executable, "-c", OBSERVED, *arguments],
        env=os.environ | threads | {"SEEN": str(seen)},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        check=True,
    )
    end = time.time()
    found: dict[str, Any] = json.loads(seen.read_text())
    return found | {"start": begin, "end": end, "told": json.loads(process.stdout)}


def plain(arguments: list[str], cores: list[int], threads: dict[str, str]) -> float:
    """Seconds of a run that nobody watches."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=os.environ | threads,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        check=True,
    )
    return time.perf_counter() - begin


def show(found: dict[str, Any], most: int) -> None:
    """Seconds to the first line and after the last, the stages, and the places that took most."""
    seconds = found["told"]["seconds"]
    whole = found["end"] - found["start"]
    print(f"{whole:.2f} s; to the first line {found['began'] - found['start']:.2f}", end="")
    print(f", stages {sum(seconds.values()):.2f}, rest {whole - sum(seconds.values()):.2f}")
    print("    " + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    main = [(at, which) for at, name, which in found["seen"] if name == "MainThread"]
    spent: Counter[str] = Counter()
    for (at, which), (after, _) in zip(main, [*main[1:], (found["ended"] - found["began"], 0)], strict=True):
        spent[_place(found["stacks"][which])] += after - at
    for place, took in spent.most_common(most):
        print(f"    {took:6.2f} s {place}")
    sys.stdout.flush()


def _place(stack: str) -> str:
    """The two innermost lines of ours, and what is called there."""
    frames = stack.split(";")
    own = [n for n, frame in enumerate(frames) if frame.startswith(("cli/", "pipelines/", "behavior/"))]
    if not own:
        return frames[-1]
    called = frames[own[-1] + 1] if own[-1] + 1 < len(frames) else ""
    return " > ".join([*(frames[n] for n in own[-2:]), called])


def imports(arguments: list[str], cores: list[int], threads: dict[str, str]) -> str:
    """What `python -X importtime` says of a run."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cli.main", *arguments],
        env=os.environ | threads,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        check=True,
    )
    return process.stderr


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--most", type=int, default=25, help="places to tell")
    parser.add_argument("--imports", action="store_true", help="tell what imports take")
    parser.add_argument("--folder", type=Path, help="keep the log here; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file for all that was seen")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    threads = {"LRM_THREADS": str(len(cores))}
    print("; ".join(f"{name} {value}" for name, value in measure.machine().items()), flush=True)
    record: dict[str, Any] = {"machine": measure.machine(), "plain": [], "seen": [], "imports": ""}
    with tempfile.TemporaryDirectory(prefix="lrm-bench-") as temporary:
        folder = options.folder or Path(temporary)
        spec = make_log(folder / f"events-{options.events}", options.events)
        out = Path(temporary) / "out"
        arguments = ["prepare", str(spec), "--out", str(out), "--json"]
        for number in range(options.runs + 1):
            shutil.rmtree(out, ignore_errors=True)
            seconds = plain(arguments, cores, threads)
            print(f"{'first run' if number == 0 else 'plain'}: {seconds:.2f} s", flush=True)
            record["plain"].append(seconds)
            if number:
                shutil.rmtree(out, ignore_errors=True)
                record["seen"].append(observe(arguments, Path(temporary) / "seen.json", cores, threads))
                show(record["seen"][-1], options.most)
            if options.json:
                options.json.write_text(json.dumps(record))
        if options.imports:
            shutil.rmtree(out, ignore_errors=True)
            record["imports"] = imports(arguments, cores, threads)
            lines = [line.removeprefix("import time:").split("|") for line in record["imports"].splitlines()]
            known = [
                (int(line[1]), line[2]) for line in lines if len(line) == 3 and line[1].strip().isdigit()
            ]
            for took, name in sorted(known, reverse=True)[: options.most]:
                print(f"    {took / 1e6:6.2f} s {name.strip()}")
        if options.json:
            options.json.write_text(json.dumps(record))


if __name__ == "__main__":
    main()
