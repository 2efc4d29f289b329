"""Workers that are killed: the job says so, and no data set is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from pipelines.append import append
from pipelines.prepare import prepare
from tests.pipelines.broken import logs, save, source_of
from tests.pipelines.content import content
from tests.pipelines.shapes import spec_of

__all__ = ["logs"]

DYING = """
import importlib, os, signal, sys

if "behavior.runtime.forks" in sys.orig_argv:
    module, part = os.environ["DIE_IN"].split(":")
    work = getattr(importlib.import_module(module), part)

    def dying(*arguments):
        try:
            os.close(os.open(os.environ["DIED"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return work(*arguments)  # another worker died
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(importlib.import_module(module), part, dying)
"""


def with_a_killed_worker(part: str, tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`lrm prepare` in two processes, of which the first to come to a part of the work is killed there."""
    (tmp_path / "sitecustomize.py").write_text(DYING)  # Python runs it in every process
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}",
        "DIE_IN": part,
        "DIED": str(tmp_path / "died"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "cli.main", "prepare", *map(str, arguments), "--workers", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "died").exists()
    return done


def check_message(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("error: the job failed: a worker process died")
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("part", ["pipelines.work:read_whole_group", "pipelines.work:write"])
def test_a_worker_killed_in_a_new_job(part: str, logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_message(with_a_killed_worker(part, tmp_path, logs / "spec.yaml", "--out", out))
    with pytest.raises(UserError, match="is not a data set"):
        open_shards(out)
    prepare(spec_of(), str(logs), out)
    prepare(spec_of(), str(logs), tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "fresh").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_worker_killed_where_a_data_set_is(mode: str, logs: Path, tmp_path: Path) -> None:
    """The old data set can be read until the job, run again, is done."""
    out, spec = tmp_path / "out", spec_of()
    prepare(spec, str(logs), out)
    before = content(out)
    if mode == "append":
        flags: tuple[object, ...] = ("--append", logs / "new.csv")
    else:
        spec = spec_of(events=source_of("new.csv"))
        flags = ("--overwrite",)
    command = (save(spec, logs / "spec.yaml"), "--out", out, *flags)
    check_message(with_a_killed_worker("pipelines.work:write", tmp_path, *command))
    assert content(out) == before
    if mode == "append":
        append(spec, str(logs), out, [str(logs / "new.csv")])
        spec = spec_of(events={**source_of("log.csv"), "files": ["log.csv", "new.csv"]})
    else:
        prepare(spec, str(logs), out, overwrite=True)
    prepare(spec, str(logs), tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    on_disk = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert on_disk == {entry.path for entry in open_shards(out).manifest.files} | {"manifest.json"}
