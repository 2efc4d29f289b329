"""`lrm doctor --runner` on real clusters, healthy and with each of the traps that there are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from behavior.errors import UserError
from pipelines.checkup.run import CheckUp, check_up
from pipelines.engines import room
from pipelines.job_servers import end_started
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.engines.conftest import ENGINES, Cluster, running
from tests.engines.flink import FlinkCluster
from tests.engines.installed import BOOT, ROOT, worker_variables
from tests.engines.kills import night
from tests.engines.processes import answers, free_ports, wait_for
from tests.engines.spark import SparkCluster
from tests.pipelines.conftest import make_spec, raw

__all__ = ["raw"]

LIMIT = 45.0


def on(cluster: Cluster, *workers: str, limit: float | None = None) -> RunnerOptions:
    """A cluster, with other workers than its own where some are given."""
    options = cluster.options()
    if workers:
        options = [*(option for option in options if not option.startswith("--environment_")), *workers]
    if isinstance(cluster, FlinkCluster):
        options.append(f"--flink_master=localhost:{cluster.rest}")
    return RunnerOptions("PortableRunner", beam=options, worker_timeout=limit)


def wrong(found: CheckUp) -> tuple[str, str]:
    """The one thing that is wrong, and its remedy."""
    [finding] = [finding for finding in found.findings if finding.wrong]
    return finding.what, finding.fix


def ended(flink: FlinkCluster) -> bool:
    return not {"RUNNING", "RESTARTING", "CREATED"} & set(flink.states())


@pytest.fixture
def pool(flink: FlinkCluster, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Options for a worker pool for both task managers, and where its `python` is looked for."""
    [port] = free_ports(1)
    folder = tmp_path / "bin"
    folder.mkdir()
    main = "apache_beam.runners.worker.worker_pool_main"
    env = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    flink.processes.start("pool", [sys.executable, "-m", main, f"--service_port={port}"], env)
    wait_for(lambda: answers(port), "the worker pool")
    yield "--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"
    flink.processes.kill("pool")


def program(path: Path, line: str) -> Path:
    """One line of the shell, to be started by its name."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def process(command: Path | str, **env: str) -> tuple[str, str]:
    shown = ", ".join(f'"{name}": "{value}"' for name, value in env.items())
    config = f'{{"command": "{command}", "env": {{{shown}}}}}'
    return "--environment_type=PROCESS", f"--environment_config={config}"


def test_nothing_is_wrong(engine: Cluster, raw: Path, tmp_path: Path) -> None:
    found = check_up(on(engine), [str(raw), str(raw / "*.csv")], str(tmp_path / "out"))
    assert found.findings == []
    assert found.healthy
    assert {worker.code for worker in found.workers} == {found.here.code}
    assert len(found.workers) == (1 if engine.options()[-1].endswith("LOOPBACK") else 2)
    assert [place.problem for worker in found.workers for place in worker.places] == [""] * 3 * len(
        found.workers
    )
    assert not (tmp_path / "out").exists()
    if isinstance(engine, FlinkCluster):
        assert found.page.startswith(f"http://localhost:{engine.rest}/#/job/running/")


def of_another_version(folder: Path) -> tuple[str, str]:
    """Workers that find another version of this package installed."""
    old = folder / "old" / "lrm_kit-0.0.9.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: lrm-kit\nVersion: 0.0.9\n")
    return process(BOOT, **{**worker_variables(), "PYTHONPATH": f"{old.parent}:{ROOT}"})


def test_what_workers_do_not_see(flink: FlinkCluster, tmp_path: Path) -> None:
    """A store whose package is missing, a file that is not there, another version of this package."""
    workers = of_another_version(tmp_path)
    found = check_up(on(flink, *workers), ["/nowhere/log.csv", "nope://bucket/log.csv"])
    said = {finding.what: finding.fix for finding in found.findings if finding.wrong}
    assert any("workers have lrm-kit 0.0.9" in what for what in said)
    assert any("cannot read '/nowhere/log.csv': No such file" in what for what in said)
    assert any("the file system 'nope://' cannot be used" in what for what in said)
    assert len(said) == 3


@night
def test_workers_of_another_version(flink: FlinkCluster, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"workers have lrm-kit 0\.0\.9"):
        prepare(make_spec(), str(raw), tmp_path / "out", runner=on(flink, *of_another_version(tmp_path)))


@night
def test_a_boot_program_that_dies(flink: FlinkCluster, raw: Path, tmp_path: Path) -> None:
    """Flink would try it ten times, ten seconds apart."""
    boot = program(tmp_path / "boot", "exit 1")
    runner = on(flink, *process(boot, PATH="/usr/bin:/bin"), limit=600)
    began = time.monotonic()
    what, fix = wrong(check_up(runner))
    assert what == "no worker starts: the program that starts workers ended by itself, with exit code 1"
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT" in fix
    with pytest.raises(UserError, match="with exit code 1") as error:
        prepare(make_spec(), str(raw), tmp_path / "out", runner=runner)
    assert f"http://localhost:{flink.rest}/#/job/running/" in (error.value.where or "")
    assert time.monotonic() - began < 200
    wait_for(lambda: ended(flink), "the end of the jobs")
    assert not (tmp_path / "out").exists()


@night
def test_a_pool_whose_python_has_no_beam(
    flink: FlinkCluster, pool: tuple[str, str], raw: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin" / "python", f'exec {os.path.realpath(sys.executable)} -I -S "$@"')
    what, fix = wrong(check_up(on(flink, *pool, limit=LIMIT)))
    assert what.startswith(
        f"no worker answered within {LIMIT:g} s, and Flink says RUNNING: the worker pool at"
    )
    assert "has no Beam" in what
    assert "PATH" in fix
    with pytest.raises(UserError, match="has no Beam"):
        prepare(make_spec(), str(raw), tmp_path / "out", runner=on(flink, *pool, limit=LIMIT))
    wait_for(lambda: ended(flink), "the end of the jobs")
    assert not (tmp_path / "out").exists()


@night
def test_two_task_managers_with_one_pool(
    pool: tuple[str, str], raw: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Both have started no worker before, and count them from one."""
    program(tmp_path / "bin" / "python", f'exec {sys.executable} "$@"')
    with running(ENGINES["flink"], tmp_path / "cluster", request) as cluster:
        what, fix = wrong(check_up(on(cluster, *pool)))
        assert what.startswith("several task managers share one worker pool")
        assert "a pool for each task manager" in fix
        with pytest.raises(UserError, match="share one worker pool"):
            prepare(make_spec(), str(raw), tmp_path / "out", runner=on(cluster, *pool))
    assert not (tmp_path / "out").exists()


@night
def test_too_few_network_buffers(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    memory = {f"taskmanager.memory.network.{name}": "16m" for name in ("min", "max")}
    settings = {**memory, "taskmanager.network.sort-shuffle.min-buffers": "512"}

    def few(folder: Path) -> FlinkCluster:
        return FlinkCluster(folder, task_managers=1, settings=settings, parallelism=2)

    with running(few, tmp_path, request) as cluster:
        what, fix = wrong(check_up(on(cluster)))
    assert what.startswith(
        "no worker starts: IOException: Insufficient number of network buffers: required 512,"
    )
    assert "'taskmanager.memory.network.max'" in what  # Flink's own advice, whole
    assert "taskmanager.network.sort-shuffle.min-buffers: 16" in fix


def test_more_slots_than_there_are(
    flink: FlinkCluster, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SECONDS_TO_REGISTER", 0.0)
    known, runner = flink.states(), on(flink)
    runner = replace(runner, beam=[*runner.beam, "--parallelism=50"])
    what, fix = wrong(check_up(runner))
    assert what == "the job asks for 50 slots, and Flink's cluster has 4 (task managers: 2)"
    assert "--parallelism=4 at most" in fix
    with pytest.raises(UserError, match="asks for 50 slots"):
        prepare(make_spec(), str(raw), tmp_path / "out", runner=runner)
    assert flink.states() == known
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["spark"], indirect=True, scope="session")
def test_executors_that_no_worker_of_spark_has_the_memory_for(
    engine: SparkCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SECONDS_TO_REGISTER", 1.0)
    monkeypatch.setattr(room, "_MASTER_PORT", engine.page)
    wants = "--job_server_jvm_properties=-Dspark.executor.memory=700m"
    runner = RunnerOptions("SparkRunner", beam=[*engine.by_path(tmp_path), wants])
    began = time.monotonic()
    try:
        what, fix = wrong(check_up(runner))
    finally:
        end_started()
    assert what == "an executor asks for 700 MB of memory, and no worker of Spark has more than 512 MB"
    assert "-Dspark.executor.memory=512m" in fix
    assert time.monotonic() - began < 100


def test_workers_in_the_starting_process_leave_nothing_on_the_terminal(flink: FlinkCluster) -> None:
    """Flink hangs up on them in the end, which they take for an error."""
    options = on(flink, "--environment_type=LOOPBACK").beam
    command = [sys.executable, "-m", "cli.main", "doctor", "--runner", "PortableRunner", "--", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert done.returncode == 0
    assert "nothing is wrong" in done.stdout
