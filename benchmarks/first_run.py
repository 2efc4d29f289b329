"""The first run on a machine: how long the compiler is waited for, and what it compiles.

    LRM_DATA=... python benchmarks/first_run.py                          prepare and the first training steps
    LRM_DATA=... python benchmarks/first_run.py --only prepare --runs 3 --json first.json
    LRM_DATA=... python benchmarks/first_run.py --devices cpu,cuda

`lrm prepare` of MovieLens-1M, and `lrm train` of a fiftieth of it for an epoch, on the CPU and on a GPU if
asked for, each in a new process with empty caches of Numba and Triton (cold) and again with full ones (warm).
What Numba compiles is noted by its own events: functions with types of arguments, and CPU seconds of the
thread; what it compiles for its own use counts with the functions of ours that call it. CPU seconds hold on a
busy machine, too. The first training step is told by its end. What other processes compile is not noted.
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
from pathlib import Path
from statistics import median
from typing import Any

from prepare_peers import measure

NOTED = """
import atexit, json, os, sys, threading, time
from importlib.util import find_spec
from numba.core import event

stacks, found, first = {}, [], []

class Noting(event.Listener):
    def on_start(self, happened):
        stacks.setdefault(threading.get_ident(), []).append(time.thread_time())

    def on_end(self, happened):
        stack = stacks[threading.get_ident()]
        seconds = time.thread_time() - stack.pop()
        if not stack:
            function = happened.data["dispatcher"].py_func
            found.append([f"{function.__module__}.{function.__name__}", seconds])

event.register("numba:compile", Noting())

def note(*_):
    with open(os.environ["NOTED"], "w") as file:
        json.dump({"compiled": found, "first_step": first}, file)

atexit.register(note)
leave = os._exit
os._exit = lambda code: (note(), leave(code))
sys.argv = ["lrm", *sys.argv[1:]]

# Wraps the step of a training once its module is imported, not before.
class Watched:

    def find_spec(self, name, path=None, target=None):
        if name != "models.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        run = spec.loader.exec_module

        def watch(module):
            run(module)
            take = module.Training._step

            def step(*arguments):
                take(*arguments)
                if not first:
                    if sys.modules["torch"].cuda.is_available():
                        sys.modules["torch"].cuda.synchronize()
                    first.extend((time.time(), time.process_time()))

            module.Training._step = step

        spec.loader.exec_module = watch
        return spec


sys.meta_path.insert(0, Watched())
from cli.main import command
command()
"""


def run(arguments: list[str], cache: Path, device: str = "cpu") -> dict[str, Any]:
    """One command in a process of its own: seconds, CPU seconds, and what was compiled."""
    noted = cache / "noted.json"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "NOTED": str(noted)}
    environment |= {"TRITON_CACHE_DIR": str(cache / "triton")}
    if device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": ""}
    measure.adopt_orphans()
    begin, began = time.perf_counter(), time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", NOTED, *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    left = sum(measure.reap())  # of processes whose end it did not wait for
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"lrm {' '.join(arguments)} ended with {process.returncode}")
    told = json.loads(noted.read_text())
    compiled = told["compiled"]
    return {
        "seconds": seconds,
        "first_step_seconds": [at - began for at in told["first_step"][:1]],
        "first_step_cpu_seconds": told["first_step"][1:],
        "cpu_seconds": usage.ru_utime + usage.ru_stime + left,
        "compiled": len(compiled),
        "functions": len({name for name, _ in compiled}),
        "compile_seconds": sum(spent for _, spent in compiled),
        "slowest": sorted(compiled, key=lambda one: -one[1])[:8],
    }


def show(name: str, found: dict[str, Any]) -> None:
    """One run, with the functions that took longest."""
    took = f"{found['seconds']:.1f} s, CPU {found['cpu_seconds']:.1f} s"
    for at, spent in zip(found["first_step_seconds"], found["first_step_cpu_seconds"], strict=True):
        took += f", first step after {at:.1f} s and {spent:.1f} CPU seconds of this process"
    print(f"{name}: {took}; compiled {found['compiled']} in {found['compile_seconds']:.1f} s", flush=True)
    for function, spent in found["slowest"]:
        print(f"    {spent:5.2f} s {function}")


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--only", choices=["prepare", "train"])
    parser.add_argument("--devices", default="cpu", help="to train on: cpu, cuda, or both with a comma")
    parser.add_argument("--runs", type=int, default=1, help="of each, cold and warm in turn")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    data = Path(os.environ.get("LRM_DATA", "")) / "ml-1m"
    if not data.is_dir():
        parser.error("LRM_DATA names no folder with ml-1m/")
    print("; ".join(f"{name} {value}" for name, value in measure.machine().items()), flush=True)
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="lrm-bench-") as temporary:
        folder = Path(temporary)
        shards, trained = folder / "shards", folder / "run"
        prepare = ["prepare", "ml-1m", "--input", str(data), "--out", str(shards), "--overwrite"]
        train = ["train", "--data", str(shards), "--out", str(trained), "--epochs", "1"]
        train += ["--set", "data.fraction=0.02"]
        commands = {"prepare": (prepare, "cpu")}
        commands |= {f"train on {device}": (train, device) for device in options.devices.split(",")}
        if options.only == "train":
            (other := folder / "other").mkdir()
            run(prepare, other)
        for number in range(options.runs):
            for name in [name for name in commands if name.startswith(options.only or "")]:
                cache = folder / f"cache-{name.replace(' ', '-')}-{number}"
                cache.mkdir()
                for state in ("cold", "warm"):
                    shutil.rmtree(trained, ignore_errors=True)
                    if name == "prepare":
                        shutil.rmtree(shards, ignore_errors=True)
                    arguments, device = commands[name]
                    found = run(arguments, cache, device)
                    results.setdefault(f"{name}, {state}", []).append(found)
                    show(f"{name}, {state}", found)
                    if options.json:
                        options.json.write_text(json.dumps(results, indent=1))
    heads = ("", "seconds", "first step", "CPU seconds", "compiled", "CPU seconds to compile")
    print(f"\n| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for name, runs in results.items():
        keys = ("seconds", "cpu_seconds", "compiled", "compile_seconds")
        told = [median(one[key] for one in runs) for key in keys]
        steps = [at for one in runs for at in one["first_step_seconds"]]
        step = f"{median(steps):.1f}" if steps else ""
        print(f"| {name} | {told[0]:.1f} | {step} | {told[1]:.1f} | {told[2]:.0f} | {told[3]:.1f} |")


if __name__ == "__main__":
    main()
