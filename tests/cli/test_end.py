"""The end of the process: exit functions are run, Python and torch are not taken apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def run(arguments: Sequence[str], **options: Any) -> tuple[int, str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a full disk")
@pytest.mark.parametrize(
    "arguments", [["--version"], ["recipes"], ["recipes", "--json"], ["nothing", "--json"]]
)
def test_a_result_that_cannot_be_printed_is_told(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        code, said = run(arguments, stdout=full)
    if arguments == ["nothing", "--json"]:
        assert (code, "no such command" in said.lower()) == (2, True)
    else:
        assert (code, "where: standard output" in said) == (1, True)
        assert said.count("error: ") == 1
    assert "Traceback" not in said


def test_standard_output_may_be_closed_and_its_reader_may_go() -> None:
    assert run(["recipes"], preexec_fn=lambda: os.close(1)) == (0, "")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        assert run(["recipes"], stdout=pipe) == (1, "")
