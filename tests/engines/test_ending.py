"""Jobs that end before their time, on Flink, which is told to try again what fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.shards.owned import JOB_FOLDER
from pipelines.prepare import prepare
from pipelines.runner import RunnerOptions
from tests.engines.flink import FlinkCluster
from tests.engines.installed import ROOT
from tests.engines.processes import wait_for
from tests.pipelines.conftest import make_spec, raw
from tests.pipelines.test_prepare import contents

__all__ = ["raw"]


def test_an_error_of_the_users_is_not_tried_again(flink: FlinkCluster, raw: Path, tmp_path: Path) -> None:
    runner = RunnerOptions("PortableRunner", beam=flink.options())
    with pytest.raises(UserError, match="2 of 1,502 rows were rejected"):
        prepare(make_spec(max_rejects=1), str(raw), tmp_path / "out", runner=runner)
    assert not (tmp_path / "out").exists()
    assert flink.states() == ["FINISHED"]
    assert flink.restarts() == 0


def test_a_starting_process_that_is_ended_cancels_the_job(
    flink: FlinkCluster, raw: Path, tmp_path: Path
) -> None:
    done = len(flink.states())
    spec, out = raw / "spec.yaml", tmp_path / "out"
    spec.write_text(make_spec().model_dump_json())  # JSON is YAML
    command = ["prepare", str(spec), "--out", str(out), "--runner", "PortableRunner", "--", *flink.options()]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        read = out / JOB_FOLDER / "reports"
        wait_for(lambda: read.exists() or process.poll() is not None, "a worker that reads")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, said
    assert "the job on the engine has ended" in said
    assert "Traceback" not in said
    assert flink.states() == ["FINISHED"] * (done + 1)
    assert not out.exists()
    prepare(make_spec(), str(raw), out, runner=RunnerOptions("PortableRunner", beam=flink.options()))
    prepare(make_spec(), str(raw), tmp_path / "local")
    assert contents(out) == contents(tmp_path / "local")
