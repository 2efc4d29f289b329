"""Functions that another process compiles: this one waits for them, and finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FUNCTIONS = """
import time
from behavior.runtime.compiled import compiled

@compiled
def total(numbers):
    found = 0
    for number in numbers:
        found += number * number
    return found

def compile_slowly():
    time.sleep(1.0)
    import numba
    total.compile((numba.int64[::1],))

def compile_and_stay():
    compile_slowly()
    time.sleep(600)

def fail():
    raise RuntimeError
"""
CALLS = """
import json, sys
import numpy as np
import functions
from behavior.runtime import ahead
from behavior.runtime.ahead import compile_elsewhere

begun = compile_elsewhere(f"functions:{sys.argv[1]}", [functions.total])
twice = compile_elsewhere(f"functions:{sys.argv[1]}", [functions.total])
total = int(functions.total(np.arange(5)))
hits = sum(functions.total.stats.cache_hits.values())
print(json.dumps([begun, twice, total, hits, len(ahead._at_it)]))
"""


@pytest.mark.parametrize(
    ("call", "hits"), [("compile_slowly", 1), ("compile_and_stay", 1), ("fail", 0), ("none", 0)]
)
def test_it_is_waited_for(call: str, hits: int, tmp_path: Path) -> None:
    """Where the other one fails, the function is compiled here; the next process finds it on disk."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for expected in ([True, False, 30, hits, hits], [False, False, 30, 1, 0]):
        command = [sys.executable, "-c", CALLS, call]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("interpreter", ["", str(Path("/nowhere/python"))])
def test_without_another_process_it_is_compiled_here(interpreter: str, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    calls = f"import sys; sys.executable = {interpreter!r}\n{CALLS}"
    command = [sys.executable, "-c", calls, "none"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, False, 30, 0, 0]


def test_it_ends_with_who_began_it(tmp_path: Path) -> None:
    """However that ends: here without exit functions, as after Ctrl-C."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    calls = (
        "import os, functions; from behavior.runtime import ahead; "
        "ahead.compile_elsewhere('functions:compile_and_stay', [functions.total]); "
        "print(*{one.pid for one in ahead._at_it.values()}, flush=True); os._exit(0)"
    )
    command = [sys.executable, "-c", calls]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ended = time.monotonic() + 20.0
    while _runs(int(done.stdout)) and time.monotonic() < ended:
        time.sleep(0.05)
    assert not _runs(int(done.stdout))


def _runs(pid: int) -> bool:
    """Zombies of others do not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
