"""The end of the process: exit functions are run, Python and torch are not taken apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import atexit, sys, threading, time
import cli.main

class Held:
    def __del__(self):
        print("taken apart")

held = Held()

def late():
    time.sleep(0.2)
    print("thread")

def main():
    if {thread}:
        threading.Thread(target=late).start()
    print("last line")
    sys.exit({code})

atexit.register(print, "exit function")
cli.main.main = main
cli.main.command()
"""


def lines(code: int, thread: bool = False) -> list[str]:
    program = _PROGRAM.format(code=code, thread=thread)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_functions_are_run_and_nothing_is_taken_apart(code: int) -> None:
    assert lines(code) == ["last line", "exit function"]


def test_interrupted_it_waits_for_nothing() -> None:
    assert lines(130) == ["last line"]


def test_threads_at_work_are_waited_for() -> None:
    assert lines(1, thread=True)[:3] == ["last line", "thread", "exit function"]
