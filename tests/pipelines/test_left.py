"""A job on an engine needs nobody: it makes the data set, and whoever comes finds out what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipelines.finish
from behavior.errors import UsageError, UserError
from behavior.shards.commit import mark
from behavior.shards.folder import open_shards
from behavior.shards.owned import JOB_FOLDER
from behavior.shards.storage import Folder
from pipelines.append import append, start_append
from pipelines.finish import finish
from pipelines.job import FAILURE, SUMMARY
from pipelines.left import EngineJob, refuse_at_work
from pipelines.prepare import prepare, start
from pipelines.runner import RunnerOptions
from tests.pipelines import servers
from tests.pipelines.conftest import make_rows, make_spec, write_rows
from tests.pipelines.test_prepare import contents


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Options of Beam for a job server that goes on, with workers of their own."""
    folder = tmp_path_factory.mktemp("servers")
    with servers.worker_pool(folder) as pool, servers.job_server(folder) as server:
        yield [
            f"--job_endpoint={server}",
            "--environment_type=EXTERNAL",
            f"--environment_config={pool}",
        ]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.finish, "_SECONDS_BETWEEN_LOOKS", 0.05)


def wait_for(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def test_a_job_that_is_left_makes_the_data_set(raw: Path, tmp_path: Path, options: list[str]) -> None:
    runner = RunnerOptions("PortableRunner", beam=options, detach=True)
    out = tmp_path / "left"
    left = start(make_spec(), str(raw), out, runner=runner)
    assert isinstance(left, EngineJob)
    assert left == EngineJob.noted(Folder(str(out / JOB_FOLDER)))
    wait_for(out / "manifest.json")
    prepare(make_spec(), str(raw), tmp_path / "local")
    expected = contents(tmp_path / "local")
    shards = open_shards(out)  # nobody has finished it: there is the data set, and what the job needed
    shards.verify()
    assert {entry.path for entry in shards.manifest.files} == set(expected) - {"manifest.json"}
    result = finish(out)
    assert not result.done_before
    assert contents(out) == expected
    assert not (out / JOB_FOLDER).exists()
    assert finish(out).done_before

    write_rows(raw / "later.csv", make_rows(users=60, events=300, seed=1))
    added = [str(raw / "later.csv")]
    assert isinstance(start_append(make_spec(), str(raw), out, added, runner=runner), EngineJob)
    assert finish(out).manifest.version == 2
    append(make_spec(), str(raw), tmp_path / "local", added)
    assert contents(out) == contents(tmp_path / "local")


def test_a_starting_process_that_is_killed(raw: Path, tmp_path: Path, options: list[str]) -> None:
    spec, out = raw / "spec.yaml", tmp_path / "out"
    spec.write_text(make_spec().model_dump_json())  # JSON is YAML
    command = [sys.executable, "-m", "cli.main", "prepare", str(spec), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--runner", "PortableRunner", "--", *options],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(out / JOB_FOLDER / "engine.json")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    ended = subprocess.run(
        [*command, "--finish"], env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    prepare(make_spec(), str(raw), tmp_path / "local")
    assert contents(out) == contents(tmp_path / "local")


def test_the_users_error_is_told_by_who_finishes(raw: Path, tmp_path: Path, options: list[str]) -> None:
    runner = RunnerOptions("PortableRunner", beam=options, detach=True)
    out = tmp_path / "out"
    start(make_spec(max_rejects=1), str(raw), out, runner=runner)
    with pytest.raises(UserError, match="2 of 1,502 rows were rejected"):
        finish(out)
    assert not (out / JOB_FOLDER).exists()


@pytest.fixture
def work(tmp_path: Path) -> Folder:
    """The folder of a job that was left, whose job server is gone."""
    work = Folder(str(tmp_path / "out" / JOB_FOLDER))
    mark(Folder(str(tmp_path / "out")), {"spec_digest": "one", "input_digest": "two"})
    EngineJob("job-7", f"localhost:{servers.free_port()}", detached=True).note(work)
    return work


def test_a_folder_that_a_job_may_still_write_to_is_refused(work: Folder, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for begin in (
        lambda: prepare(make_spec(), str(raw), out),
        lambda: append(make_spec(), str(raw), out, [str(raw / "part-1.csv")]),
    ):
        with pytest.raises(UserError, match="the job job-7, which was left on the engine") as error:
            begin()
        assert error.value.fix is not None
        assert "--finish" in error.value.fix
        assert work.names() == ["engine.json", "job.json"]
    prepare(make_spec(), str(raw), out, overwrite=True)
    assert not work.path.exists()


@pytest.mark.parametrize("there", [FAILURE, SUMMARY, "an end", "another starting process"])
def test_one_that_is_over_is_not_in_the_way(
    there: str, work: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there == "an end":
        monkeypatch.setattr(EngineJob, "ended", lambda _: "FAILED")
    elif there == "another starting process":
        EngineJob("job-7").note(work)
    else:
        work.write_text(there, "{}")
    refuse_at_work(Folder(str(tmp_path / "out")))


def test_a_job_that_ends_without_a_result(
    work: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineJob, "ended", lambda _: "CANCELLED")
    with pytest.raises(UserError, match="the job job-7 ended without a result: the engine says CANCELLED"):
        finish(tmp_path / "out")
    assert not work.path.exists()
    with pytest.raises(UserError, match="no job on an engine writes to"):
        finish(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "beam", "why"),
    [
        ("local", [], "a local run ends with the process"),
        ("PortableRunner", ["--job_endpoint=host:1", "--environment_type=LOOPBACK"], "this process is the"),
        ("PortableRunner", ["--job_endpoint=embed"], "the job server would end with the process"),
        ("FlinkRunner", [f"--flink_job_server_jar={__file__}"], "the job server would end with the process"),
    ],
)
def test_what_cannot_be_left(name: str, beam: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why) as error:
        RunnerOptions(name, beam=beam, detach=True).check()
    assert error.value.where == "--detach"
