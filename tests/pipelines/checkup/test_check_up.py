"""The tiny job, here (tests/engines has clusters); and what `lrm doctor --runner` makes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from behavior.shards.storage import Folder
from pipelines.checkup.facts import Place, reads, writes
from pipelines.checkup.run import check_up
from pipelines.runner import RunnerOptions
from tests.cli.conftest import Lrm, lrm

__all__ = ["lrm"]


def test_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    found = check_up(RunnerOptions(), [str(tmp_path / "in"), str(tmp_path / "none")], str(tmp_path / "out"))
    assert [worker.pid for worker in found.workers] == [os.getpid()]
    [wrong] = found.findings
    assert wrong.what.startswith(f"a worker cannot read '{tmp_path / 'none'}': No such file")
    assert not found.healthy
    assert not (tmp_path / "out").exists()


def test_what_lay_in_the_output_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert check_up(RunnerOptions(), out=str(tmp_path)).healthy
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    [wrong] = check_up(RunnerOptions(), out=str(tmp_path / "file")).findings
    assert wrong.what.startswith("this machine cannot write to")
    assert wrong.where == "--out"


def test_a_folder_that_is_not_the_one_that_this_machine_sees(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    assert "does not see what this machine writes" in writes(folder, "seen.txt", "token").problem
    folder.write_text("seen.txt", "other")
    assert "does not see what this machine writes" in writes(folder, "seen.txt", "token").problem
    folder.write_text("seen.txt", "token")
    assert writes(folder, "seen.txt", "token") == Place(str(folder), "write")


@pytest.mark.parametrize("path", ["{0}", "{0}/log.csv", "{0}/*.csv", "memory://in", "memory://in/log.csv"])
def test_what_can_be_read(path: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("a")
    Folder("memory://in").write_text("log.csv", "a")
    assert reads(path.format(tmp_path)).problem == ""


@pytest.mark.parametrize(
    "path", ["{0}/none", "{0}/none/*.csv", "memory://none", "memory://in/none.csv", "no://x"]
)
def test_what_cannot_be_read(path: str, tmp_path: Path) -> None:
    found = reads(path.format(tmp_path))
    assert found.problem
    assert found.fix


def test_the_command(lrm: Lrm, tmp_path: Path) -> None:
    found = lrm("doctor", "--runner", "local", "--out", tmp_path / "out", "--json")
    record = json.loads(found.out)
    assert (found.code, record["healthy"], record["findings"]) == (0, True, [])
    assert [worker["pid"] for worker in record["workers"]] == [os.getpid()]
    shown = lrm("doctor", "--runner", "local", "--input", tmp_path / "none")
    assert shown.code == 1
    assert "apache-beam" in shown.out
    assert "wrong: a worker cannot read" in shown.err
    assert "to do: a path must be the same" in shown.err


@pytest.mark.parametrize(
    "arguments",
    [("--out", "x"), ("--input", "x"), ("--workers", "2"), ("--worker-timeout", "3"), ("--", "--region=x")],
)
def test_flags_that_go_with_a_runner(lrm: Lrm, arguments: tuple[str, ...]) -> None:
    found = lrm("doctor", *arguments)
    assert found.code == 2
    assert "goes with --runner" in found.err
    assert lrm("doctor", "--runner", "local", "--worker-timeout", "-1").code == 2
